"""Verbs that calculate with float32 (spec/codecs/uniform.md, sum.md, lowrank.md)."""

from __future__ import annotations

import numpy as np

from wcodec.coding import uniform
from wcodec.coding.numbers import check_subnormals, from_float32
from wcodec.coding.uniform import F32, Grid
from wcodec.errors import Corrupt
from wcodec.types import DType, UInts


class FloatVerbs:
    """Quantisation, sums, products and rounding; subnormal numbers count, or BackendUnavailable is raised."""

    def dequantise(self, grid: Grid, start: int, symbols: UInts, steps: F32, zero: int, levels: int, dtype: DType, out: UInts) -> None:
        """Write step · (symbol − zero), rounded to a float dtype, for elements from ``start`` on; steps: those of the window's span.

        Raises Corrupt [UNIFORM-3].
        """
        if symbols.size and int(symbols.max()) >= levels:
            raise Corrupt(f"a symbol is not below {levels}", rule="UNIFORM-3")
        check_subnormals()
        values = out.view(np.float32) if dtype.name == "F32" else np.empty(out.size, np.float32)
        uniform.dequantise(grid, start, symbols, steps, zero, values)
        self.round_floats(values, dtype, out)

    def quantise(self, grid: Grid, start: int, x: F32, steps: F32, zero: int, levels: int, out: UInts) -> None:
        """Write the symbols nearest to x / step (ties to even), cut off at 0 and levels − 1; ``zero`` where the step is 0."""
        check_subnormals()
        uniform.quantise(grid, start, x, steps, zero, levels, out)

    def add_floats(self, total: F32, x: F32) -> None:
        """Add x to total in float32. Raises Corrupt [SUM-2] when an element of x is not finite."""
        if not np.isfinite(x).all():
            raise Corrupt("an element of a sum is infinite or no number", rule="SUM-2")
        check_subnormals()
        with np.errstate(over="ignore"):
            np.add(total, x, out=total)

    def matmul(self, a: F32, b: F32, out: F32) -> None:
        """Write the product of two float32 matrices: sums of float32 products in any order, each operation rounded (or a fused one)."""
        check_subnormals()
        with np.errstate(over="ignore", invalid="ignore"):
            np.matmul(a, b, out=out)

    def round_floats(self, values: F32, dtype: DType, out: UInts) -> None:
        """Round float32 to a float dtype, ties to even; out may be the same memory when that is F32."""
        found = from_float32(values, dtype)
        if not np.may_share_memory(found, out):
            out[:] = found
