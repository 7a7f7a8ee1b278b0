"""Kernels of bits, planes, codebooks and tokens, interpreted, against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpreted import ORACLE, TRITON, Room, array, counts, integers, quick, seeds, tensor

from wcodec.backends import Planes
from wcodec.coding.rans import Order
from wcodec.coding.tokens import Alphabet
from wcodec.errors import Corrupt

sizes = st.sampled_from([1, 2, 4, 8])
SPLITS = [(16, 8, 0), (16, 7, 1), (16, 5, 0), (32, 24, 1), (8, 3, 2), (64, 48, 0)]


@quick
@given(seeds, sizes, st.data(), counts, st.integers(0, 1))
def test_packed_bits(seed: int, size: int, data: st.DataObject, count: int, shift: int) -> None:
    rng = np.random.default_rng(seed)
    width, base = data.draw(st.integers(1, 8 * size)), int(integers(rng, 1, size)[0])
    kind = np.dtype(f"u{size}").type
    x = (integers(rng, count, size) >> kind(8 * size - width)) + kind(base)
    packed = ORACLE.pack_bits(x, width, base)
    assert np.array_equal(array(TRITON.pack_bits(tensor(x), width, base)), packed)
    room = Room(count, x.dtype, shift)
    TRITON.unpack_bits(tensor(packed), width, base, room.out)
    assert room.holds(x)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 9, 10, 17, 18, 33, 34, 57, 63, 64])
def test_widths(width: int) -> None:
    x = integers(np.random.default_rng(width), 77, 8) >> np.uint64(64 - width)
    packed = ORACLE.pack_bits(x, width, 0)
    assert np.array_equal(array(TRITON.pack_bits(tensor(x), width, 0)), packed)
    room = Room(x.size, x.dtype)
    TRITON.unpack_bits(tensor(packed), width, 0, room.out)
    assert room.holds(x)


@quick
@given(seeds, sizes, counts)
def test_same(seed: int, size: int, count: int) -> None:
    x = integers(np.random.default_rng(seed), count, size)
    y = x.copy()
    assert TRITON.same(tensor(x), tensor(y))
    if count:
        y[seed % count] ^= 1
        assert not TRITON.same(tensor(x), tensor(y))


@quick
@given(seeds, sizes, st.data(), st.integers(0, 2), counts, st.integers(0, 1))
def test_planes(seed: int, size: int, data: st.DataObject, sign: int, count: int, shift: int) -> None:
    rng, bits = np.random.default_rng(seed), 8 * size
    split = Planes(bits, data.draw(st.integers(max(0, bits - 16), bits - 1)), sign)
    x = integers(rng, count, size)
    symbol, rest = ORACLE.split_planes(split, x)
    found, planes = TRITON.split_planes(split, tensor(x))
    assert np.array_equal(array(found), symbol) and len(planes) == len(rest)
    assert all(np.array_equal(array(a), b) for a, b in zip(planes, rest, strict=True))
    strange = integers(rng, count, symbol.itemsize), [integers(rng, count, 1) for _ in rest]  # more bits than belong there
    want, room = np.empty(count, x.dtype), Room(count, x.dtype, shift)
    ORACLE.join_planes(split, *strange, want)
    TRITON.join_planes(split, tensor(strange[0]), [tensor(plane) for plane in strange[1]], room.out)
    assert room.holds(want)


@quick
@given(
    seeds, st.sampled_from([(16, 8, 0), (16, 7, 1), (16, 5, 0), (32, 24, 1), (8, 3, 2), (64, 48, 0)]), counts, st.sampled_from([1, 4, 16])
)
def test_split_tokens(seed: int, split: tuple[int, int, int], count: int, every: int) -> None:
    rng, its = np.random.default_rng(seed), Planes(*split)
    count = count + 5000 * (count == 1024)  # more than one run
    x = integers(rng, count, its.bits // 8)
    x[::3] = 0
    base = int(rng.integers(0, 300))
    sizes = [count] * its.count
    if its.rest % 8:
        sizes[-1] = -(-count * (its.rest % 8) // 8)
    want = np.empty(count, np.uint8), [np.empty(size, np.uint8) for size in sizes]
    rooms = Room(count, np.uint8), [Room(size, np.uint8) for size in sizes]
    said = ORACLE.split_tokens(its, x, base, every, *want)
    found = TRITON.split_tokens(its, tensor(x), base, every, rooms[0].out, [room.out for room in rooms[1]])
    assert all(np.array_equal(a, b) for a, b in zip(found, said, strict=True))
    assert rooms[0].holds(want[0]) and all(room.holds(plane) for room, plane in zip(rooms[1], want[1], strict=True))


def test_many_sections_in_a_launch() -> None:
    """Sections of one kind go together, each to its own place, and an error names its tensor."""
    rng = np.random.default_rng(5)
    rooms, wants = [], []
    with TRITON.batch() as batch:
        for i, count in enumerate([3, 0, 2500, 1024, 1]):
            size, split = 1 << i % 2 + 1, Planes(16 << i % 2, 8 if i % 2 == 0 else 24, 0)
            x = integers(rng, count, size)
            symbol, rest = ORACLE.split_planes(split, x)
            rooms.append(Room(count, x.dtype, i % 3))
            wants.append(x)
            with batch.tape(f"tensor {i}"):
                TRITON.join_planes(split, tensor(symbol), [tensor(plane) for plane in rest], rooms[-1].out)
    assert all(room.holds(want) for room, want in zip(rooms, wants, strict=True))
    book, out = tensor(np.arange(5, dtype=np.uint16)), Room(2000, np.uint16).out
    with pytest.raises(Corrupt, match=r"tensor 1.*CODEBOOK-2"):
        with TRITON.batch() as batch:
            for i in range(3):
                with batch.tape(f"tensor {i}"):
                    TRITON.gather(book, 1, tensor(np.full(2000, 4 + (i == 1), np.uint8)), out)


@quick
@given(seeds, sizes, st.sampled_from([1, 2]), st.sampled_from([1, 2, 3, 64, 1030]), st.sampled_from([0, 1, 9, 33]), st.integers(0, 1))
def test_gather(seed: int, size: int, index: int, width: int, count: int, shift: int) -> None:
    rng, entries = np.random.default_rng(seed), 1 + seed % 200
    count = min(count, 4) if width > 64 else count
    book, indices = integers(rng, entries * width, size), rng.integers(0, entries, count).astype(f"u{index}")
    want, room = np.empty(count * width, book.dtype), Room(count * width, book.dtype, shift)
    ORACLE.gather(book, width, indices, want)
    TRITON.gather(tensor(book), width, tensor(indices), room.out)
    assert room.holds(want)
    if count:
        indices[seed % count] = entries + seed % 3
        with pytest.raises(Corrupt, match="CODEBOOK-2"):
            TRITON.gather(tensor(book), width, tensor(indices), room.out)


@quick
@given(seeds, st.sampled_from([1, 2, 4]), st.integers(0, 16), st.sampled_from([-1, 0, 10, 254]), st.booleans(), st.booleans(), counts)
def test_tokens(seed: int, size: int, bits: int, escape: int, zero: bool, trellis: bool, count: int) -> None:
    rng = np.random.default_rng(seed)
    alphabet = Alphabet(bits, int(rng.integers(0, 2**32)), zero, escape, trellis)
    tokens = rng.integers(0, 256 if seed % 2 else 12, count).astype(np.uint8)
    raw = integers(rng, count, 1 if bits <= 8 else 2) if bits else None
    outliers = integers(rng, int(alphabet.escapes(tokens).sum()) if escape >= 0 else 0, 4)
    want, room = np.empty(count, f"u{size}"), Room(count, f"u{size}", seed % 2)
    ORACLE.join_tokens(alphabet, tokens, raw, outliers, want)
    its = None if raw is None else tensor(raw)
    TRITON.join_tokens(alphabet, tensor(tokens), its, tensor(outliers), room.out)
    assert room.holds(want)
    if outliers.size:  # a missing outlier is 0, not what stands behind the others
        ORACLE.join_tokens(alphabet, tokens, raw, np.append(outliers[:-1], np.uint32(0)), want)
        TRITON.join_tokens(alphabet, tensor(tokens), its, tensor(outliers)[:-1], room.out)
        assert room.holds(want)


@pytest.mark.parametrize(("escape", "trellis"), [(0, False), (10, False), (10, True)])
def test_escapes_of_many_sections(escape: int, trellis: bool) -> None:
    rng, rooms, wants = np.random.default_rng(escape), [], []
    with TRITON.batch() as batch:
        for i, count in enumerate([1500, 1024, 70]):
            alphabet = Alphabet(3, 40, False, escape, trellis)
            tokens, raw = rng.integers(0, 12, count).astype(np.uint8), integers(rng, count, 1)
            outliers = integers(rng, int(alphabet.escapes(tokens).sum()), 4)
            rooms.append(Room(count, np.uint32))
            wants.append(np.empty(count, np.uint32))
            ORACLE.join_tokens(alphabet, tokens, raw, outliers, wants[-1])
            with batch.tape(f"tensor {i}"):
                TRITON.join_tokens(alphabet, tensor(tokens), tensor(raw), tensor(outliers), rooms[-1].out)
    assert all(room.holds(want) for room, want in zip(rooms, wants, strict=True))


@quick
@given(seeds, st.integers(1, 20), counts, st.booleans())
def test_outliers(seed: int, block: int, count: int, tiled: bool) -> None:
    rng = np.random.default_rng(seed)
    alphabet = Alphabet(escape=2)
    tokens = rng.integers(0, 4, count).astype(np.uint8)
    order = Order(count, 50, 1, tile=(3, 4 * block)) if tiled and count % 50 == 0 else Order(count, 50, 32, block=128 * block)
    escaped = alphabet.escapes(tokens)
    each = np.array([escaped[order.elements(b)[1]].sum() for b in range(order.blocks)], np.uint32)
    outliers = integers(rng, int(escaped.sum()), 4)
    want = ORACLE.order_outliers(alphabet, order, each, tokens, outliers)
    assert np.array_equal(array(TRITON.order_outliers(alphabet, order, each, tensor(tokens), tensor(outliers))), want)
    if each.size:
        each[seed % each.size] += 1
        with pytest.raises(Corrupt, match="RANS-3"):
            TRITON.order_outliers(alphabet, order, each, tensor(tokens), tensor(outliers))
