"""Golden files decode bit for bit on every backend, bad ones are refused with their error and rule, encoded sizes are as committed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from battery import BACKENDS, FIXTURES, cases
from safetensors import deserialize

import wcodec
from wcodec.api.files import STORAGE
from wcodec.api.opened import Opened

LARGEST, TOTAL = 100_000, 2_000_000
"""Bytes. A codec takes about 50 KB: examples and special cases, each kept also as it was before, and a few hundred bytes per bad case."""


def target_of(case: Path) -> Path:
    """The file of a case, or the index of its folder."""
    index = case / "case.wcodec.index.json"
    return index if index.exists() else case / "case.wcodec"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", cases("v1"))
def test_golden(case, backend, tmp_path):
    expect = (case / "expect.safetensors").read_bytes()
    report = wcodec.decode(case / "case.wcodec", tmp_path / "out", threads=1, kernels=backend)
    assert (tmp_path / "out").read_bytes() == expect
    wanted = dict(deserialize(expect))
    with Opened(case / "case.wcodec", STORAGE, threads=2, kernels=backend, backend="mmap") as opened:
        assert sorted(wanted) == opened.keys()
        assert report.same_file or any(opened.record(name).tolerant for name in wanted)
        for name, flat in opened.get_tensors().items():
            record = opened.record(name)
            assert flat.tobytes() == bytes(wanted[name]["data"]) and list(record.spec.shape) == wanted[name]["shape"]
            assert record.spec.dtype.name == wanted[name]["dtype"] and (record.lossless or record.tolerant)
            half = flat.size // 3
            window = np.empty_like(flat[half:])
            opened.decode_window(name, half, flat.size, window)
            assert window.tobytes() == flat[half:].tobytes()
    assert wcodec.verify(case / "case.wcodec", deep=True, threads=1, kernels=backend).tensors == len(wanted)
    assert wcodec.diff(case / "case.wcodec", case / "expect.safetensors", threads=1, kernels=backend).same


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", cases("bad"))
def test_bad(case, backend):
    stated = json.loads((case / "case.json").read_text())
    assert case.name.split("_")[0] == stated["rule"]
    with pytest.raises(wcodec.WcodecError) as caught:
        wcodec.verify(target_of(case), deep=True, threads=1, kernels=backend)
    assert (type(caught.value).__name__, caught.value.rule) == (stated["error"], stated["rule"]), caught.value
    assert str(caught.value).endswith(f"[{stated['rule']}]") and "case" in caught.value.at


@pytest.mark.parametrize("case", cases("bad"))
def test_other_tensors_of_a_bad_file_load(case):
    """Damage of one record or stream refuses that tensor; the others load as ever (C-24)."""
    if not (case.name.startswith("C-24") or case.name == "C-13_stream"):
        return
    with wcodec.safe_open(case / "case.wcodec", "np", threads=1) as opened:
        assert opened.get_tensor("y").size == 300
        with pytest.raises(wcodec.FormatError):
            opened.get_tensor("small" if case.name.startswith("C-24") else "x")


def test_sizes(tmp_path):
    """A changed ratio is a changed line of fixtures/sizes.csv: run tools/make_fixtures.py and look at the diff."""
    rows = list(csv.DictReader((FIXTURES / "sizes.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == sorted(path.name for path in (FIXTURES / "v1").iterdir())
    found = []
    for row in rows:
        report = wcodec.encode(FIXTURES / "v1" / row["case"] / "expect.safetensors", tmp_path / "x.wcodec", threads=1, force=True)
        sizes = (report.source_size, sum(its.size for its in report.tensors), report.size)
        found.append({"case": row["case"], **dict(zip(("source", "streams", "file"), map(str, sizes), strict=True))})
    assert found == rows


def test_fixtures_are_small():
    sizes = [path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()]
    assert max(sizes) <= LARGEST and sum(sizes) < TOTAL
