"""Arithmetic in float32, one rounding for each operation (spec/codecs/uniform.md, sum.md, spec/gpu.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from wcodec.backends.torch.calls import Call
from wcodec.backends.torch.floats import TorchFloats
from wcodec.backends.triton.launch import Field, Loose, Work, extent, kind, launch, slot, tiles, variant
from wcodec.backends.triton.tile import TILE, flag, pointer, report, tile
from wcodec.coding.uniform import Grid
from wcodec.types import DType

UNIFORM_3, SUM_2 = flag("UNIFORM-3"), flag("SUM-2")
WIDE_COLS = 1 << 30
"""Columns from which on those of a tile do not fit 32 bits."""


@triton.jit
def narrow(value, FORMAT: tl.constexpr):
    """Round float32 to the bits of a float format, to nearest even, in integers: conversions treat NaNs as each processor likes.

    F64 is widened. NaNs keep their sign and the upper bits of their payload; they become quiet.
    """
    bits = value.to(tl.uint32, bitcast=True)
    size = bits & 0x7FFFFFFF
    if FORMAT == "F32":
        return bits
    elif FORMAT == "BF16":
        rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        return tl.where(size > 0x7F800000, bits >> 16 | 0x40, rounded).to(tl.uint16)
    elif FORMAT == "F16":
        # Adding ½ leaves a number below 2^-14 in the lowest bits, in units of 2^-24, rounded.
        small = (size.to(tl.float32, bitcast=True) + 0.5).to(tl.uint32, bitcast=True) - 0x3F000000
        rounded = (size + 0xFFF + (size >> 13 & 1) - 0x38000000) >> 13
        rounded = tl.where(size < 0x38800000, small, tl.where(size < 0x47800000, rounded, 0x7C00))
        rounded = tl.where(size > 0x7F800000, 0x7E00 | size >> 13 & 0x3FF, rounded)
        return (rounded | (bits >> 16 & 0x8000)).to(tl.uint16)
    else:
        quiet = (bits >> 31).to(tl.uint64) << 63 | 0x7FF8000000000000 | (bits & 0x3FFFFF).to(tl.uint64) << 29
        return tl.where(size > 0x7F800000, quiet, value.to(tl.float64).to(tl.uint64, bitcast=True))


@triton.jit
def widen(x, FORMAT: tl.constexpr):
    """Return the floats of these bits: float64 for F64, else float32, which all of the others are exact in."""
    if FORMAT == "F64":
        return x.to(tl.float64, bitcast=True)
    elif FORMAT == "F32":
        return x.to(tl.float32, bitcast=True)
    elif FORMAT == "BF16":
        return (x.to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        return x.to(tl.float16, bitcast=True).to(tl.float32)


@triton.jit
def _steps(row, first, SCALAR: tl.constexpr, WIDE: tl.constexpr, count):
    """Load the steps of a tile. Fields from 6 on: steps, their count, the first one's number, start, columns, group, stride."""
    steps = pointer(row, 6, tl.float32, 4)
    at = tl.arange(0, TILE)
    if SCALAR:
        return tl.broadcast_to(tl.load(steps), [TILE])
    begin, cols, group = tl.load(row + 9) + first, tl.load(row + 10), tl.load(row + 11)
    top = begin // cols
    column = at + (begin - top * cols)
    if not WIDE:
        column, cols, group = column.to(tl.int32), cols.to(tl.int32), group.to(tl.int32)
    down = column // cols
    index = (top + down) * tl.load(row + 12) + (column - down * cols) // group - tl.load(row + 8)
    return tl.load(steps + index, mask=(at < count) & (index >= 0) & (index < tl.load(row + 7)), other=0)


