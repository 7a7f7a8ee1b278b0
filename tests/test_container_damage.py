"""Random damage: nothing but errors of ours."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from containers import (
    check_all,
    fill_all_kinds,
    restamp,
    with_manifest,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from wcodec.container import msgpack
from wcodec.container.layout import Trailer
from wcodec.errors import Corrupt, WcodecError

keys = st.text(st.characters(codec="utf-8"), max_size=6)


@settings(max_examples=300)
@given(st.data())
def test_damage_below_a_fitting_checksum(data):
    """Whatever a manifest says, only errors of ours come out, and nothing hangs."""
    whole = DAMAGED
    trailer = Trailer.unpack(whole[-40:], len(whole))
    stored = bytearray(whole[trailer.offset : -40])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(stored) - 1))
        what = data.draw(st.sampled_from(["change", "cut", "insert"]))
        if what == "change":
            stored[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del stored[at : at + data.draw(st.integers(1, 8))]
        else:
            stored[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        if not stored:
            break
    with contextlib.suppress(WcodecError):
        check_all(with_manifest(whole[: trailer.offset], bytes(stored)))


DAMAGED = restamp(write(fill_all_kinds, metadata={"k": "v"}), lambda f: f)

values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**64 - 1) | keys | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(keys, inner, max_size=20),
    max_leaves=20,
)


@settings(max_examples=100)
@given(values)
def test_messagepack(value):
    assert msgpack.unpack(msgpack.pack(value)) == value
    for bad in (1.5, None, {1: 2}, np.uint8(1), {"a": [None]}):
        with pytest.raises(TypeError):
            msgpack.pack([value, bad])


@settings(max_examples=500)
@given(st.binary(max_size=40))
def test_messagepack_of_any_bytes(data):
    try:
        value = msgpack.unpack(data)
    except Corrupt as e:
        assert e.rule == "C-8"
    else:
        assert msgpack.pack(value) == data
