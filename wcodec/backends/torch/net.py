"""Neural codecs in torch (numpy/net.py): float32 products, which hold every integer of a net exactly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wcodec.backends.torch.arrays import as_tensor
from wcodec.backends.torch.calls import verb
from wcodec.backends.torch.floats import TorchFloats, plainly, rounded
from wcodec.coding.net import CHUNK, Gate, Linear, Net, Numbers, Op, Requantise, Save
from wcodec.coding.trellis import Lattice
from wcodec.types import U8, DType

PIECE = 1 << 22
"""Numbers of the widest layer that are worked on at once."""


class TorchNet(TorchFloats):
    """Nets and steps. What a file states of them stands in numpy's memory."""

    @verb
    def run_net(self, net: Net, latents: Tensor, cols: int, levels: int | U8, out: Tensor) -> None:
        """Run a checked net on a flat matrix of integers below 2^17 in magnitude, 16 rows a band; out may be latents."""
        shape = (-1, CHUNK, max(cols, 1))
        given, made = latents.view(shape), out.view(shape)
        widest = max([CHUNK, *(len(op.weights) for op in net.ops if isinstance(op, Linear))])
        step = max(1, PIECE // (widest * max(cols, 1)))
        ops = [(op, self._numbers_of(op, levels)) for op in net.ops]
        with plainly(self.device):
            for at in range(0, len(given), step):
                k = given[at : at + step]
                made[at : at + step] = k * float(1 << net.shift) + _run(ops, k.clamp(-net.clip, net.clip))

    def _numbers_of(self, op: Op, levels: int | U8) -> list[Tensor]:
        """Return the numbers of an op as float32, those that go with rows as columns."""
        if isinstance(op, Linear):
            return [self._floats(op.weights), self._floats(op.bias)[:, None]]
        if isinstance(op, Requantise):
            half = 1 << op.shifts.astype(np.int64) >> 1
            return [self._floats(half)[:, None], self._floats(np.ldexp(1.0, -op.shifts.astype(np.int32)))[:, None]]
        if isinstance(op, Gate):
            return [self._floats(op.factors[levels][:, None] if isinstance(levels, int) else op.factors[levels].T)]
        return [] if isinstance(op, Save) else [self._floats(1 << op.shifts.astype(np.int64))[:, None]]

    @verb
    def scale(self, x: Tensor, start: int, cols: int, steps: Lattice, dtype: DType, out: Tensor) -> None:
        """Write x times the steps of its elements, flat from ``start`` on in a matrix, rounded to a float dtype."""
        cols = max(cols, 1)
        flat = torch.arange(start, start + x.numel(), device=self.device)
        row = torch.div(flat, cols, rounding_mode="floor")
        rows = self._floats(steps.rows)
        with plainly(self.device):
            each = rows if rows.numel() == 1 else rows[row - start // cols]
            if steps.columns is not None:
                each = each * self._floats(steps.columns)[flat - row * cols]
            out.copy_(rounded(x * each, dtype))

    def _floats(self, values: Numbers) -> Tensor:
        found = np.ascontiguousarray(values, np.float32)
        return as_tensor(found.view(np.uint32)).view(torch.float32).view(found.shape).to(self.device)


def _run(ops: list[tuple[Op, list[Tensor]]], x: Tensor) -> Tensor:
    """Return what the ops make of [bands, 16, columns]."""
    saved = x
    for op, numbers in ops:
        if isinstance(op, Linear):
            x = numbers[0] @ x + numbers[1]
        elif isinstance(op, Requantise):
            x = ((x + numbers[0]) * numbers[1]).floor().clamp(-op.low, op.high)
        elif isinstance(op, Gate):
            x = x * numbers[0]
        elif isinstance(op, Save):
            saved = x
        else:
            x = x + saved * numbers[0]
    return x
