"""Masks in torch (numpy/masks.py): how many positions there are is known before, and checked on the device."""

from __future__ import annotations

from math import comb
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wcodec.backends.torch.arrays import as_tensor, positions, unsigned
from wcodec.backends.torch.calls import checked, fail, verb
from wcodec.backends.torch.floats import plainly, rounded, widened
from wcodec.backends.torch.planes import TorchPlanes
from wcodec.coding import patterns
from wcodec.coding.layouts import Bundles, Groups
from wcodec.types import U32, DType


def compact(kept: Tensor, values: Tensor, out: Tensor) -> Tensor:
    """Write the values that are kept to out, one after the other, as far as there is room; return how many there are."""
    if not kept.numel():
        return torch.zeros(1, dtype=torch.int64, device=out.device)
    rank = kept.cumsum(0)
    room = torch.zeros(out.numel() + 1, dtype=out.dtype, device=out.device)
    room.scatter_(0, torch.where(kept & (rank <= out.numel()), rank - 1, out.numel()), values)
    out.copy_(room[:-1])
    return rank[-1:]


class TorchMasks(TorchPlanes):
    """Positions of what a mask keeps, and values written there."""

    def byte_positions(self, mask: Any, kept: int = 0) -> Any:
        """Return the ascending positions of the bytes that are not zero. Fails with SPARSE-2 unless ``kept`` are."""
        out = self.empty(kept, np.dtype(np.uint32))
        self._kept(mask, "SPARSE-2", out)
        return out

    def bit_positions(self, bits: Any, count: int, kept: int = 0) -> Any:
        """Return the ascending positions of the set bits among the first ``count``. Fails with BITMAP-2 unless ``kept`` are set."""
        mask, out = self.empty(count, np.dtype(np.uint8)), self.empty(kept, np.dtype(np.uint32))
        self.unpack_bits(bits, 1, 0, mask)
        self._kept(mask, "BITMAP-2", out)
        return out

    @checked
    def _kept(self, status: Tensor, mask: Tensor, rule: str, out: Tensor) -> None:
        kept = mask != 0
        found = compact(kept, torch.arange(mask.numel(), dtype=torch.int32, device=self.device), out)
        fail(status, rule, found != out.numel())

    @checked
    def check_counts(self, status: Tensor, found: Tensor, count: int, block: int, counts: U32) -> None:
        """Fail with BITMAP-2 unless every block has its count of the positions."""
        per_block = torch.bincount(unsigned(found) // block, minlength=len(counts))[: len(counts)]
        fail(status, "BITMAP-2", per_block != self._put(counts))

    @checked
    def check_ones(self, status: Tensor, mask: Tensor, block: int, counts: U32) -> None:
        """Fail with DRAW-2 unless every block of a mask has its count of ones."""
        padded = torch.zeros(len(counts) * block, dtype=torch.uint8, device=self.device)
        padded[: mask.numel()] = mask
        fail(status, "DRAW-2", padded.view(-1, block).sum(1) != self._put(counts))

    def _put(self, counts: U32) -> Tensor:
        """Return numbers of the host as int64."""
        return unsigned(as_tensor(counts).to(self.device))

    def place_gaps(self, gaps: Any, counts: U32, block: int, end: int) -> Any:
        """Return the positions that gaps stand for. Fails with GAPS-3."""
        out = self.empty(len(gaps), np.dtype(np.uint32))
        self._place_gaps(gaps, counts, block, end, out)
        return out

    @checked
    def _place_gaps(self, status: Tensor, gaps: Tensor, counts: U32, block: int, end: int, out: Tensor) -> None:
        found, beyond = self._from_gaps(gaps, counts, block)
        fail(status, "GAPS-3", beyond | (found >= end))
        out.copy_(found.to(torch.int32))

    def _from_gaps(self, gaps: Tensor, counts: U32, block: int) -> tuple[Tensor, Tensor]:
        """Return the position of every gap, and whether it lies beyond its block."""
        each = self._put(counts)
        total = (unsigned(gaps).long() + 1).cumsum(0)
        start = torch.cat((torch.zeros(1, dtype=torch.int64, device=self.device), total))
        of = torch.repeat_interleave(torch.arange(len(counts), device=self.device), each, output_size=gaps.numel())
        inside = total - start[each.cumsum(0) - each][of] - 1
        return inside + of * block, inside >= block

    def group_mask(self, found: Any, groups: Groups) -> Any:
        """Return the mask of the patterns of whole units of groups. Fails with NM-2."""
        units = len(found) // max(groups.groups * groups.inner, 1)
        out = self.empty(units * groups.length * groups.inner, np.dtype(np.uint8))
        self._group_mask(found, groups, out)
        return out

    @checked
    def _group_mask(self, status: Tensor, found: Tensor, groups: Groups, out: Tensor) -> None:
        if not out.numel():
            return
        value, kinds = unsigned(found).long(), comb(groups.m, groups.n)
        fail(status, "NM-2", value >= kinds)
        if groups.length % groups.m:
            fail(status, "NM-2", value.view(-1, groups.groups, groups.inner)[:, -1] >= groups.short)
        split = self._unrank(value.clamp_(max=kinds - 1), groups.n, groups.m)
        padded = split.view(-1, groups.groups, groups.inner, groups.m).transpose(2, 3).reshape(-1, groups.groups * groups.m, groups.inner)
        out.copy_(padded[:, : groups.length].reshape(-1))

    def _unrank(self, value: Tensor, n: int, m: int) -> Tensor:
        if (every := patterns.listed(n, m)) is not None:
            return as_tensor(every).view(-1, m).to(self.device).index_select(0, value)
        table = torch.tensor([[comb(i, j) for j in range(m + 1)] for i in range(m)], device=self.device)
        out = torch.empty(value.numel(), m, dtype=torch.uint8, device=self.device)
        left = torch.full_like(value, n)
        for place in range(m - 1, -1, -1):
            below = table[place][left]
            kept = (left > 0) & (value >= below)
            out[:, place] = kept
            value, left = torch.where(kept, value - below, value), left - kept.long()
        return out

    def bundle_mask(self, gaps: Any, counts: U32, bundles: Bundles, order: U32 | None) -> Any:
        """Return the mask of bundles with these counts of groups. order: where their rows belong. Fails with GS-3."""
        out = self.empty(len(counts) * bundles.size, np.dtype(np.uint8))
        self._bundle_mask(gaps, counts, bundles, order, out)
        return out

    @checked
    def _bundle_mask(self, status: Tensor, gaps: Tensor, counts: U32, bundles: Bundles, order: U32 | None, out: Tensor) -> None:
        each = np.repeat(counts, bundles.banks)
        found, beyond = self._from_gaps(gaps, each, bundles.high * bundles.steps)
        lane, at = found // (bundles.high * max(bundles.steps, 1)), found % (bundles.high * max(bundles.steps, 1))
        bundle, bank = lane // bundles.banks, lane % bundles.banks
        row, column = at // max(bundles.steps, 1), at % max(bundles.steps, 1) * bundles.banks + bank
        fail(status, "GS-3", beyond | (column >= bundles.cols))
        mask = torch.zeros(out.numel() + 1, dtype=torch.uint8, device=self.device)
        mask[(bundle * bundles.size + row * bundles.cols + column).clamp_(0, out.numel())] = 1
        rows = mask[:-1].view(len(counts), bundles.high, bundles.cols)
        fail(status, "GS-3", rows.sum(2) != (self._put(counts) * bundles.per_row)[:, None])
        if order is None:
            out.copy_(mask[:-1])
        else:
            out.view(bundles.rows, bundles.cols)[self._put(order)] = rows.view(bundles.rows, bundles.cols)

    @verb
    def mark(self, found: Tensor, out: Tensor) -> None:
        """Write 1 to ascending positions of out, and 0 everywhere else."""
        out.zero_()
        if out.numel():
            out[positions(found, out.numel())] = 1

    @verb
    def scatter(self, found: Tensor, values: Tensor, out: Tensor, clear: bool) -> None:
        """Write values to ascending positions of out; ``clear``: and zeros everywhere else."""
        if clear:
            out.zero_()
        if out.numel():
            out[positions(found, out.numel())] = values

    @verb
    def add_at(self, found: Tensor, values: Tensor, dtype: DType, out: Tensor) -> None:
        """Add values to the floats at ascending positions of out (``coding.numbers.add``)."""
        if not out.numel():
            return
        at = positions(found, out.numel())
        with plainly(self.device):
            if dtype.name == "F64":
                total = out[at].view(torch.float64) + values.view(torch.float64)
                out[at] = torch.where(total.isnan(), 0x7FF8 << 48, total.view(torch.int64))
                return
            wide = widened(out[at], dtype) + widened(values, dtype)
            wide = torch.where(wide.isnan(), 0x7FC00000, wide.view(torch.int32)).view(torch.float32)
            out[at] = rounded(wide, dtype)
