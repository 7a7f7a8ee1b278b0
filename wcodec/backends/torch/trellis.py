"""The trellis quantiser in torch (numpy/trellis.py)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wcodec.backends.torch.arrays import unsigned
from wcodec.backends.torch.calls import Call, checked, verb
from wcodec.backends.torch.entropy import TorchEntropy, decoded
from wcodec.backends.torch.floats import TorchFloats, plainly, rounded
from wcodec.backends.torch.rans import branches
from wcodec.coding.rans import Job, Order
from wcodec.coding.trellis import Lattice
from wcodec.types import U32, DType


class TorchTrellis(TorchEntropy, TorchFloats):
    """Symbols of a trellis to floats. Lattices stand in numpy's memory: they have few numbers."""

    @checked
    def trellis_decode(
        self, status: Tensor, job: Job, lut: U32, states: U32, offsets: U32, words: Tensor, lattice: Lattice, dtype: DType, out: Tensor
    ) -> None:
        """Decode a window's tokens, which are the symbols, and dequantise them. Fails with E-6, E-7."""

    def trellis_decode_many(self, calls: Sequence[Call]) -> None:
        """Decode and dequantise many windows. Arguments of a call: those of rans_decode, but lattice, dtype and out."""
        for call, symbols in zip(calls, decoded(calls), strict=True):
            job, (lattice, dtype, out) = call.arguments[0], call.arguments[5:]
            self._dequantise(job.order, job.start, symbols, lattice, dtype, out)

    @verb
    def trellis_dequantise(self, order: Order, start: int, symbols: Tensor, lattice: Lattice, dtype: DType, out: Tensor) -> None:
        """Write what the symbols of a window stand for, rounded to a float dtype."""
        self._dequantise(order, start, symbols, lattice, dtype, out)

    def _dequantise(self, order: Order, start: int, symbols: Tensor, lattice: Lattice, dtype: DType, out: Tensor) -> None:
        z0, count, cols = branches(order, lattice.v, symbols), symbols.numel(), max(order.cols, 1)
        k = 2 * (unsigned(symbols).int() - lattice.zero) + z0
        size = k.abs()
        found = size.float()
        with plainly(self.device):
            if lattice.points.size:
                points = self._floats_of(np.append(np.float32(0), lattice.points))
                found = torch.where(size < points.numel(), points[size.clamp(max=points.numel() - 1)], found)
            found = torch.where(k < 0, -found, found)
            flat = torch.arange(start, start + count, device=self.device)
            row = torch.div(flat, cols, rounding_mode="floor")
            rows = self._floats_of(lattice.rows)
            steps = rows if rows.numel() == 1 else rows[row - start // cols]
            if lattice.columns is not None:
                steps = steps * self._floats_of(lattice.columns)[flat - row * cols]
            out.copy_(rounded(found * steps, dtype))

    def _floats_of(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(self.device)
