"""The second decoder, written from the pages alone, agrees with the package on every fixture."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
from battery import ROOT, cases
from safetensors import deserialize


def load():
    path = ROOT / "tools" / "refdecode.py"
    spec = importlib.util.spec_from_file_location("refdecode", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["refdecode"] = module
    spec.loader.exec_module(module)
    return module


refdecode = load()

ALSO = {"C-30": "DIGEST"}
"""Other names of rules; a param that is missing or of another type may be C-20 as well as its page's rule."""


@pytest.mark.parametrize("case", cases("v1"))
def test_golden(case):
    expect = (case / "expect.safetensors").read_bytes()
    found = refdecode.decode_file(case / "case.wcodec")
    wanted = dict(deserialize(expect))
    assert found.keys() == wanted.keys()
    for name, (dtype, shape, data) in found.items():
        assert (dtype, list(shape), data) == (wanted[name]["dtype"], wanted[name]["shape"], bytes(wanted[name]["data"])), name
    assert refdecode.source_bytes(case / "case.wcodec") == expect


@pytest.mark.parametrize("case", cases("bad"))
def test_bad(case):
    rule = json.loads((case / "case.json").read_text())["rule"]
    index = case / "case.wcodec.index.json"
    with pytest.raises(refdecode.Refused) as caught:
        refdecode.check_shards(index) if index.exists() else refdecode.decode_file(case / "case.wcodec")
    params = rule in ("BITPACK-1", "CODEBOOK-1", "CONCAT-1", "CONST-1", "PLANES-1", "RANS-1")
    assert caught.value.rule in (rule, ALSO.get(rule), "C-20" if params else rule), caught.value
