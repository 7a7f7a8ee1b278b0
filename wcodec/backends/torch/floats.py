"""Calculations with float32 in torch: one correctly rounded operation after the other (numpy/floats.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from wcodec.backends.torch.arrays import unsigned
from wcodec.backends.torch.calls import checked, fail, verb
from wcodec.backends.torch.memory import EXPONENT, TorchMemory
from wcodec.coding.numbers import check_subnormals
from wcodec.coding.uniform import Grid
from wcodec.types import DType

CHUNK = 1 << 24
"""Elements whose steps are looked up at once."""


def rounded(values: Tensor, dtype: DType) -> Tensor:
    """Round float32 to storage elements, ties to even; NaNs as numpy has them (``coding.numbers.from_float32``)."""
    bits = values.view(torch.int32)
    if dtype.name == "F32":
        return bits
    nan = (bits & 0x7FFFFFFF) > EXPONENT
    if dtype.name == "F64":
        wide = values.double().view(torch.int64)
        payload = (bits.long() & 0x7FFFFF) << 29
        sign = bits.long() >> 31 << 63
        return torch.where(nan, sign | 0x7FF8 << 48 | payload, wide)
    if dtype.name == "BF16":
        found = torch.where(nan, bits >> 16 | 0x40, (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
        return found.to(torch.int16)
    quiet = bits >> 16 & 0x8000 | 0x7E00 | bits >> 13 & 0x3FF
    return torch.where(nan, quiet, values.to(torch.float16).view(torch.int16).int()).to(torch.int16)


def widened(x: Tensor, dtype: DType) -> Tensor:
    """Widen storage elements to float32, F64 rounded (``coding.numbers.to_float32``); what NaNs become is not stated."""
    if dtype.name == "BF16":
        return (x.int() << 16).view(torch.float32)
    if dtype.name == "F32":
        return x.view(torch.float32)
    return x.view(torch.float64 if dtype.name == "F64" else torch.float16).float()


@contextmanager
def plainly(device: torch.device) -> Iterator[None]:
    """Calculate in float32, whatever autocast and the precision of products are set to; nothing is flushed to zero."""
    if device.type == "cpu":
        check_subnormals()
    before = torch.get_float32_matmul_precision()
    with torch.autocast(device.type, enabled=False):
        if before != "highest":
            torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            if before != "highest":
                torch.set_float32_matmul_precision(before)


class TorchFloats(TorchMemory):
    """Quantisation, sums, products and rounding."""

    @checked
    def dequantise(
        self, status: Tensor, grid: Grid, start: int, symbols: Tensor, steps: Tensor, zero: int, levels: int, dtype: DType, out: Tensor
    ) -> None:
        """Write step · (symbol − zero), rounded to a float dtype. Fails with UNIFORM-3."""
        with plainly(self.device):
            for at in range(0, symbols.numel(), CHUNK):
                piece = slice(at, at + CHUNK)
                value = unsigned(symbols[piece])
                fail(status, "UNIFORM-3", value >= levels)
                step = self._steps(grid, start, at, value.numel(), steps)
                out[piece] = rounded(step * (value.int() - zero).float(), dtype)

    def _steps(self, grid: Grid, start: int, at: int, count: int, steps: Tensor) -> Tensor:
        """Return the step of each of ``count`` elements from ``at`` of a window on."""
        first = grid.span(start, start + 1)[0] if grid.stride else 0
        if grid.stride == 1 and grid.group >= grid.cols and (start + at) % max(grid.cols, 1) + count <= grid.cols:
            return steps[(start + at) // grid.cols - first]
        elements = torch.arange(start + at, start + at + count, device=self.device)
        row = torch.div(elements, max(grid.cols, 1), rounding_mode="floor")
        column = elements - row * max(grid.cols, 1)
        index = row * grid.stride + torch.div(column, max(grid.group, 1), rounding_mode="floor") - first
        return steps[index]

    def quantise(self, grid: Grid, start: int, x: Any, steps: Any, zero: int, levels: int, out: Any) -> None:
        """Write the symbols nearest to x / step, cut off at 0 and levels − 1; ``zero`` where the step is 0."""
        with plainly(self.device):
            step = self._steps(grid, start, 0, x.numel(), steps).expand(x.numel())
            k = torch.where(step == 0, torch.zeros((), device=self.device), x / step)
            out.copy_((k.clamp(-zero, levels - 1 - zero).round().long() + zero).to(out.dtype))

    @checked
    def add_floats(self, status: Tensor, total: Tensor, x: Tensor) -> None:
        """Add x to total in float32. Fails with SUM-2."""
        fail(status, "SUM-2", x.view(torch.int32).bitwise_and(EXPONENT) == EXPONENT)
        with plainly(self.device):
            total += x

    @verb
    def matmul(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """Write the product of two float32 matrices."""
        with plainly(self.device):
            out.copy_(a @ b)

    @verb
    def round_floats(self, values: Tensor, dtype: DType, out: Tensor) -> None:
        """Round float32 to a float dtype, ties to even; out may be the same memory when that is F32."""
        with plainly(self.device):
            out.copy_(rounded(values, dtype))
