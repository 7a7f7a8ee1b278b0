"""Tokens, raw bits and escaped values put together (spec/codecs/rans.md)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from wcodec.backends.torch.calls import Call
from wcodec.backends.torch.entropy import TorchEntropy
from wcodec.backends.triton.launch import Loose, Work, before_tiles, extent, kind, launch, slot, tiles, variant
from wcodec.backends.triton.runs import Runs, check_runs
from wcodec.backends.triton.tile import TILE, pointer, tile
from wcodec.coding.tokens import Alphabet


@triton.jit
def escapes_kernel(rows, sections, ALIGN: tl.constexpr):
    """Section: escapes of every tile, tokens, count, trellis, escape."""
    row, first, count = tile(rows, sections, 6, 3)
    at = tl.arange(0, TILE)
    inside = at < count
    token = tl.load(pointer(row, 2, tl.uint8, ALIGN) + first + at, mask=inside, other=0).to(tl.uint32)
    escaped = inside & (token >> tl.load(row + 4).to(tl.uint32) == tl.load(row + 5).to(tl.uint32))
    tl.store(pointer(row, 1, tl.int32, 4) + first // TILE, tl.sum(escaped.to(tl.int32), axis=0))


@triton.jit
def _join(row, first, RAW: tl.constexpr, ESCAPES: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr, count):
    at = tl.arange(0, TILE)
    inside = at < count
    token = tl.load(pointer(row, 1, tl.uint8, ALIGN) + first + at, mask=inside, other=0).to(tl.uint32)
    bits, trellis = tl.load(row + 7).to(tl.uint32), tl.load(row + 5).to(tl.uint32)
    k = token >> trellis
    h = tl.where((k == 0) & (tl.load(row + 9) != 0), 0, k + tl.load(row + 8).to(tl.uint32))
    if ESCAPES:
        escaped = inside & (k == tl.load(row + 6).to(tl.uint32))
        scan, known = pointer(row, 10, tl.int64, 8), tl.load(row + 12)
        before = tl.load(scan + first // TILE) - tl.load(scan)
        rank = before + tl.cumsum(escaped.to(tl.int32), 0) - 1
        h = tl.where(escaped, tl.load(pointer(row, 11, tl.uint32, 4) + rank, mask=escaped & (rank < known), other=0), h)
    value = h << (bits + trellis) | (token & trellis)
    if RAW is not None:
        raw = tl.load(pointer(row, 4, RAW, ALIGN) + first + at, mask=inside, other=0).to(tl.uint32)
        value |= (raw & ((tl.full([], 1, tl.uint32) << bits) - 1)) << trellis
    tl.store(pointer(row, 3, VALUE, ALIGN) + first + at, value.to(VALUE), mask=inside)


@triton.jit
def join_tokens_kernel(rows, sections, RAW: tl.constexpr, ESCAPES: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Section: tokens, count, out, raw, trellis, escape, bits, base, zero, escapes before tiles, outliers, their count."""
    row, first, count = tile(rows, sections, 13, 2)
    if count >= TILE:
        _join(row, first, RAW, ESCAPES, VALUE, ALIGN, TILE)
    else:
        _join(row, first, RAW, ESCAPES, VALUE, ALIGN, count)


class TritonTokens(TorchEntropy):
    """Tokens by kernels."""

    def _order_outliers_many(self, calls: Sequence[Call]) -> None:
        checks = []
        for call in calls:
            alphabet, order, counts, tokens, outliers, out = call.arguments
            if order.block:  # then blocks are runs of elements
                out.copy_(outliers)
                escape = alphabet.escape >> alphabet.trellis
                checks.append(Runs(tokens, order.block, counts, int(alphabet.trellis), escape, "RANS-3", slot(call)))
            else:
                TorchEntropy._order_outliers.one(self, call.status, *call.arguments)  # type: ignore[attr-defined]
        check_runs(checks)

    def join_tokens_many(self, calls: Sequence[Call]) -> None:
        """Turn the tokens, raw bits and escaped values of many sections into values."""
        escaped = [i for i, call in enumerate(calls) if call.arguments[0].escape >= 0]
        scans = dict(zip(escaped, before_tiles(escapes_kernel, [_count(*calls[i].arguments[:2]) for i in escaped]), strict=True))
        launch(join_tokens_kernel, [_work(scans.get(i), *call.arguments) for i, call in enumerate(calls)])


def _count(alphabet: Alphabet, tokens: torch.Tensor) -> Work:
    return Work(tiles(tokens.numel()), (tokens, tokens.numel(), int(alphabet.trellis), alphabet.escape >> alphabet.trellis))


def _work(
    scan: Loose | None, alphabet: Alphabet, tokens: torch.Tensor, raw: torch.Tensor | None, outliers: torch.Tensor, out: torch.Tensor
) -> Work:
    count, trellis = extent(tokens, out, *([] if raw is None else [raw])), int(alphabet.trellis)
    escapes = (0, 0, 0) if scan is None else (scan, Loose(outliers), outliers.numel())
    values = (trellis, alphabet.escape >> trellis, alphabet.bits, alphabet.base, int(alphabet.zero))
    constants = {"RAW": None if raw is None else kind(raw), "ESCAPES": scan is not None, "VALUE": kind(out)}
    return Work(tiles(count), (tokens, count, out, 0 if raw is None else raw, *values, *escapes), constants)


KERNELS = [
    variant("escapes", escapes_kernel),
    variant("join tokens", join_tokens_kernel, RAW=tl.uint8, ESCAPES=False, VALUE=tl.uint16),
    variant("join tokens and escapes", join_tokens_kernel, RAW=tl.uint8, ESCAPES=True, VALUE=tl.uint16),
]
