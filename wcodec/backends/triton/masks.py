"""Positions of what masks keep, and values written there (spec/codecs/bitmap.md, gaps.md, sparse.md).

How many positions there are is known before; kernels never write beyond them, and report when there are others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from wcodec.backends.torch.calls import RULES, Call, checked
from wcodec.backends.torch.masks import TorchMasks
from wcodec.backends.triton.floats import FORMATS, narrow, widen
from wcodec.backends.triton.launch import Loose, Work, before_tiles, extent, kind, launch, slot, tiles, upload_all, variant
from wcodec.backends.triton.runs import Runs, check_runs
from wcodec.backends.triton.tile import TILE, flag, left, place, pointer, report, tile
from wcodec.types import U32, DType

BITMAP_2, GAPS_3 = flag("BITMAP-2"), flag("GAPS-3")


@triton.jit
def _kept(mask, first, count, PACKED: tl.constexpr):
    """Return the elements of a tile that are kept, as 0 and 1. first: a multiple of 8."""
    at = tl.arange(0, TILE)
    inside = at < left(count, first)
    if PACKED:
        found = tl.load(mask + (first >> 3) + (at >> 3), mask=inside, other=0).to(tl.int32) >> (at & 7) & 1
    else:
        found = (tl.load(mask + first + at, mask=inside, other=0) != 0).to(tl.int32)
    return found


@triton.jit
def count_kernel(rows, sections, PACKED: tl.constexpr, ALIGN: tl.constexpr):
    """Section: kept elements of every tile, mask, count. PACKED: the mask is bits."""
    row, block = place(rows, sections, 4)
    found = _kept(pointer(row, 2, tl.uint8, ALIGN), block * TILE, tl.load(row + 3), PACKED)
    tl.store(pointer(row, 1, tl.int32, 4) + block, tl.sum(found, axis=0))


@triton.jit
def positions_kernel(rows, sections, PACKED: tl.constexpr, ALIGN: tl.constexpr):
    """Section: kept elements before every tile, mask, count, out, its count, status, flag."""
    row, block = place(rows, sections, 8)
    scan, room, first = pointer(row, 1, tl.int64, 8), tl.load(row + 5), block * TILE
    kept = _kept(pointer(row, 2, tl.uint8, ALIGN), first, tl.load(row + 3), PACKED)
    before = tl.load(scan + block) - tl.load(scan)
    rank = before + tl.cumsum(kept, 0) - 1
    position = (first + tl.arange(0, TILE)).to(tl.uint32)
    tl.store(pointer(row, 4, tl.uint32, 4) + rank, position, mask=(kept != 0) & (rank < room))
    after = before + tl.sum(kept, axis=0)
    if (first + TILE >= tl.load(row + 3)) & (after != room):
        tl.atomic_or(pointer(row, 6, tl.int32, 4), tl.load(row + 7).to(tl.int32))


@triton.jit
def gaps_kernel(rows, sections, GAP: tl.constexpr, ALIGN: tl.constexpr):
    """Section: gaps, their count, gaps before every block, block, end, out, status. A program adds up the gaps of one block."""
    row, number = place(rows, sections, 8)
    gaps, out, starts = pointer(row, 1, GAP, 1), pointer(row, 6, tl.uint32, 1), pointer(row, 3, tl.int64, 8) + number
    first, block = tl.load(starts), tl.load(row + 4)
    size = (tl.minimum(tl.load(starts + 1), tl.load(row + 2)) - first).to(tl.int32)
    start, end = number * block, tl.load(row + 5)
    at = tl.arange(0, TILE)
    bad, before = tl.zeros([TILE], tl.int32), start - 1
    for begin in range(0, size, TILE):
        inside = begin + at < size
        step = tl.load(gaps + first + begin + at, mask=inside, other=0).to(tl.int64) + inside.to(tl.int64)
        position = before + tl.cumsum(step, 0)
        bad |= (inside & ((position >= start + block) | (position >= end))).to(tl.int32)
        tl.store(out + first + begin + at, position.to(tl.uint32), mask=inside)
        before += tl.sum(step, axis=0)
    report(pointer(row, 7, tl.int32, 4), bad, GAPS_3)


@triton.jit
def bounds_kernel(rows, sections, ALIGN: tl.constexpr):
    """Section: ascending positions, positions before every block, blocks, block, status: do the first and last of each lie in it?"""
    row, first, count = tile(rows, sections, 6, 3)
    at = tl.arange(0, TILE)
    inside = at < count
    found, starts, block = pointer(row, 1, tl.uint32, 4), pointer(row, 2, tl.int64, 8) + first, tl.load(row + 4)
    low, high = tl.load(starts + at, mask=inside, other=0), tl.load(starts + 1 + at, mask=inside, other=0)
    some = inside & (high > low)
    begin = (first + at) * block
    bad = tl.load(found + low, mask=some, other=0).to(tl.int64) < begin
    bad |= tl.load(found + high - 1, mask=some, other=0).to(tl.int64) >= begin + block
    report(pointer(row, 5, tl.int32, 4), some & bad, BITMAP_2)


@triton.jit
def clear_kernel(rows, sections, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Section: out, count."""
    row, first, count = tile(rows, sections, 3, 2)
    at = tl.arange(0, TILE)
    out = pointer(row, 1, VALUE, ALIGN) + first
    if count >= TILE:
        tl.store(out + at, tl.zeros([TILE], VALUE), mask=at < TILE)
    else:
        tl.store(out + at, tl.zeros([TILE], VALUE), mask=at < count)