@triton.jit
def _dequantise(
    row, first, SCALAR: tl.constexpr, WIDE: tl.constexpr, SYMBOL: tl.constexpr, FORMAT: tl.constexpr, VALUE: tl.constexpr,
    ALIGN: tl.constexpr, count,
):  # fmt: skip
    at = tl.arange(0, TILE)
    inside = at < count
    symbol = tl.load(pointer(row, 1, SYMBOL, ALIGN) + first + at, mask=inside, other=0).to(tl.uint32)
    k = symbol.to(tl.int32, bitcast=True) - tl.load(row + 4).to(tl.int32)
    value = _steps(row, first, SCALAR, WIDE, count) * k.to(tl.float32)
    tl.store(pointer(row, 2, VALUE, ALIGN) + first + at, narrow(value, FORMAT), mask=inside)
    report(pointer(row, 13, tl.int32, 4), inside & (symbol >= tl.load(row + 5).to(tl.uint32)), UNIFORM_3)


@triton.jit
def dequantise_kernel(
    rows, sections, SCALAR: tl.constexpr, WIDE: tl.constexpr, SYMBOL: tl.constexpr, FORMAT: tl.constexpr, VALUE: tl.constexpr,
    ALIGN: tl.constexpr,
):  # fmt: skip
    """Section: symbols, out, count, zero, levels, what ``_steps`` reads, status. SCALAR: all have one step."""
    row, first, count = tile(rows, sections, 14, 3)
    if count >= TILE:
        _dequantise(row, first, SCALAR, WIDE, SYMBOL, FORMAT, VALUE, ALIGN, TILE)
    else:
        _dequantise(row, first, SCALAR, WIDE, SYMBOL, FORMAT, VALUE, ALIGN, count)


@triton.jit
def quantise_kernel(rows, sections, SCALAR: tl.constexpr, WIDE: tl.constexpr, SYMBOL: tl.constexpr, ALIGN: tl.constexpr):
    """Section: x, out, count, zero, levels, what ``_steps`` reads."""
    row, first, count = tile(rows, sections, 13, 3)
    at = tl.arange(0, TILE)
    x = tl.load(pointer(row, 1, tl.float32, ALIGN) + first + at, mask=at < count, other=0)
    step = _steps(row, first, SCALAR, WIDE, count)
    k = tl.where(step == 0, 0.0, tl.div_rn(x, step))
    k = tl.where(k != k, 0.0, k)
    zero, levels = tl.load(row + 4).to(tl.int32), tl.load(row + 5).to(tl.int32)
    k = tl.minimum(tl.maximum(k, (-zero).to(tl.float32)), (levels - 1 - zero).to(tl.float32))
    # From 2^23 on, float32 has no fractions: adding that much rounds them, ties to even.
    size = tl.abs(k)
    rounded = tl.where(size < 8388608.0, (size + 8388608.0) - 8388608.0, size).to(tl.int32)
    symbol = tl.where(k < 0, -rounded, rounded) + zero
    tl.store(pointer(row, 2, SYMBOL, ALIGN) + first + at, symbol.to(SYMBOL), mask=at < count)


@triton.jit
def _add(row, first, ALIGN: tl.constexpr, count):
    total, at = pointer(row, 1, tl.float32, ALIGN), tl.arange(0, TILE)
    x = tl.load(pointer(row, 2, tl.float32, ALIGN) + first + at, mask=at < count, other=0)
    tl.store(total + first + at, tl.load(total + first + at, mask=at < count, other=0) + x, mask=at < count)
    size = x.to(tl.uint32, bitcast=True) & 0x7FFFFFFF
    report(pointer(row, 4, tl.int32, 4), (size >= 0x7F800000) & (at < count), SUM_2)


@triton.jit
def add_kernel(rows, sections, ALIGN: tl.constexpr):
    """Section: total, x, count, status."""
    row, first, count = tile(rows, sections, 5, 3)
    if count >= TILE:
        _add(row, first, ALIGN, TILE)
    else:
        _add(row, first, ALIGN, count)


@triton.jit
def _round(row, first, FORMAT: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr, count):
    at = tl.arange(0, TILE)
    value = tl.load(pointer(row, 1, tl.uint32, ALIGN) + first + at, mask=at < count, other=0).to(tl.float32, bitcast=True)
    tl.store(pointer(row, 2, VALUE, ALIGN) + first + at, narrow(value, FORMAT), mask=at < count)


