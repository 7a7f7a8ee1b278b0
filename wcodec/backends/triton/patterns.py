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
from wcodec.backends.triton.launch import Loose, Work, kind, launch, slot, tiles, upload, upload_all, variant
from wcodec.backends.triton.masks import clear, starts_of
from wcodec.backends.triton.runs import Runs, check_runs
from wcodec.backends.triton.tile import TILE, flag, left, place, pointer, report, tile
from wcodec.coding.layouts import Groups

NM_2, GS_3 = flag("NM-2"), flag("GS-3")
WIDEST = tl.constexpr(32)
"""Elements of the widest group."""


@triton.jit
def unrank_kernel(rows, sections, PATTERN: tl.constexpr, ALIGN: tl.constexpr):
    """Section: patterns, their count, out, n, m, kinds, groups, inner, kinds of the last group, binomials, status.

    Write the kept elements of every pattern as bits. Binomials: C(i, j) at 33 i + j.
    """
    row, first, count = tile(rows, sections, 12, 2)
    at = tl.arange(0, TILE)
    inside = at < count
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
    row, first, count = tile(rows, sections, 8, 3)
    at = tl.arange(0, TILE)
    inside = at < count
    m, groups, length, inner = tl.load(row + 4), tl.load(row + 5), tl.load(row + 6), tl.load(row + 7)
    line, along = (first + at) // inner, (first + at) % inner
    outer, position = line // length, line % length
    pattern = (outer * groups + position // m) * inner + along
    word = tl.load(pointer(row, 1, tl.uint32, 4) + pattern, mask=inside, other=0)
    tl.store(pointer(row, 2, tl.uint8, ALIGN) + first + at, (word >> (position % m).to(tl.uint32) & 1).to(tl.uint8), mask=inside)


@triton.jit
def bundles_kernel(rows, sections, GAP: tl.constexpr, ALIGN: tl.constexpr):
    """Section: gaps, their count, groups before every bundle, out, columns, banks, rows of a bundle, steps, places of rows, status.

    A program lays one lane; what it keeps is marked in the rows' places.
    """
    row, lane = place(rows, sections, 11)
    cols, banks, high, steps = tl.load(row + 5), tl.load(row + 6), tl.load(row + 7), tl.load(row + 8).to(tl.int32)
    bundle = lane // banks
    bank, before_bundle = lane - bundle * banks, pointer(row, 3, tl.int64, 8) + bundle
    groups = tl.load(before_bundle + 1) - tl.load(before_bundle)
    first = tl.load(before_bundle) * banks + bank * groups
    size = left(tl.load(row + 2), tl.maximum(first, tl.load(row + 2) - groups))
    gaps, out, places = pointer(row, 1, GAP, 1) + first, pointer(row, 4, tl.uint8, 1), pointer(row, 9, tl.int64, 8) + bundle * high
    at = tl.arange(0, TILE)
    bad, before = tl.zeros([TILE], tl.int1), tl.zeros([], tl.int64) - 1
    for begin in range(0, size, TILE):
        inside = begin + at < size
        step = tl.load(gaps + begin + at, mask=inside, other=0).to(tl.int64) + inside.to(tl.int64)
        position = tl.minimum(before + tl.cumsum(step, 0), 0x7FFFFFFF).to(tl.int32)  # a bundle has fewer [GS-1]
        line = position // steps
        column = (position - line * steps).to(tl.int64) * banks + bank
        sound = inside & (line < high) & (column < cols)
        line = tl.load(places + line, mask=sound, other=0)
        tl.store(out + line * cols + column, tl.full([TILE], 1, tl.uint8), mask=sound)
        bad |= inside & ~sound
        before += tl.sum(step, axis=0)
    report(pointer(row, 10, tl.int32, 4), bad, GS_3)


class TritonPatterns(TorchMasks):
    """Masks of a pattern by kernels."""

    def _group_mask_many(self, calls: Sequence[Call]) -> None:
        words = [found.new_empty(found.numel(), dtype=torch.int32) for call in calls for found, _, _ in (call.arguments,)]
        launch(unrank_kernel, [_unrank(bits, slot(call), *call.arguments) for call, bits in zip(calls, words, strict=True)])
        launch(groups_kernel, [_groups(bits, *call.arguments[1:]) for call, bits in zip(calls, words, strict=True)])

    def _bundle_mask_many(self, calls: Sequence[Call]) -> None:
        places, checks = [], []
        for call in calls:
            _, counts, bundles, order, out = call.arguments
            its = np.arange(counts.size * bundles.high) if order is None else order.astype(np.int64)
            each = np.empty(its.size, np.int64)
            each[its] = np.repeat(counts.astype(np.int64) * bundles.per_row, bundles.high)
            places.append(its)
            checks.append(Runs(out, bundles.cols, each, 0, 1, "GS-3", slot(call)))
        clear([call.arguments[4] for call in calls])
        starts = starts_of([call.arguments[1] for call in calls], self.device)
        launch(bundles_kernel, [_bundles(*pair) for pair in zip(starts, upload_all(places, self.device), calls, strict=True)])
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


def _bundles(starts: Loose, places: Loose, call: Call) -> Work:
    gaps, counts, bundles, _, out = call.arguments
    shape = (bundles.cols, bundles.banks, bundles.high, max(bundles.steps, 1))
    fields = (Loose(gaps), gaps.numel(), starts, Loose(out), *shape, places, slot(call))
    return Work(counts.size * bundles.banks, fields, {"GAP": kind(gaps)})


KERNELS = [
    variant("unrank patterns", unrank_kernel, PATTERN=tl.uint8),
    variant("lay groups", groups_kernel),
    variant("lay bundles", bundles_kernel, GAP=tl.uint8),
]
