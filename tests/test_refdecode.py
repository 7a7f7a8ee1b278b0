"""The second decoder, written from the pages alone, agrees with the package on every fixture."""

from __future__ import annotations

import json

import numpy as np
import pytest
from battery import cases  # puts tools/ on the path
from refdecode import BITS, Refused, check_shards, decode_all, decode_file, open_file, source_bytes
from refdecode.floats import widen
from safetensors import deserialize


def decode(case, side=0):
    container = open_file(case / "case.wcodec", side)
    return decode_all(container), container


def assert_between(dtype, least, found, greatest):
    """Of a tolerant tensor, every stored value lies where the page's bound allows."""
    least, found, greatest = (widen(dtype, np.frombuffer(data, f"<u{BITS[dtype] // 8}")) for data in (least, found, greatest))
    assert np.all(np.minimum(least, greatest) <= found) and np.all(found <= np.maximum(least, greatest))


@pytest.mark.parametrize("case", cases("v1"))
def test_golden(case):
    expect = (case / "expect.safetensors").read_bytes()
    found, container = decode(case)
    tolerant = {name for name, record in container.targets().items() if record.tolerant}
    wanted = {name: (its["dtype"], tuple(its["shape"]), bytes(its["data"])) for name, its in deserialize(expect)}
    assert found.keys() == wanted.keys()
    assert {name: its for name, its in found.items() if name not in tolerant} == {n: its for n, its in wanted.items() if n not in tolerant}
    if not tolerant:
        assert source_bytes(case / "case.wcodec") == expect
        return
    least, greatest = decode(case, -1)[0], decode(case, 1)[0]
    for name in tolerant:
        assert found[name][:2] == wanted[name][:2]
        assert_between(wanted[name][0], least[name][2], wanted[name][2], greatest[name][2])


@pytest.mark.parametrize("case", cases("bad"))
def test_bad(case):
    index = case / "case.wcodec.index.json"
    with pytest.raises(Refused) as caught:
        check_shards(index) if index.exists() else decode_file(case / "case.wcodec")
    assert caught.value.rule == json.loads((case / "case.json").read_text())["rule"], caught.value
