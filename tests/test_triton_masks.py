"""Kernels of masks, interpreted, against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpreted import ORACLE, TRITON, Room, array, counts, integers, quick, seeds, tensor

from wcodec.coding import masks
from wcodec.coding.numbers import LOSSY
from wcodec.errors import Corrupt
from wcodec.types import DTYPES, DType

pytestmark = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")  # the interpreter's numpy
shares = st.sampled_from([0, 0.01, 0.3, 1])


def drawn(seed: int, count: int, share: float) -> np.ndarray:
    return (np.random.default_rng(seed).random(count) < share).astype(np.uint8)


@quick
@given(seeds, counts, shares)
def test_positions(seed: int, count: int, share: float) -> None:
    mask = drawn(seed, count, share)
    want, bits = ORACLE.byte_positions(mask), np.packbits(mask, bitorder="little")
    bits[-1:] |= (0xFF << count % 8 & 0xFF) if count % 8 else 0  # bits beyond the last element count for nothing
    assert np.array_equal(array(TRITON.byte_positions(tensor(mask * 3), want.size)), want)
    assert np.array_equal(array(TRITON.bit_positions(tensor(bits), count, want.size)), want)
    for kept in {max(0, want.size - 1), want.size + 1} - {want.size}:
        with pytest.raises(Corrupt, match="SPARSE-2"):
            TRITON.byte_positions(tensor(mask), kept)
        with pytest.raises(Corrupt, match="BITMAP-2"):
            TRITON.bit_positions(tensor(bits), count, kept)


@quick
@given(seeds, counts, shares, st.sampled_from([1, 8, 80, 1 << 16]))
def test_counts_of_blocks(seed: int, count: int, share: float, block: int) -> None:
    mask = drawn(seed, count, share)
    found = ORACLE.byte_positions(mask)
    each = masks.count(found, count, block).astype(np.uint32)
    TRITON.check_counts(tensor(found), count, block, each)
    if block > 1:
        TRITON.check_ones(tensor(mask), block, each)
    moved = each.copy()
    if each.size > 1 and found.size:
        at = int(np.flatnonzero(each)[0])
        moved[at], moved[(at + 1) % each.size] = each[at] - 1, each[(at + 1) % each.size] + 1
        with pytest.raises(Corrupt, match="BITMAP-2"):
            TRITON.check_counts(tensor(found), count, block, moved)
        with pytest.raises(Corrupt, match="DRAW-2"):
            TRITON.check_ones(tensor(mask), block, moved)


@quick
@given(seeds, counts, st.sampled_from([0.01, 0.3, 1]), st.sampled_from([100, 1 << 16]), st.sampled_from([1, 2, 4]))
def test_gaps(seed: int, count: int, share: float, block: int, size: int) -> None:
    found = ORACLE.byte_positions(drawn(seed, count, share))
    each = masks.count(found, count, block).astype(np.uint32)
    gaps = masks.to_gaps(found, each, block)
    gaps = np.minimum(gaps, 2 ** (8 * size) - 1).astype(f"u{size}")
    want = ORACLE.place_gaps(gaps, each, block, count)
    assert np.array_equal(array(TRITON.place_gaps(tensor(gaps), each, block, count)), want)
    if want.size:
        with pytest.raises(Corrupt, match="GAPS-3"):
            TRITON.place_gaps(tensor(gaps), each, block, int(want[-1]))
        gaps = gaps.astype(np.uint32)
        gaps[seed % gaps.size] = 2**32 - 1
        with pytest.raises(Corrupt, match="GAPS-3"):
            TRITON.place_gaps(tensor(gaps), each, block, count)


@quick
@given(seeds, counts, shares, st.sampled_from([1, 2, 4, 8]), st.booleans())
def test_scatter(seed: int, count: int, share: float, size: int, clear: bool) -> None:
    rng = np.random.default_rng(seed)
    found = ORACLE.byte_positions(drawn(seed, count, share))
    values, want = integers(rng, found.size, size), integers(rng, count, size)
    room = Room(count, f"u{size}", seed % 2)
    room.out.copy_(tensor(want))
    ORACLE.scatter(found, values, want, clear)
    TRITON.scatter(tensor(found), tensor(values), room.out, clear)
    assert room.holds(want)
    beyond = np.concatenate((found, np.array([count, 2**32 - 1], np.uint32)))  # what damage may leave: written nowhere
    TRITON.scatter(tensor(beyond), tensor(np.resize(values, beyond.size) if values.size else integers(rng, 2, size)), room.out, True)
    if size == 1:
        ORACLE.mark(found, want)
        TRITON.mark(tensor(beyond), room.out)
        assert room.holds(want)


@quick
@given(seeds, counts, shares, st.sampled_from([DTYPES[name] for name in LOSSY]))
def test_add_at(seed: int, count: int, share: float, dtype: DType) -> None:
    rng = np.random.default_rng(seed)
    found = ORACLE.byte_positions(drawn(seed, count, share))
    values, want = (integers(rng, n, dtype.storage.itemsize) for n in (found.size, count))
    values[::4] = 0
    values[1::4] = want[found][1::4] ^ (1 << (dtype.bits - 1))
    room = Room(count, dtype.storage, seed % 2)
    room.out.copy_(tensor(want))
    ORACLE.add_at(found, values, dtype, want)
    TRITON.add_at(tensor(found), tensor(values), dtype, room.out)
    assert room.holds(want)