@triton.jit
def _targets(rows, sections, ALIGN: tl.constexpr):
    """Return the section's row, elements of the tile, where they go, and which of those places are in the array.

    Section: positions, their count, out, its count, values.
    """
    row, first, count = tile(rows, sections, 6, 2)
    at = tl.arange(0, TILE)
    position = tl.load(pointer(row, 1, tl.uint32, ALIGN) + first + at, mask=at < count, other=0).to(tl.int64)
    return row, first + at, position, (at < count) & (position < tl.load(row + 4))


@triton.jit
def scatter_kernel(rows, sections, MARK: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Write values to their places. MARK: write ones."""
    row, element, position, inside = _targets(rows, sections, ALIGN)
    if MARK:  # noqa: SIM108 - a kernel has no such expression
        value = tl.full([TILE], 1, VALUE)
    else:
        value = tl.load(pointer(row, 5, VALUE, ALIGN) + element, mask=inside, other=0)
    tl.store(pointer(row, 3, VALUE, 1) + position, value, mask=inside)


@triton.jit
def add_at_kernel(rows, sections, FORMAT: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Add values to what stands in their places."""
    row, element, position, inside = _targets(rows, sections, ALIGN)
    out = pointer(row, 3, VALUE, 1) + position
    total = widen(tl.load(out, mask=inside, other=0), FORMAT)
    total = total + widen(tl.load(pointer(row, 5, VALUE, ALIGN) + element, mask=inside, other=0), FORMAT)
    if FORMAT == "F64":
        quiet = tl.full([TILE], 0x7FF8000000000000, tl.uint64)
        value = tl.where(total != total, quiet, total.to(tl.uint64, bitcast=True))
    else:
        quiet = tl.full([TILE], 0x7FC00000, tl.uint32).to(tl.float32, bitcast=True)
        value = narrow(tl.where(total != total, quiet, total), FORMAT)
    tl.store(out, value, mask=inside)


class TritonMasks(TorchMasks):
    """Positions and scattered values by kernels."""

    def bit_positions(self, bits: Any, count: int, kept: int = 0) -> Any:
        """Return the ascending positions of the set bits among the first ``count``. Fails with BITMAP-2 unless ``kept`` are set."""
        out = self.empty(kept, np.dtype(np.uint32))
        self._kept_bits(bits, count, out)
        return out

    @checked
    def _kept_bits(self, status: torch.Tensor, bits: torch.Tensor, count: int, out: torch.Tensor) -> None:
        """Write the positions of set bits (``_kept_bits_many``)."""

    def _kept_bits_many(self, calls: Sequence[Call]) -> None:
        _positions([(bits, count, out, "BITMAP-2", slot(call)) for call in calls for bits, count, out in (call.arguments,)], True)

    def _kept_many(self, calls: Sequence[Call]) -> None:
        _positions([(mask, mask.numel(), out, rule, slot(call)) for call in calls for mask, rule, out in (call.arguments,)], False)

    def _place_gaps_many(self, calls: Sequence[Call]) -> None:
        starts = starts_of([call.arguments[1] for call in calls], self.device)
        launch(gaps_kernel, [_gaps(slot(call), its, *call.arguments) for call, its in zip(calls, starts, strict=True)])

    def check_counts_many(self, calls: Sequence[Call]) -> None:
        """Check the counts of positions of the blocks of many masks."""
        starts = starts_of([call.arguments[3] for call in calls], self.device)
        work = [
            Work(tiles(its.array.numel() - 1), (Loose(call.arguments[0]), its, its.array.numel() - 1, call.arguments[2], slot(call)))
            for call, its in zip(calls, starts, strict=True)
        ]
        launch(bounds_kernel, work)

    def check_ones_many(self, calls: Sequence[Call]) -> None:
        """Check the counts of ones of the blocks of many masks."""
        check_runs([Runs(mask, block, counts, 0, 1, "DRAW-2", slot(call)) for call in calls for mask, block, counts in (call.arguments,)])

    def mark_many(self, calls: Sequence[Call]) -> None:
        """Write 1 to the positions of many masks, and 0 everywhere else."""
        clear([out for call in calls for _, out in (call.arguments,)])
        work = [_scatter(found, None, out) for call in calls for found, out in (call.arguments,)]
        launch(scatter_kernel, work)

    def scatter_many(self, calls: Sequence[Call]) -> None:
        """Write the values of many sections to their positions."""
        clear([out for call in calls for _, _, out, clear in (call.arguments,) if clear])
        launch(scatter_kernel, [_scatter(found, values, out) for call in calls for found, values, out, _ in (call.arguments,)])

    def add_at_many(self, calls: Sequence[Call]) -> None:
        """Add values to the floats at the positions of many sections."""
        launch(add_at_kernel, [_add_at(*call.arguments) for call in calls])


def _positions(masks: Sequence[tuple[torch.Tensor, int, torch.Tensor, str, Loose]], packed: bool) -> None:
    """Write positions, for (mask, count, out, rule, status) each."""
    constants = {"PACKED": packed}
    scans = before_tiles(count_kernel, [Work(max(1, tiles(count)), (mask, count), constants) for mask, count, *_ in masks])
    work = []
    for (mask, count, out, rule, status), scan in zip(masks, scans, strict=True):
        work.append(Work(scan.array.numel(), (scan, mask, count, Loose(out), out.numel(), status, RULES[rule][0]), constants))
    launch(positions_kernel, work)


def starts_of(counts: Sequence[U32], device: torch.device) -> list[Loose]:
    """Return how many there are before every block, and in all, for the blocks of each section."""
    return upload_all([np.concatenate((np.zeros(1, np.int64), np.cumsum(its, dtype=np.int64))) for its in counts], device)


def _gaps(status: Loose, starts: Loose, gaps: torch.Tensor, counts: U32, block: int, end: int, out: torch.Tensor) -> Work:
    fields = (Loose(gaps), extent(gaps, out), starts, block, end, Loose(out), status)
    return Work(counts.size, fields, {"GAP": kind(gaps)})


def clear(arrays: Sequence[torch.Tensor]) -> None:
    """Write zeros to arrays."""
    launch(clear_kernel, [Work(tiles(out.numel()), (out, out.numel()), {"VALUE": kind(out)}) for out in arrays])


def _scatter(found: torch.Tensor, values: torch.Tensor | None, out: torch.Tensor) -> Work:
    count = extent(found) if values is None else extent(found, values)
    constants = {"MARK": values is None, "VALUE": kind(out)}
    return Work(tiles(count), (found, count, Loose(out), out.numel(), 0 if values is None else values), constants)


def _add_at(found: torch.Tensor, values: torch.Tensor, dtype: DType, out: torch.Tensor) -> Work:
    count = extent(found, values)
    return Work(tiles(count), (found, count, Loose(out), out.numel(), values), {"FORMAT": dtype.name, "VALUE": kind(out)})


KERNELS = [
    *(
        variant(f"{name} of {'bits' if packed else 'bytes'}", kernel, PACKED=packed)
        for name, kernel in (("counts", count_kernel), ("positions", positions_kernel))
        for packed in (True, False)
    ),
    variant("positions of gaps", gaps_kernel, GAP=tl.uint8),
    variant("bounds of blocks", bounds_kernel),
    variant("clear", clear_kernel, VALUE=tl.uint16),
    variant("mark", scatter_kernel, MARK=True, VALUE=tl.uint8),
    variant("scatter", scatter_kernel, MARK=False, VALUE=tl.uint16),
    *(variant(f"add {name} at positions", add_at_kernel, FORMAT=name, VALUE=value) for name, value in FORMATS.items()),
]
