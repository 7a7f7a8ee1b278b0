"""Kernels that calculate and that draw random numbers, interpreted, against the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interpreted import ORACLE, TRITON, Room, counts, integers, quick, seeds, tensor

from wcodec.coding.numbers import LOSSY
from wcodec.coding.uniform import Grid
from wcodec.errors import Corrupt
from wcodec.types import DTYPES, DType

pytestmark = pytest.mark.filterwarnings(
    "ignore:(overflow|invalid value|divide by zero) encountered:RuntimeWarning"
)  # the interpreter's numpy
formats = st.sampled_from([DTYPES[name] for name in LOSSY])
SPECIAL = [
    0, 1, 0x80000000, 0x80000001, 0x007FFFFF, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0x7FC12345, 0xFFBFFFFF, 0x7FFFFFFF,
    0x477FEFFF, 0x477FF000, 0x477FE000, 0x38800000, 0x387FFFFF, 0x387FE000, 0x33000000, 0x33000001, 0x32FFFFFF, 0x7F7F8000, 0x3F808000,
]  # fmt: skip
"""Bits of float32: zeros, subnormals, NaNs, and where rounding to F16 and BF16 is a tie, overflows, or leaves the normal numbers."""


def awkward(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw any float32, many of them special or ties."""
    bits = integers(rng, count, 4)
    bits[::3] &= np.uint32(0xFFFFF000)
    bits[1::3] = rng.integers(0x32000000, 0x48000000, bits[1::3].size)
    bits[::5] = rng.choice(np.array(SPECIAL, np.uint32), bits[::5].size)
    return bits.view(np.float32)


def finite(rng: np.random.Generator, count: int) -> np.ndarray:
    found = awkward(rng, count)
    return np.where(np.isfinite(found), found, np.float32(1e-41))


@quick
@given(seeds, counts, formats, st.integers(0, 1))
def test_rounding(seed: int, count: int, dtype: DType, shift: int) -> None:
    values = awkward(np.random.default_rng(seed), count)
    want, room = np.empty(count, dtype.storage), Room(count, dtype.storage, shift)
    ORACLE.round_floats(values, dtype, want)
    TRITON.round_floats(tensor(values), dtype, room.out)
    assert room.holds(want)


