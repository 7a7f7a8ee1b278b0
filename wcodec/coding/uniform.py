"""Uniform quantisation in float32, one operation at a time (spec/codecs/uniform.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.types import UInts

F32: TypeAlias = npt.NDArray[np.float32]
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Grid:
    """Which step an element has: runs of ``group`` elements within rows of ``cols`` share one.

    stride: steps from a row to the next; 0: all rows have the same.
    """

    cols: int
    group: int
    stride: int

    @property
    def per_row(self) -> int:
        """Steps of a row."""
        return -(-self.cols // max(self.group, 1))

    def index(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the step of every element start … stop − 1."""
        row, column = np.divmod(np.arange(start, stop, dtype=np.int64), max(self.cols, 1))
        found: npt.NDArray[np.int64] = row * self.stride + column // max(self.group, 1)
        return found

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the range of steps that elements start … stop − 1 have."""
        if start == stop:
            return 0, 0
        if not self.stride:
            return 0, self.per_row
        first, last = (at // self.cols * self.stride + at % self.cols // self.group for at in (start, stop - 1))
        return first, last + 1


def _chunks(grid: Grid, start: int, count: int) -> Iterator[tuple[slice, npt.NDArray[np.int64]]]:
    """Yield pieces of a window, and where in its span their steps stand."""
    first = grid.span(start, start + count)[0]
    for at in range(0, count, CHUNK):
        stop = min(at + CHUNK, count)
        yield slice(at, stop), grid.index(start + at, start + stop) - first


def dequantise(grid: Grid, start: int, symbols: UInts, steps: F32, zero: int, out: F32) -> None:
    """Write step · (symbol − zero) for elements from ``start`` on; steps: those of the window's span. Symbols are below 2^25."""
    for piece, at in _chunks(grid, start, symbols.size):
        with np.errstate(over="ignore", under="ignore"):
            np.multiply(steps[at], (symbols[piece].astype(np.int64) - zero).astype(np.float32), out=out[piece])


def quantise(grid: Grid, start: int, x: F32, steps: F32, zero: int, levels: int, out: UInts) -> None:
    """Write the symbols nearest to x / step (ties to even), cut off at the first and last one; a step of 0 has the symbol zero."""
    for piece, at in _chunks(grid, start, x.size):
        step = steps[at]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            k = np.where(step == 0, np.float32(0), x[piece] / step)
        k = np.clip(k, np.float32(-zero), np.float32(levels - 1 - zero))
        out[piece] = (np.rint(k).astype(np.int64) + zero).astype(out.dtype)


def thresholds(counts: npt.NDArray[Any], zero: int, trade: float) -> F32:
    """Return, for every symbol, the least |x / step| at which it costs less than its neighbour towards ``zero``.

    A symbol costs the squared error in steps plus ``trade`` times its bits by these counts (absent symbols as if seen once). Code lengths
    are multiples of 1/16 bit found in integers, so that every machine decides alike.
    """
    total = max(1, int(counts.sum()))
    length = {n: (max(1, n) ** 16).bit_length() for n in np.unique(counts).tolist()}
    bits = ((total**16).bit_length() - np.array([length[n] for n in counts.tolist()], np.int64)).astype(np.float64) / 16
    k = np.arange(counts.size) - zero
    inner = bits[np.clip(np.arange(counts.size) - np.sign(k), 0, counts.size - 1)]
    found = np.abs(k) + (trade * (bits - inner) - 1) / 2
    found[k == 0] = 0
    limited: F32 = np.minimum(found, np.abs(k) + 0.5).astype(np.float32)  # x is never moved by more than one step
    return limited


def shrink(grid: Grid, start: int, x: F32, steps: F32, zero: int, limits: F32, symbols: UInts) -> None:
    """Move symbols by one towards ``zero`` where |x / step| lies below their threshold."""
    for piece, at in _chunks(grid, start, x.size):
        step, s = steps[at], symbols[piece]
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.abs(np.where(step == 0, np.float32(0), x[piece] / step))
        symbols[piece] = np.where(far < limits[s], s + np.sign(zero - s.astype(np.int64)), s).astype(s.dtype)


def root_mean_squares(grid: Grid, x: F32, count: int) -> npt.NDArray[np.float64]:
    """Return √(mean x²) of the elements of each of ``count`` steps in float64, added in one order on every machine."""
    total, numbers = np.zeros(count), np.zeros(count)
    for piece, at in _chunks(grid, 0, x.size):
        low, high = int(at.min()), int(at.max()) + 1
        total[low:high] += np.bincount(at - low, np.square(x[piece].astype(np.float64)))
        numbers[low:high] += np.bincount(at - low)
    return np.sqrt(total / np.maximum(numbers, 1))


def largest(grid: Grid, x: F32, count: int) -> F32:
    """Return the largest |x| of the elements of each of ``count`` steps."""
    found = np.zeros(count, np.float32)
    for piece, at in _chunks(grid, 0, x.size):
        np.maximum.at(found, at, np.abs(x[piece]))
    return found
