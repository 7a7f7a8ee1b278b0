"""Damage of every kind, above and below the checksums: nothing but a WcodecError comes out, and soon."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from battery import BACKENDS
from damage import Pieces, packed
from everything import everything
from hypothesis import given, settings
from hypothesis import strategies as st

import wcodec
from wcodec.api.files import STORAGE
from wcodec.api.opened import Opened
from wcodec.codecs import CODECS
from wcodec.coding.tables import Tables
from wcodec.errors import Corrupt, NotAContainer, Truncated, WcodecError
from wcodec.types import Limits, Section

LIMITS = Limits(decoded=1 << 24)
MOST = 200 << 20
"""Bytes that a reader of a damaged file of a few KB may allocate under these limits."""


def outcome(data: bytes, kernels: str, backend: Any = "pread") -> Any:
    """Everything that a reader gets from a file: per tensor its bytes, or class and rule of the error."""
    try:
        opened = Opened(data, STORAGE, threads=1, backend=backend, kernels=kernels, limits=LIMITS)
    except WcodecError as error:
        return type(error), error.rule
    found: dict[str, Any] = {}
    with opened:
        for name in opened.offset_keys():
            try:
                found[name] = opened.get_tensor(name).tobytes()
            except WcodecError as error:
                found[name] = type(error), error.rule
    return found


def agree(data: bytes) -> Any:
    """The outcome, which must be the same on every backend."""
    first, *others = (outcome(data, backend) for backend in BACKENDS)
    for other in others:
        assert other == first
    return first


def noticed(data: bytes, path: Any, backend: str) -> bool:
    path.write_bytes(data)
    try:
        wcodec.verify(path, deep=True, threads=1, kernels=backend, limits=LIMITS)
    except WcodecError:
        return True
    return False


def sections_of(section: Section) -> Iterator[Section]:
    """The section and all below it, references left out."""
    yield section
    for part in section.parts.values():
        if isinstance(part, Section):
            yield from sections_of(part)


def test_the_file_is_good(tmp_path):
    data = everything()
    with Opened(data, STORAGE) as opened:
        found = {section.codec for name in opened.offset_keys() for section in sections_of(opened.record(name).section)}
    assert len(data) < 9000 and found == set(CODECS)
    assert not noticed(data, tmp_path / "x", "numpy")
    assert Pieces.of(data).pack() == data or agree(Pieces.of(data).pack()) == agree(data)
    assert all(isinstance(value, bytes) for value in agree(data).values())


@pytest.mark.parametrize("part", range(4))
def test_every_changed_byte_is_noticed(tmp_path, part):
    data = everything()
    for at in range(part, len(data), 4):
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        assert noticed(bytes(broken), tmp_path / "x", "auto"), f"byte {at}"


def test_every_prefix_is_refused(tmp_path):
    data, path = everything(), tmp_path / "x"
    for size in range(0, len(data), 3):
        with pytest.raises((Truncated, NotAContainer)):
            Opened(data[:size], STORAGE)
    for size in (*range(0, 100, 9), *range(len(data) - 50, len(data), 7)):
        path.write_bytes(data[:size])
        for call in (wcodec.verify, wcodec.inspect, wcodec.safe_open, lambda p: wcodec.decode(p, tmp_path / "out")):
            with pytest.raises((Truncated, NotAContainer)):
                call(path)
    assert not (tmp_path / "out").exists()


@given(st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4), st.integers(0, 10**6))
@settings(max_examples=150)
def test_random_damage(tmp_path_factory, patches, cut):
    data = bytearray(everything())
    for at, its in patches:
        at %= len(data)
        data[at : at + len(its)] = its
    data = bytes(data) if cut % 3 else bytes(data[: cut % len(data)] + data[cut % len(data) + cut % 99 :])
    assert data == everything() or noticed(data, tmp_path_factory.getbasetemp() / "damaged", "auto")
    outcome(data, "auto", backend="mmap")


# below the checksums


def streams_of(pieces: Pieces) -> list[tuple[dict[str, Any], str]]:
    """Every inline stream: the map that holds it, and its key."""
    found: list[tuple[dict[str, Any], str]] = []

    def walk(value: Any) -> None:
        for key, item in value.items() if isinstance(value, dict) else ():
            if key == "parts" and isinstance(item, dict):
                found.extend((item, name) for name, part in item.items() if isinstance(part, bytes))
            walk(item)

    for _, record in pieces.tensors:
        walk(record)
    for resource in pieces.resources:
        walk(resource)
    return found


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=3), st.integers(-2, 2))
@settings(max_examples=250)
def test_damaged_streams_below_checksums(patches, longer):
    """Only the digest stands behind these: what decodes, decodes alike on every backend, and verify tells it from what it was."""
    pieces = Pieces.of(everything())
    for which, at, flip in patches:
        places = streams_of(pieces)
        holder, key = places[which % len(places)]
        data = bytearray(holder[key] or b"\0")
        data[at % len(data)] ^= flip
        holder[key] = bytes(data[:longer] if longer < 0 else data + bytes(longer))
    agree(pieces.pack())


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 255))
@settings(max_examples=60)
def test_verify_notices_damage_below_checksums(tmp_path_factory, which, at, flip):
    pieces = Pieces.of(everything())
    places = streams_of(pieces)
    holder, key = places[which % len(places)]
    data = bytearray(holder[key])
    data[at % len(data)] ^= flip
    holder[key] = bytes(data)
    path, whole = tmp_path_factory.getbasetemp() / "below", pieces.pack()
    # Bits of a symbol or plane beyond its width are ignored: then nothing that a reader uses has changed.
    assert noticed(whole, path, "auto") or agree(whole) == agree(everything())


INTERESTING: list[Any] = [
    0, 1, 2, 3, 5, 7, 8, 9, 12, 13, 16, 17, 64, 127, 128, 255, 256, 257, 1024, 1025, 2**16, 2**17, 2**20, 2**24, 2**31, 2**32 - 1, 2**32,
    2**40, 2**63,
    2**64 - 1, -1, -(2**63), True, False, None, 1.5, "", "x", "rans", "raw", "planes", "zstd", "concat", "const", "bitpack", "F4", "U8",
    "U32", "C64",
    b"", b"\0", bytes(3), bytes(255), bytes(300), [], [0], [1, 1], [2**31, 2], [2**40, 0], [0, 2**62], {}, {"ref": 0}, {"ref": 1},
    {"codec": "raw"},
    ["requires"], ["x"],
]  # fmt: skip


def leaves(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a value."""
    found = []
    for key, item in list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []:
        found.append((value, key))
        found.extend(leaves(item))
    return found


