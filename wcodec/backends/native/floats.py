"""Quantisation, sums and rounding in C, in the float mode that they need whatever the caller's is; products are numpy's."""

from __future__ import annotations

from ctypes import byref

import numpy as np

from wcodec.backends.native.abi import KINDS, Native
from wcodec.backends.native.abi import Grid as NativeGrid
from wcodec.backends.native.arrays import address, fits
from wcodec.backends.numpy.floats import FloatVerbs
from wcodec.coding.uniform import F32, Grid
from wcodec.errors import Corrupt
from wcodec.types import DType, UInts


class NativeFloats(Native, FloatVerbs):
    """Calculations with float32, by C."""

    def dequantise(self, grid: Grid, start: int, symbols: UInts, steps: F32, zero: int, levels: int, dtype: DType, out: UInts) -> None:
        """Write step · (symbol − zero), rounded to a float dtype. Raises Corrupt [UNIFORM-3]."""
        native = describe_grid(grid, start, symbols, steps, zero, levels)
        if native is None or not fits(out, dtype.storage, symbols.size):
            return super().dequantise(grid, start, symbols, steps, zero, levels, dtype, out)
        kind = KINDS[dtype.name]
        if self._library.wcodec_dequantise(byref(native), address(symbols), symbols.itemsize, address(steps), kind, address(out)):
            raise Corrupt(f"a symbol is not below {levels}", rule="UNIFORM-3")

    def quantise(self, grid: Grid, start: int, x: F32, steps: F32, zero: int, levels: int, out: UInts) -> None:
        """Write the symbols nearest to x / step (ties to even), cut off at 0 and levels − 1; ``zero`` where the step is 0."""
        native = describe_grid(grid, start, out, steps, zero, levels)
        if native is None or not fits(x, np.float32, out.size):
            return super().quantise(grid, start, x, steps, zero, levels, out)
        self._library.wcodec_quantise(byref(native), address(x), address(steps), out.itemsize, address(out))

    def add_floats(self, total: F32, x: F32) -> None:
        """Add x to total in float32. Raises Corrupt [SUM-2]."""
        if not fits(total, np.float32, x.size) or not fits(x, np.float32, x.size):
            return super().add_floats(total, x)
        if self._library.wcodec_add(address(total), address(x), x.size):
            raise Corrupt("an element of a sum is infinite or no number", rule="SUM-2")

    def round_floats(self, values: F32, dtype: DType, out: UInts) -> None:
        """Round float32 to a float dtype, ties to even."""
        if dtype.name == "F32" or not fits(values, np.float32, out.size) or not fits(out, dtype.storage, out.size):
            return super().round_floats(values, dtype, out)
        self._library.wcodec_round(address(values), out.size, KINDS[dtype.name], address(out))


def describe_grid(grid: Grid, start: int, symbols: UInts, steps: F32, zero: int, levels: int) -> NativeGrid | None:
    """Describe a window of quantised elements to C, or return None when it is not one for C."""
    low, high = grid.span(start, start + symbols.size)
    if grid.cols < 1 or grid.group < 1 or symbols.itemsize > 4 or not symbols.flags.c_contiguous or not fits(steps, np.float32, high - low):
        return None
    return NativeGrid(start, symbols.size, grid.cols, grid.group, grid.stride, zero, levels)
