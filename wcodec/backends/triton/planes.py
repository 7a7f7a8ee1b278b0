"""Storage elements split into symbols and rest planes, and joined (spec/codecs/planes.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from wcodec.backends.numpy.planes import COUNTED as RUN
from wcodec.backends.numpy.planes import Planes
from wcodec.backends.torch.arrays import as_array
from wcodec.backends.torch.calls import Call
from wcodec.backends.torch.planes import TorchPlanes
from wcodec.backends.triton.launch import Loose, Work, extent, kind, launch, tiles, variant
from wcodec.backends.triton.tile import TILE, pointer, tile
from wcodec.types import U64

COUNTED = tl.constexpr(RUN)
LAST, IN_SYMBOL = tl.constexpr(1), tl.constexpr(2)
"""Where the sign goes (``coding.floats``)."""


@triton.jit
def _join(row, first, SIGN: tl.constexpr, PLANES: tl.constexpr, SYMBOL: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr, count):
    WORD: tl.constexpr = tl.uint64 if VALUE.primitive_bitwidth == 64 else tl.uint32
    rest = tl.load(row + 4).to(WORD)
    at = tl.arange(0, TILE)
    inside = at < count
    low = tl.zeros([TILE], WORD)
    for i in tl.static_range(PLANES):
        low |= tl.load(pointer(row, 5 + i, tl.uint8, ALIGN) + first + at, mask=inside, other=0).to(WORD) << (8 * i)
    low &= (tl.full([], 1, WORD) << rest) - 1
    symbol = tl.load(pointer(row, 1, SYMBOL, ALIGN) + first + at, mask=inside, other=0).to(WORD)
    if SIGN == IN_SYMBOL:
        value = (symbol >> 1) << rest | low | symbol << (VALUE.primitive_bitwidth - 1)
    else:
        value = symbol << rest | low
        if SIGN == LAST:
            value = value.to(VALUE)
            value = value >> 1 | value << (VALUE.primitive_bitwidth - 1)
    tl.store(pointer(row, 2, VALUE, ALIGN) + first + at, value.to(VALUE), mask=inside)


@triton.jit
def join_kernel(rows, sections, SIGN: tl.constexpr, PLANES: tl.constexpr, SYMBOL: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Section: symbol, out, count, rest bits, the rest planes, lowest first."""
    row, first, count = tile(rows, sections, 5 + PLANES, 3)
    if count >= TILE:  # nothing masked: whole vectors are loaded and stored
        _join(row, first, SIGN, PLANES, SYMBOL, VALUE, ALIGN, TILE)
    else:
        _join(row, first, SIGN, PLANES, SYMBOL, VALUE, ALIGN, count)


@triton.jit
def _split(row, first, SIGN: tl.constexpr, PLANES: tl.constexpr, SYMBOL: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr, count):
    rest = tl.load(row + 4).to(VALUE)
    at = tl.arange(0, TILE)
    inside = at < count
    x = tl.load(pointer(row, 2, VALUE, ALIGN) + first + at, mask=inside, other=0)
    top = x >> (VALUE.primitive_bitwidth - 1)
    value = x << 1 | top if SIGN == LAST else x
    symbol = value >> rest
    if SIGN == IN_SYMBOL:
        symbol = ((x << 1) >> 1 >> rest) << 1 | top
    tl.store(pointer(row, 1, SYMBOL, ALIGN) + first + at, symbol.to(SYMBOL), mask=inside)
    value &= (tl.full([], 1, VALUE) << rest) - 1
    for i in tl.static_range(PLANES):
        tl.store(pointer(row, 5 + i, tl.uint8, ALIGN) + first + at, (value >> (8 * i)).to(tl.uint8), mask=inside)


