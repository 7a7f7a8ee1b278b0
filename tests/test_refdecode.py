"""The second decoder, written from the pages alone, agrees with the package on every fixture, and within the bounds of tolerant codecs."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import blake3
import numpy as np
import pytest
from battery import BACKENDS, ROOT, cases, decoded, make_env  # puts tools/ on the path
from refdecode import BITS, Container, Refused, check_shards, decode_all, decode_file, open_file, source_bytes
from refdecode.floats import widen
from safetensors import deserialize

from wcodec.codecs import CODECS
from wcodec.codecs import decode_all as package_decodes
from wcodec.container.writer import ContainerWriter
from wcodec.types import Spec


def allowed(dtype, containers, index=0):
    """The least and the greatest value of every element that the pages allow."""
    least, greatest = (widen(dtype, np.frombuffer(its.tensor(index), f"<u{BITS[dtype] // 8}")) for its in containers)
    return np.minimum(least, greatest), np.maximum(least, greatest)


def within(dtype, bounds, data):
    values = widen(dtype, np.frombuffer(data, f"<u{BITS[dtype] // 8}"))
    return (bounds[0] <= values) & (values <= bounds[1])


@pytest.mark.parametrize("case", cases("v1"))
def test_golden(case):
    path, expect = case / "case.wcodec", (case / "expect.safetensors").read_bytes()
    container = open_file(path)
    found = decode_all(container)
    wanted = {name: (its["dtype"], tuple(its["shape"]), bytes(its["data"])) for name, its in deserialize(expect)}
    assert found.keys() == wanted.keys()
    for index, (name, record) in enumerate(container.targets().items()):
        if record.tolerant:
            bounds = allowed(record.dtype, (open_file(path, -1), open_file(path, 1)), index)
            assert found[name][:2] == wanted[name][:2] and within(record.dtype, bounds, wanted[name][2]).all()
        else:
            assert found[name] == wanted[name]
    if not any(record.tolerant for record in container.targets().values()):
        assert source_bytes(path) == expect


@pytest.mark.parametrize("case", cases("bad"))
def test_bad(case):
    index = case / "case.wcodec.index.json"
    with pytest.raises(Refused) as caught:
        check_shards(index) if index.exists() else decode_file(case / "case.wcodec")
    assert caught.value.rule == json.loads((case / "case.json").read_text())["rule"], caught.value


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
@pytest.mark.parametrize(("codec", "options"), [("lowrank", {"rank": 40}), ("tensortrain", {"sites": 3})])
def test_real_factors_decode_within_their_bound(codec, options, dtype):
    spec, env = Spec.of(dtype, 60, 70), make_env()
    x = np.random.default_rng(5).standard_normal(spec.count).astype(np.float32).view(np.uint32)
    wide = Spec.of("F32", *spec.shape)
    section = CODECS[codec].encode(x, wide, env, **options)
    parts = CODECS[codec].parts(section, spec)
    held = b"".join(package_decodes(section.parts[key], parts[key], env).tobytes() for key in sorted(section.parts))
    buffer = io.BytesIO()
    with ContainerWriter(buffer) as writer:
        writer.add("x", spec, section, blake3.blake3(held).digest(), tolerant=True)
    bounds = allowed(dtype, [Container(buffer.getvalue(), side) for side in (-1, 1)])
    for backend in BACKENDS:
        found = decoded(section, spec, make_env(backend))
        assert within(dtype, bounds, found.tobytes()).all()
        three_percent = found.dtype.type(1 << spec.dtype.mantissa - 5)
        assert within(dtype, bounds, (found + three_percent).tobytes()).mean() < 0.01  # but for elements near 0


def test_command(tmp_path):
    """The decoder runs from its folder, without the package."""
    case, out = ROOT / "fixtures/v1/weights", tmp_path / "out.safetensors"
    code = "import runpy, sys; sys.modules['wcodec'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    command = [sys.executable, "-c", code, str(ROOT / "tools/refdecode"), str(case / "case.wcodec"), str(out)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1].startswith("content digest ")
    assert out.read_bytes() == (case / "expect.safetensors").read_bytes()
    command[-2:] = [str(ROOT / "fixtures/bad/C-30_digest/case.wcodec")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1 and ran.stdout.startswith("C-30: ")