@triton.jit
def round_kernel(rows, sections, FORMAT: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Section: values, out, count."""
    row, first, count = tile(rows, sections, 4, 3)
    if count >= TILE:
        _round(row, first, FORMAT, VALUE, ALIGN, TILE)
    else:
        _round(row, first, FORMAT, VALUE, ALIGN, count)


class TritonFloats(TorchFloats):
    """Quantisation, sums and rounding by kernels."""

    def dequantise_many(self, calls: Sequence[Call]) -> None:
        """Write step · (symbol − zero), rounded, for many sections."""
        launch(dequantise_kernel, [_values(slot(call), *call.arguments) for call in calls])

    def quantise(self, grid: Grid, start: int, x: Any, steps: Any, zero: int, levels: int, out: Any) -> None:
        """Write the symbols nearest to x / step, cut off at 0 and levels − 1; ``zero`` where the step is 0."""
        launch(quantise_kernel, [_symbols(grid, start, x, steps, zero, levels, out)])

    def add_floats_many(self, calls: Sequence[Call]) -> None:
        """Add x to total for many sections."""
        launch(add_kernel, [_sum(slot(call), *call.arguments) for call in calls])

    def round_floats_many(self, calls: Sequence[Call]) -> None:
        """Round the float32 of many sections."""
        launch(round_kernel, [_rounded(*call.arguments) for call in calls])


def _values(
    status: Loose, grid: Grid, start: int, symbols: torch.Tensor, steps: torch.Tensor, zero: int, levels: int, dtype: DType,
    out: torch.Tensor,
) -> Work:  # fmt: skip
    count = extent(symbols, out)
    constants = {**_shape(grid, steps), "SYMBOL": kind(symbols), "FORMAT": dtype.name, "VALUE": kind(out)}
    return Work(tiles(count), (symbols, out, count, zero, levels, *_span(grid, start, count, steps), status), constants)


def _symbols(grid: Grid, start: int, x: torch.Tensor, steps: torch.Tensor, zero: int, levels: int, out: torch.Tensor) -> Work:
    count = extent(x, out)
    fields = (x, out, count, zero, levels, *_span(grid, start, count, steps))
    return Work(tiles(count), fields, {**_shape(grid, steps), "SYMBOL": kind(out)})


def _shape(grid: Grid, steps: torch.Tensor) -> dict[str, bool]:
    return {"SCALAR": steps.numel() == 1, "WIDE": grid.cols >= WIDE_COLS}


def _span(grid: Grid, start: int, count: int, steps: torch.Tensor) -> tuple[Field, ...]:
    return Loose(steps), steps.numel(), grid.span(start, start + count)[0], start, max(grid.cols, 1), max(grid.group, 1), grid.stride


def _sum(status: Loose, total: torch.Tensor, x: torch.Tensor) -> Work:
    return Work(tiles(extent(total, x)), (total, x, x.numel(), status))


def _rounded(values: torch.Tensor, dtype: DType, out: torch.Tensor) -> Work:
    return Work(tiles(extent(values, out)), (values, out, out.numel()), {"FORMAT": dtype.name, "VALUE": kind(out)})


FORMATS = {"F64": tl.uint64, "F32": tl.uint32, "F16": tl.uint16, "BF16": tl.uint16}
KERNELS = [
    *(variant(f"round to {name}", round_kernel, FORMAT=name, VALUE=value) for name, value in FORMATS.items()),
    variant("dequantise, one step", dequantise_kernel, SCALAR=True, WIDE=False, SYMBOL=tl.uint8, FORMAT="BF16", VALUE=tl.uint16),
    variant("dequantise", dequantise_kernel, SCALAR=False, WIDE=False, SYMBOL=tl.uint8, FORMAT="F16", VALUE=tl.uint16),
    variant("dequantise, long rows", dequantise_kernel, SCALAR=False, WIDE=True, SYMBOL=tl.uint32, FORMAT="F32", VALUE=tl.uint32),
    variant("quantise", quantise_kernel, SCALAR=False, WIDE=False, SYMBOL=tl.uint16),
    variant("add", add_kernel),
]