def mutate(pieces: Pieces, choices: list[int]) -> None:
    """Replace, remove, copy or nudge one value somewhere in records, resources or manifest."""
    root = [pieces.tensors, pieces.resources, pieces.fields, pieces.streams]
    places = leaves(root)[4:]
    holder, key = places[choices[0] % len(places)]
    other, from_key = places[choices[1] % len(places)]
    action, pick = choices[2] % 8, deepcopy(INTERESTING[choices[3] % len(INTERESTING)])
    value = holder[key]
    if action == 0 and isinstance(holder, dict):
        del holder[key]
    elif action == 1:
        holder[key] = deepcopy(other[from_key])
    elif action == 2 and isinstance(value, int):
        holder[key] = value + choices[3] % 5 - 2
    elif action == 3 and isinstance(holder, dict):
        holder[["requires", "later", "escape", "trellis", "zero", "bits", "tile", "base", "classes", "table_size"][choices[3] % 10]] = pick
    elif action == 4 and isinstance(value, bytes) and value:
        holder[key] = value[: choices[3] % len(value)]
    elif not isinstance(holder, list) or holder is not pieces.streams:
        holder[key] = pick


def mutated(choices: list[list[int]]) -> bytes | None:
    pieces = Pieces.of(everything())
    for its in choices:
        mutate(pieces, its)
    try:
        return pieces.pack()
    except (TypeError, ValueError, OverflowError, AttributeError):  # what was made is no manifest that could be written
        return None


@given(st.lists(st.lists(st.integers(0, 10**6), min_size=4, max_size=4), min_size=1, max_size=3))
@settings(max_examples=600)
def test_damaged_manifests_below_checksums(choices):
    data = mutated(choices)
    if data is not None:
        agree(data)


@given(st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 3))
@settings(max_examples=200)
def test_damaged_manifest_bytes_below_checksums(at, value, action):
    pieces = Pieces.of(everything())
    data = bytearray(packed(pieces.manifest()))
    at %= len(data)
    if action == 0:
        del data[at]
    elif action == 1:
        data.insert(at, value)
    else:
        data[at] = value
    pieces.stored = bytes(data)
    agree(pieces.pack())


def test_memory_stays_everything():
    """Whatever a manifest claims, memory grows with the limits and not with the claim."""
    rng = np.random.default_rng(7)
    files = [data for _ in range(60) if (data := mutated(rng.integers(0, 10**6, (2, 4)).tolist())) is not None]
    tracemalloc.start()
    try:
        for data in files:
            for backend in BACKENDS:
                outcome(data, backend)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


CLAIMS = [
    ("rans", {"block": 1024}, "U8", [10**6]),
    ("rans", {"tile": [1, 2**17]}, "U8", [4000, 1]),
    ("rans", {"tile": [2**17, 4]}, "U8", [1, 4000]),
    ("rans", {"tile": [1, 2**17], "trellis": 8}, "U8", [4000, 1]),
    ("const", {"value": b"\0"}, "U8", [2**24]),
    ("bitpack", {"bits": 1}, "U8", [2**24]),
    ("concat", {"lengths": [0] * 5000}, "U8", [0]),
]


@pytest.mark.parametrize(("codec", "params", "dtype", "shape"), CLAIMS, ids=[f"{i}-{claim[0]}" for i, claim in enumerate(CLAIMS)])
def test_extreme_claims(codec, params, dtype, shape):
    """Params at the ends of their ranges on arrays that do not suit them."""
    tables = Tables.fit(np.array([[3, 1, *[0] * 254]], np.uint64), 8).pack() * (2 if "trellis" in params else 1)
    data = {"rans": tables + (1 << 16).to_bytes(4, "little") * 4000, "bitpack": bytes(2**21)}.get(codec, b"")
    fixed = {"precision": 8, "lanes": 0} if codec == "rans" else {}
    parts: dict[str, Any] = {"data": 0} if data else {}
    if codec == "concat":
        parts = {str(i): {"codec": "raw", "parts": {"data": b""}} for i in range(5000)}
    section = {"codec": codec, "params": fixed | params, "parts": parts}
    record = {"dtype": dtype, "shape": shape, "section": section, "digest": bytes(32)}
    made = Pieces({}, [["x", record]], [], [data] if data else []).pack()
    tracemalloc.start()
    try:
        agree(made)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


def test_a_section_that_lies_about_itself_is_no_surprise():
    with pytest.raises(Corrupt):
        Opened(Pieces({}, [["x", [1]]], [], []).pack(), STORAGE).record("x")
    assert isinstance(Section("x").memo, dict)