@st.composite
def windows(draw: st.DrawFn) -> tuple[Grid, int, int]:
    """A grid, and start and count of a window of it."""
    count, start = draw(counts), draw(st.sampled_from([0, 1, 77, 3000, 2**31 + 7]))
    cols = draw(st.sampled_from([1, 7, 1024, 5000, 2**31]))
    group = draw(st.sampled_from([1, 3, 64, cols]))
    return Grid(cols, group, draw(st.sampled_from([0, -(-cols // group)])) if cols <= 5000 else -(-cols // group)), start, count


@quick
@given(seeds, windows(), st.sampled_from([(1, 200, 100), (2, 60000, 3), (4, 2**24 + 5, 2**23), (4, 3, 2**24 - 1)]), formats)
def test_dequantise(seed: int, window: tuple[Grid, int, int], kind: tuple[int, int, int], dtype: DType) -> None:
    rng, (grid, start, count), (size, levels, zero) = np.random.default_rng(seed), window, kind
    low, high = grid.span(start, start + count)
    steps, symbols = finite(rng, high - low), rng.integers(0, levels, count).astype(f"u{size}")
    want, room = np.empty(count, dtype.storage), Room(count, dtype.storage, seed % 2)
    ORACLE.dequantise(grid, start, symbols, steps, zero, levels, dtype, want)
    TRITON.dequantise(grid, start, tensor(symbols), tensor(steps), zero, levels, dtype, room.out)
    assert room.holds(want)
    if count:
        symbols[seed % count] = levels
        with pytest.raises(Corrupt, match="UNIFORM-3"):
            TRITON.dequantise(grid, start, tensor(symbols), tensor(steps), zero, levels, dtype, room.out)


@pytest.mark.parametrize("steps", [[0x80000000], [0, 0x80000000, 1, 0x80000001]])
def test_signs_of_zeros(steps: list[int]) -> None:
    its, symbols = np.array(steps, np.uint32).view(np.float32), np.arange(8, dtype=np.uint8)
    want, room = np.empty(8, np.uint32), Room(8, np.uint32)
    ORACLE.dequantise(Grid(len(steps), 1, 0), 0, symbols, its, 4, 8, DTYPES["F32"], want)
    TRITON.dequantise(Grid(len(steps), 1, 0), 0, tensor(symbols), tensor(its), 4, 8, DTYPES["F32"], room.out)
    assert room.holds(want)


@quick
@given(seeds, windows(), st.sampled_from([(1, 200, 100), (2, 60000, 3), (4, 2**24 + 5, 2**23)]))
def test_quantise(seed: int, window: tuple[Grid, int, int], kind: tuple[int, int, int]) -> None:
    rng, (grid, start, count), (size, levels, zero) = np.random.default_rng(seed), window, kind
    low, high = grid.span(start, start + count)
    steps, x = finite(rng, high - low), finite(rng, count)
    at = grid.index(start, start + count) - low
    with np.errstate(over="ignore"):  # near the halves between two symbols
        near = steps[at] * (rng.integers(-zero, levels - zero, count) + rng.choice([0, 0.5, 0.49999997], count)).astype(np.float32)
    x[::2] = np.where(np.isfinite(near), near, 0)[::2]
    want, room = np.empty(count, f"u{size}"), Room(count, f"u{size}", seed % 2)
    ORACLE.quantise(grid, start, x, steps, zero, levels, want)
    TRITON.quantise(grid, start, tensor(x), tensor(steps), zero, levels, room.out)
    assert room.holds(want)


@quick
@given(seeds, counts)
def test_sums(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    total, x, room = finite(rng, count), finite(rng, count), Room(count, np.float32, seed % 2)
    room.out.copy_(tensor(total))
    ORACLE.add_floats(total, x)
    TRITON.add_floats(room.out, tensor(x))
    assert room.holds(total)
    if count:
        x[seed % count] = [np.nan, np.inf, -np.inf][seed % 3]
        with pytest.raises(Corrupt, match="SUM-2"):
            TRITON.add_floats(room.out, tensor(x))


starts = st.sampled_from([0, 1, 2, 3, 4, 5, 2**34 - 5, 2**40 + 3])
words32, words64 = st.sampled_from([0, 1, 2**31, 2**32 - 1]), st.sampled_from([0, 7, 2**32, 2**63, 2**64 - 1])


@quick
@given(words64, words32, words32, st.sampled_from(["uniform", "normal"]), st.sampled_from([2.0**-60, 0.02, 1, 3e17]), starts, counts)
def test_philox(seed: int, id: int, stream: int, kind: str, scale: float, start: int, count: int) -> None:
    dtype = DTYPES[LOSSY[count % len(LOSSY)]]
    want, room = np.empty(count, dtype.storage), Room(count, dtype.storage, start % 3)
    ORACLE.philox_fill(seed, id, stream, kind, scale, 0.9, start, dtype, want)
    TRITON.philox_fill(seed, id, stream, kind, scale, 0.9, start, dtype, room.out)
    assert room.holds(want)


@quick
@given(words64, words32, words32, st.sampled_from([0, 1, 2**31, 2**32 - 1]), starts, counts)
def test_draws(seed: int, id: int, stream: int, threshold: int, start: int, count: int) -> None:
    want, room = np.empty(count, np.uint8), Room(count, np.uint8, start % 3)
    ORACLE.philox_draw(seed, id, stream, threshold, start, want)
    TRITON.philox_draw(seed, id, stream, threshold, start, room.out)
    assert room.holds(want)
