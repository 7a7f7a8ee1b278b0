"""Tokens, raw bits and escaped values put together (spec/codecs/rans.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
import triton
import triton.language as tl

from wcodec.backends.triton.launch import RANS_3, TILE, Work, before_tiles, extent, kind, launch, left, place, pointer, tiles, variant
from wcodec.coding.tokens import Alphabet

Join: TypeAlias = tuple[Alphabet, torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor]


@triton.jit
def escapes_kernel(rows, sections, ALIGN: tl.constexpr):
    """Section: escapes of every tile, tokens, count, trellis, escape."""
    row, block = place(rows, sections, 6)
    first = block * TILE
    at = tl.arange(0, TILE)
    inside = at < left(tl.load(row + 3), first)
    token = tl.load(pointer(row, 2, tl.uint8, ALIGN) + first + at, mask=inside, other=0).to(tl.uint32)
    escaped = inside & (token >> tl.load(row + 4).to(tl.uint32) == tl.load(row + 5).to(tl.uint32))
    tl.store(pointer(row, 1, tl.int32, 4) + block, tl.sum(escaped.to(tl.int32), axis=0))


@triton.jit
def _join(row, block, RAW: tl.constexpr, ESCAPES: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr, count):
    first = block * TILE
    at = tl.arange(0, TILE)
    inside = at < count
    token = tl.load(pointer(row, 1, tl.uint8, ALIGN) + first + at, mask=inside, other=0).to(tl.uint32)
    bits, trellis = tl.load(row + 7).to(tl.uint32), tl.load(row + 5).to(tl.uint32)
    k = token >> trellis
    h = tl.where((k == 0) & (tl.load(row + 9) != 0), 0, k + tl.load(row + 8).to(tl.uint32))
    if ESCAPES:
        escaped = inside & (k == tl.load(row + 6).to(tl.uint32))
        scan, known = pointer(row, 10, tl.int64, 8), tl.load(row + 12)
        before = tl.load(scan + block) - tl.load(scan)
        rank = before + tl.cumsum(escaped.to(tl.int32), 0) - 1
        h = tl.where(escaped, tl.load(pointer(row, 11, tl.uint32, 4) + rank, mask=escaped & (rank < known), other=0), h)
    value = h << (bits + trellis) | (token & trellis)
    if RAW is not None:
        raw = tl.load(pointer(row, 4, RAW, ALIGN) + first + at, mask=inside, other=0).to(tl.uint32)
        value |= (raw & ((tl.full([], 1, tl.uint32) << bits) - 1)) << trellis
    tl.store(pointer(row, 3, VALUE, ALIGN) + first + at, value.to(VALUE), mask=inside)
    if ESCAPES:
        after = before + tl.sum(escaped.to(tl.int32), axis=0)
        if (after > known) | ((after != known) & (first + TILE >= tl.load(row + 2))):
            tl.atomic_or(pointer(row, 13, tl.int32, 4), RANS_3)


@triton.jit
def join_tokens_kernel(rows, sections, RAW: tl.constexpr, ESCAPES: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Section: tokens, count, out, raw, trellis, escape, bits, base, zero, escapes before tiles, outliers, their count, status."""
    row, block = place(rows, sections, 14)
    count = left(tl.load(row + 2), block * TILE)
    if count >= TILE:
        _join(row, block, RAW, ESCAPES, VALUE, ALIGN, TILE)
    else:
        _join(row, block, RAW, ESCAPES, VALUE, ALIGN, count)


def join_tokens_many(calls: Sequence[Join], status: torch.Tensor) -> None:
    """Turn (alphabet, tokens, raw, outliers, out) each into values; ``EntropyVerbs.join_tokens`` for many sections.

    A status is RANS_3 unless there are as many outliers as escape tokens.
    """
    escaped = [i for i, call in enumerate(calls) if call[0].escape >= 0]
    scans = dict(zip(escaped, before_tiles(escapes_kernel, [_count(*calls[i][:2]) for i in escaped]), strict=True))
    launch(join_tokens_kernel, [_work(*call, scans.get(i), status[i]) for i, call in enumerate(calls)])


def _count(alphabet: Alphabet, tokens: torch.Tensor) -> Work:
    return Work(max(1, tiles(tokens.numel())), (tokens, tokens.numel(), int(alphabet.trellis), alphabet.escape >> alphabet.trellis))


def _work(
    alphabet: Alphabet, tokens: torch.Tensor, raw: torch.Tensor | None, outliers: torch.Tensor, out: torch.Tensor,
    scan: torch.Tensor | None, slot: torch.Tensor,
) -> Work:  # fmt: skip
    count, plane = extent(tokens, out, *([] if raw is None else [raw])), tokens if raw is None else raw
    trellis, scan, found = int(alphabet.trellis), slot if scan is None else scan, scan is not None
    fields = [tokens, count, out, plane, trellis, alphabet.escape >> trellis, alphabet.bits, alphabet.base, int(alphabet.zero)]
    constants = {"RAW": None if raw is None else kind(raw), "ESCAPES": found, "VALUE": kind(out)}
    return Work(max(1, tiles(count)), (*fields, scan, outliers, outliers.numel(), slot), constants)


KERNELS = [
    variant("escapes", escapes_kernel),
    variant("join tokens", join_tokens_kernel, RAW=tl.uint8, ESCAPES=False, VALUE=tl.uint16),
    variant("join tokens and escapes", join_tokens_kernel, RAW=tl.uint8, ESCAPES=True, VALUE=tl.uint16),
]
