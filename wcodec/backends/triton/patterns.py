"""Masks of a pattern: n of every m neighbours (spec/codecs/nm.md), and bundles of rows (spec/codecs/gs.md)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import comb

import numpy as np
import torch
import triton
import triton.language as tl

from wcodec.backends.torch.calls import Call
from wcodec.backends.torch.masks import TorchMasks
from wcodec.backends.triton.launch import (
    TILE,
    Loose,
    Work,
    flag,
    kind,
    launch,
    left,
    place,
    pointer,
    report,
    slot,
    tiles,
    upload,
    upload_all,
    variant,
)
from wcodec.backends.triton.masks import clear, place_gaps, starts_of
from wcodec.backends.triton.runs import Runs, check_runs
from wcodec.coding.layouts import Groups

NM_2, GS_3 = flag("NM-2"), flag("GS-3")
WIDEST = tl.constexpr(32)
"""Elements of the widest group."""


@triton.jit
def unrank_kernel(rows, sections, PATTERN: tl.constexpr, ALIGN: tl.constexpr):
    """Section: patterns, their count, out, n, m, kinds, groups, inner, kinds of the last group, binomials, status.

    Write the kept elements of every pattern as bits. Binomials: C(i, j) at 33 i + j.
    """
    row, block = place(rows, sections, 12)
    first = block * TILE
    at = tl.arange(0, TILE)
    inside = at < left(tl.load(row + 2), first)
    rest = tl.load(pointer(row, 1, PATTERN, ALIGN) + first + at, mask=inside, other=0).to(tl.int64)
    groups, inner = tl.load(row + 7), tl.load(row + 8)
    ends = (first + at) // inner % groups == groups - 1
    report(pointer(row, 11, tl.int32, 4), inside & (rest >= tl.where(ends, tl.load(row + 9), tl.load(row + 6))), NM_2)
    binomials, missing = pointer(row, 10, tl.int64, 8), tl.zeros([TILE], tl.int32) + tl.load(row + 4).to(tl.int32)
    word, m = tl.zeros([TILE], tl.uint32), tl.load(row + 5).to(tl.int32)
    for i in range(m):
        position = m - 1 - i
        below = tl.load(binomials + position * (WIDEST + 1) + missing)
        kept = (missing > 0) & (rest >= below)
        word |= kept.to(tl.uint32) << position.to(tl.uint32)
        rest -= tl.where(kept, below, 0)
        missing -= kept.to(tl.int32)
    tl.store(pointer(row, 3, tl.uint32, ALIGN) + first + at, word, mask=inside)


@triton.jit
def groups_kernel(rows, sections, ALIGN: tl.constexpr):
    """Section: patterns as bits, out, count, m, groups, length, inner. Lay the groups over the mask."""
    row, block = place(rows, sections, 8)
    first = block * TILE
    at = tl.arange(0, TILE)
    inside = at < left(tl.load(row + 3), first)
    m, groups, length, inner = tl.load(row + 4), tl.load(row + 5), tl.load(row + 6), tl.load(row + 7)
    line, along = (first + at) // inner, (first + at) % inner
    outer, position = line // length, line % length
    pattern = (outer * groups + position // m) * inner + along
    word = tl.load(pointer(row, 1, tl.uint32, 4) + pattern, mask=inside, other=0)
    tl.store(pointer(row, 2, tl.uint8, ALIGN) + first + at, (word >> (position % m).to(tl.uint32) & 1).to(tl.uint8), mask=inside)


@triton.jit
def bundles_kernel(rows, sections, ALIGN: tl.constexpr):
    """Section: positions in lanes, their count, out, rows, columns, banks, rows of a bundle, steps, places of rows, status."""
    row, block = place(rows, sections, 11)
    first = block * TILE
    at = tl.arange(0, TILE)
    inside = at < left(tl.load(row + 2), first)
    position = tl.load(pointer(row, 1, tl.uint32, ALIGN) + first + at, mask=inside, other=0).to(tl.int64)
    cols, banks, high, steps = tl.load(row + 5), tl.load(row + 6), tl.load(row + 7), tl.load(row + 8)
    lane, of_lane = position // (high * steps), position % (high * steps)
    line, column = lane // banks * high + of_lane // steps, of_lane % steps * banks + lane % banks
    sound = inside & (line < tl.load(row + 4)) & (column < cols)
    line = tl.load(pointer(row, 9, tl.int64, 8) + line, mask=sound, other=0)
    tl.store(pointer(row, 3, tl.uint8, 1) + line * cols + column, tl.full([TILE], 1, tl.uint8), mask=sound)
    report(pointer(row, 10, tl.int32, 4), inside & ~sound, GS_3)


class TritonPatterns(TorchMasks):
    """Masks of a pattern by kernels."""

    def _group_mask_many(self, calls: Sequence[Call]) -> None:
        words = [found.new_empty(found.numel(), dtype=torch.int32) for call in calls for found, _, _ in (call.arguments,)]
        launch(unrank_kernel, [_unrank(bits, slot(call), *call.arguments) for call, bits in zip(calls, words, strict=True)])
        launch(groups_kernel, [_groups(bits, *call.arguments[1:]) for call, bits in zip(calls, words, strict=True)])

    def _bundle_mask_many(self, calls: Sequence[Call]) -> None:
        found = [gaps.new_empty(gaps.numel(), dtype=torch.int32) for call in calls for gaps, *_ in (call.arguments,)]
        lanes, places, checks = [], [], []
        for call, positions in zip(calls, found, strict=True):
            gaps, counts, bundles, order, out = call.arguments
            its = np.arange(counts.size * bundles.high) if order is None else order.astype(np.int64)
            each = np.empty(its.size, np.uint32)
            each[its] = np.repeat(counts * np.uint32(bundles.per_row), bundles.high)
            lanes.append((gaps, np.repeat(counts, bundles.banks), bundles.high * bundles.steps, 2**32, positions))
            places.append(its)
            checks.append(Runs(out, bundles.cols, each, 0, 1, "GS-3", slot(call)))
        starts = starts_of([counts for _, counts, *_ in lanes], self.device)
        place_gaps([(its, slot(call), *lane) for call, its, lane in zip(calls, starts, lanes, strict=True)], "GS-3")
        clear([call.arguments[4] for call in calls])
        sent = upload_all(places, self.device)
        launch(bundles_kernel, [_bundles(*pair) for pair in zip(found, sent, calls, strict=True)])
        check_runs(checks)


@cache
def _binomials(device: torch.device) -> torch.Tensor:
    table = [[comb(i, j) for j in range(WIDEST.value + 1)] for i in range(WIDEST.value)]
    return upload(np.array(table, np.int64).reshape(-1), device)


def _unrank(bits: torch.Tensor, status: Loose, found: torch.Tensor, groups: Groups, out: torch.Tensor) -> Work:
    kinds = comb(groups.m, groups.n)
    short = min(kinds, groups.short) if groups.length % groups.m else kinds
    shape = (groups.n, groups.m, kinds, max(groups.groups, 1), max(groups.inner, 1), short)
    fields = (found, found.numel(), bits, *shape, Loose(_binomials(out.device)), status)
    return Work(tiles(found.numel()), fields, {"PATTERN": kind(found)})


def _groups(bits: torch.Tensor, groups: Groups, out: torch.Tensor) -> Work:
    return Work(tiles(out.numel()), (Loose(bits), out, out.numel(), groups.m, groups.groups, groups.length, groups.inner))


def _bundles(positions: torch.Tensor, places: Loose, call: Call) -> Work:
    _, counts, bundles, _, out = call.arguments
    shape = (counts.size * bundles.high, bundles.cols, bundles.banks, bundles.high, bundles.steps)
    return Work(tiles(positions.numel()), (positions, positions.numel(), Loose(out), *shape, places, slot(call)))


KERNELS = [
    variant("unrank patterns", unrank_kernel, PATTERN=tl.uint8),
    variant("lay groups", groups_kernel),
    variant("lay bundles", bundles_kernel),
]