@triton.jit
def split_kernel(rows, sections, SIGN: tl.constexpr, PLANES: tl.constexpr, SYMBOL: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Section: as for ``join_kernel``, the other way round."""
    row, first, count = tile(rows, sections, 5 + PLANES, 3)
    if count >= TILE:
        _split(row, first, SIGN, PLANES, SYMBOL, VALUE, ALIGN, TILE)
    else:
        _split(row, first, SIGN, PLANES, SYMBOL, VALUE, ALIGN, count)


@triton.jit
def tokens_kernel(rows, sections, SYMBOL: tl.constexpr, ALIGN: tl.constexpr):
    """Section: symbols, count, tokens, base, counted, counts, seen, extremes. What ``split_tokens`` says of symbols and makes of them.

    counted: symbols of every COUNTED that are counted; the others are only seen. extremes: lowest above 0, and highest.
    """
    row, first, count = tile(rows, sections, 9, 2)
    at = tl.arange(0, TILE)
    inside = at < count
    symbol = tl.load(pointer(row, 1, SYMBOL, ALIGN) + first + at, mask=inside, other=0).to(tl.int32)
    token = tl.maximum(symbol - tl.load(row + 4).to(tl.int32), 0) & 255
    tl.store(pointer(row, 3, tl.uint8, ALIGN) + first + at, token.to(tl.uint8), mask=inside)
    counted = (first & (COUNTED - 1)) + at < tl.load(row + 5)
    bins = tl.arange(0, 256)
    counts, seen = tl.histogram(token, 256, mask=inside & counted), tl.histogram(token, 256, mask=inside & ~counted)
    tl.atomic_add(pointer(row, 6, tl.int64, 8) + bins, counts.to(tl.int64), mask=counts > 0)
    tl.store(pointer(row, 7, tl.uint8, 1) + bins, tl.full([256], 1, tl.uint8), mask=seen > 0)
    extremes = pointer(row, 8, tl.int32, 4)
    tl.atomic_min(extremes, tl.min(tl.where(inside & (symbol > 0), symbol, 1 << SYMBOL.primitive_bitwidth), axis=0))
    tl.atomic_max(extremes + 1, tl.max(symbol, axis=0))


class TritonPlanes(TorchPlanes):
    """Splitting and joining by kernels."""

    def join_planes_many(self, calls: Sequence[Call]) -> None:
        """Join the symbols and rest planes of many sections."""
        launch(join_kernel, [_work(*call.arguments) for call in calls])

    def split_planes(self, split: Planes, x: Any) -> tuple[Any, list[Any]]:
        """Split elements into symbols and rest planes, lowest first."""
        symbol = x.new_empty(x.numel(), dtype=torch.uint8 if split.bits - split.rest <= 8 else torch.int16)
        rest = [x.new_empty(x.numel(), dtype=torch.uint8) for _ in range(split.count)]
        launch(split_kernel, [_work(split, symbol, rest, x)])
        return symbol, rest

    def split_tokens(self, split: Planes, x: Any, base: int, every: int, tokens: Any, rest: Sequence[Any]) -> tuple[U64, Any, int, int]:
        """Split elements into tokens and rest planes; counts come back to the host."""
        symbol = x.new_empty(x.numel(), dtype=torch.uint8 if split.bits - split.rest <= 8 else torch.int16)
        top = split.rest % 8
        planes = [*rest[:-1], x.new_empty(x.numel(), dtype=torch.uint8)] if top else rest
        launch(split_kernel, [_work(split, symbol, planes, x)])
        if top:
            rest[-1].copy_(self.pack_bits(planes[-1], top, 0))
        counts, seen = x.new_zeros(256, dtype=torch.int64), x.new_zeros(256, dtype=torch.uint8)
        extremes = torch.tensor([1 << 8 * symbol.element_size(), 0], dtype=torch.int32, device=x.device)
        fields = (symbol, extent(symbol, tokens), tokens, base, RUN // every, Loose(counts), Loose(seen), Loose(extremes))
        launch(tokens_kernel, [Work(tiles(x.numel()), fields, {"SYMBOL": kind(symbol)})])
        lowest, highest = extremes.tolist()
        return as_array(counts).astype(np.uint64), as_array(seen), lowest, highest


def _work(split: Planes, symbol: torch.Tensor, rest: Sequence[torch.Tensor], x: torch.Tensor) -> Work:
    count = extent(x, symbol, *rest)
    constants = {"SIGN": split.sign, "PLANES": len(rest), "SYMBOL": kind(symbol), "VALUE": kind(x)}
    return Work(tiles(count), (symbol, x, count, split.rest, *rest), constants)


KERNELS = [
    variant(f"{name} {bits} bits, sign {sign}", kernel, SIGN=sign, PLANES=planes, SYMBOL=tl.uint8, VALUE=value)
    for name, kernel in (("join", join_kernel), ("split", split_kernel))
    for bits, sign, planes, value in ((16, 0, 1, tl.uint16), (16, 2, 1, tl.uint16), (32, 1, 3, tl.uint32), (64, 0, 7, tl.uint64))
] + [variant("tokens of symbols", tokens_kernel, SYMBOL=tl.uint8)]
