"""Kernels of masks, interpreted, against the oracle."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

from math import comb

import numpy as np
import pytest
import torch
import triton.language as tl
from hypothesis import given
from hypothesis import strategies as st
from interpreted import ORACLE, TRITON, Room, array, counts, integers, quick, seeds, tensor

from wcodec.backends.torch.calls import RULES
from wcodec.backends.triton.patterns import bundles_kernel
from wcodec.coding import masks
from wcodec.coding.layouts import Bundles, Groups
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


def test_positions_of_many_sections() -> None:
    drawn_masks = [drawn(i, count, 0.3) for i, count in enumerate([1500, 0, 1024, 70])]
    wants = [ORACLE.byte_positions(mask) for mask in drawn_masks]
    found = []
    with TRITON.batch() as batch:
        for i, (mask, want) in enumerate(zip(drawn_masks, wants, strict=True)):
            with batch.tape(f"tensor {i}"):
                found.append(TRITON.byte_positions(tensor(mask), want.size))
    assert all(np.array_equal(array(its), want) for its, want in zip(found, wants, strict=True))


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


@quick
@given(seeds, st.integers(1, 32), st.data(), st.sampled_from([(1, 3), (5, 1), (2, 7)]), st.integers(0, 70))
def test_groups(seed: int, m: int, data: st.DataObject, around: tuple[int, int], length: int) -> None:
    rng, n = np.random.default_rng(seed), data.draw(st.integers(1, m))
    groups = Groups.of(n, m, 1, (around[0], length, around[1]))
    found = rng.integers(0, min(groups.short, groups.kinds), groups.spec.count).astype(groups.spec.dtype.storage)
    whole = found.reshape(around[0], groups.groups, around[1])[:, : groups.length // groups.m]
    whole[:] = rng.integers(0, comb(groups.m, groups.n), whole.shape)
    assert np.array_equal(array(TRITON.group_mask(tensor(found), groups)), ORACLE.group_mask(found, groups))
    if found.size and found.itemsize == 4:
        for at, value in ((0, comb(groups.m, groups.n)), (found.size - 1, groups.short if length % m else 2**32 - 1)):
            damaged = found.copy()
            damaged[at] = value
            with pytest.raises(Corrupt, match="NM-2"):
                TRITON.group_mask(tensor(damaged), groups)


@quick
@given(seeds, st.sampled_from([(1, 1), (4, 4), (4, 2), (8, 1)]), st.sampled_from([0, 1, 5, 64]), st.integers(0, 3), st.booleans())
def test_bundles(seed: int, banks: tuple[int, int], cols: int, count: int, scattered: bool) -> None:
    rng = np.random.default_rng(seed)
    bundles = Bundles(*banks, count * banks[0] // banks[1], cols)
    lanes = np.zeros((count, bundles.banks, bundles.high, bundles.steps), np.uint8)
    each = rng.integers(0, max(1, cols // bundles.banks * bundles.high // bundles.high + 1), count).astype(np.uint32)
    for b in range(count):  # every row keeps the same share of its bundle's groups, and so does every lane
        each[b] -= each[b] % bundles.high
        for row in range(bundles.high):
            for g in range(each[b]):
                for i in range(bundles.per_row):
                    lane = (row * bundles.per_row + g * 0 + i) % bundles.banks
                    lanes[b, lane, row, g % max(bundles.steps, 1)] = 1
    kept = masks.from_bytes(lanes.reshape(-1))
    size = bundles.high * bundles.steps
    gaps = masks.to_gaps(kept, lanes.reshape(-1, size).sum(1, dtype=np.uint32) if size else np.zeros(0, np.uint32), size)
    order = rng.permutation(bundles.rows).astype(np.uint32) if scattered else None
    outcomes = []
    for call in (
        lambda: ORACLE.bundle_mask(gaps, each, bundles, order),
        lambda: array(TRITON.bundle_mask(tensor(gaps), each, bundles, order)),
    ):
        try:
            outcomes.append(call())
        except Corrupt as error:
            outcomes.append(error.rule)
    assert np.array_equal(*outcomes)


@pytest.mark.parametrize("bundle", [3, 2**31 - 1, 2**32 + 5, 2**40])
def test_far_bundles(bundle: int) -> None:
    """Lanes, positions and elements beyond 32 bits: arrays are so many elements before what memory holds of them."""
    banks, high, cols, steps = 4, 2, 11, 3
    groups = np.array([0, 3], np.int64) + 3 * bundle  # before this bundle and the next
    gaps = np.array([[0, 2, 0], [0, 0, 3], [5, 0, 0], [1, 3, 0]], np.uint8)  # of its lanes; the last is beyond the last column
    gaps_kept = [[0, 3, 4], [0, 1, 5], [5, 6, 7], [1, 5, 6]]
    lines, room, status = np.array([1, 0], np.int64) + 2 * bundle, Room(high * cols, np.uint8), torch.zeros(1, dtype=torch.int32)
    room.out.zero_()
    want = np.zeros((high, cols), np.uint8)
    for bank, kept in enumerate(gaps_kept):
        for at in kept:
            line, column = at // steps, at % steps * banks + bank
            if line < high and column < cols:
                want[1 - line, column] = 1
    addresses = [
        gaps.ctypes.data - 3 * bundle * banks, 3 * (bundle + 1) * banks, groups.ctypes.data - 8 * bundle,
        room.out.data_ptr() - 2 * bundle * cols, cols, banks, high, steps, lines.ctypes.data - 8 * 2 * bundle, status.data_ptr(),
    ]  # fmt: skip
    rows = torch.tensor([[-bundle * banks, *addresses]])
    bundles_kernel[(banks,)](rows, torch.zeros(banks, dtype=torch.int32), GAP=tl.uint8, ALIGN=1)
    assert room.holds(want.reshape(-1)) and int(status) == RULES["GS-3"][0]
