"""Integers of k bits without gaps (spec/codecs/bitpack.md), and comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from wcodec.backends.torch.calls import Call
from wcodec.backends.torch.planes import TorchPlanes
from wcodec.backends.triton.launch import Loose, Work, extent, kind, launch, tiles, variant
from wcodec.backends.triton.tile import TILE, left, place, pointer, report, tile

DIFFERENT = tl.constexpr(1)
"""Flag of ``same_kernel``."""


@triton.jit
def unpack_kernel(rows, sections, BYTES: tl.constexpr, WORD: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Section: data, size, out, count, width, base. BYTES: how many a value touches, at most. WORD: holds them, but for a ninth."""
    row, block = place(rows, sections, 7)
    data, out = pointer(row, 1, tl.uint8, 1), pointer(row, 3, VALUE, ALIGN)
    width, base = tl.load(row + 5).to(tl.int32), tl.load(row + 6).to(tl.uint64)
    first = block * TILE
    start = (first >> 3) * width
    size = left(tl.load(row + 2), start)
    at = tl.arange(0, TILE)
    byte, shift = (at * width) >> 3, (at * width & 7).to(WORD)
    value = tl.zeros([TILE], WORD)
    for j in tl.static_range(min(BYTES, 8)):
        value |= tl.load(data + start + byte + j, mask=byte + j < size, other=0).to(WORD) << (8 * j)
    value = value >> shift
    if BYTES == 9:
        ninth = tl.load(data + start + byte + 8, mask=byte + 8 < size, other=0).to(WORD)
        value |= (ninth << (63 - shift)) << 1
    value &= tl.full([TILE], 0xFFFFFFFFFFFFFFFF, tl.uint64).to(WORD) >> (WORD.primitive_bitwidth - width).to(WORD)
    tl.store(out + first + at, (value + base).to(VALUE), mask=at < left(tl.load(row + 4), first))


@triton.jit
def pack_kernel(rows, sections, VALUES: tl.constexpr, WORD: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Section: x, count, out, size, width, base. VALUES: of which a byte has bits, at most. A program packs TILE bytes."""
    row, block = place(rows, sections, 7)
    x, out = pointer(row, 1, VALUE, 1), pointer(row, 3, tl.uint8, ALIGN)
    width, base = tl.load(row + 5), tl.load(row + 6).to(tl.uint64)
    first = block * TILE
    start = first * 8 // width
    count = left(tl.load(row + 2), start)
    at, narrow = tl.arange(0, TILE), width.to(tl.int32)
    bit = at * 8 + (first * 8 - start * width).to(tl.int32)
    index, used = bit // narrow, bit % narrow
    ones = tl.full([TILE], 0xFFFFFFFFFFFFFFFF, tl.uint64).to(WORD) >> (WORD.primitive_bitwidth - narrow).to(WORD)
    packed = tl.zeros([TILE], WORD)
    for j in tl.static_range(VALUES):
        value = tl.load(x + start + index + j, mask=index + j < count, other=0).to(tl.uint64) - base
        value = tl.where(index + j < count, value, 0).to(WORD) & ones
        up = j * narrow - used
        packed |= tl.where(up < 8, value << tl.minimum(up, 7).to(WORD), 0) if j else value >> used.to(WORD)
    tl.store(out + first + at, packed.to(tl.uint8), mask=at < left(tl.load(row + 4), first))


@triton.jit
def same_kernel(rows, sections, ALIGN: tl.constexpr):
    """Section: a, b, size, status."""
    row, first, count = tile(rows, sections, 5, 3)
    a, b = pointer(row, 1, tl.uint8, ALIGN), pointer(row, 2, tl.uint8, ALIGN)
    at = tl.arange(0, TILE)
    inside = at < count
    differs = tl.load(a + first + at, mask=inside, other=0) != tl.load(b + first + at, mask=inside, other=0)
    report(pointer(row, 4, tl.int32, 4), differs, DIFFERENT)


class TritonBits(TorchPlanes):
    """Packed bits by kernels."""

    def unpack_bits_many(self, calls: Sequence[Call]) -> None:
        """Unpack the numbers of many sections."""
        launch(unpack_kernel, [_unpack(*call.arguments) for call in calls])

    def pack_bits(self, x: Any, width: int, base: int) -> Any:
        """Pack (x − base) mod 2^n, which fit ``width`` bits."""
        out = x.new_empty(-(-x.numel() * width // 8), dtype=torch.uint8)
        launch(pack_kernel, [_pack(x, width, base, out)])
        return out

    def same(self, a: Any, b: Any) -> bool:
        """Compare two tensors bit for bit; waits for them."""
        status, size = a.new_zeros(1, dtype=torch.int32), extent(a, b) * a.element_size()
        launch(same_kernel, [Work(tiles(size), (a, b, size, Loose(status)))])
        return not status.item()


def _unpack(data: torch.Tensor, width: int, base: int, out: torch.Tensor) -> Work:
    touched, word = next(row for row in UNPACKED if row[0] * 8 >= width + 7)
    constants = {"BYTES": touched, "WORD": word, "VALUE": kind(out)}
    return Work(tiles(out.numel()), (Loose(data), data.numel(), out, out.numel(), width, base), constants)


UNPACKED = ((2, tl.uint32), (3, tl.uint32), (5, tl.uint64), (9, tl.uint64))
"""Bytes that a value touches, at most, and a word for them."""


def _pack(x: torch.Tensor, width: int, base: int, out: torch.Tensor) -> Work:
    touched = 8 if width == 1 else (width + 6) // width + 1
    constants = {"VALUES": touched, "WORD": tl.uint64 if x.element_size() == 8 else tl.uint32, "VALUE": kind(x)}
    return Work(tiles(out.numel()), (Loose(x), x.numel(), out, out.numel(), width, base), constants)


KERNELS = [
    *(variant(f"unpack {8 * touched - 7} bits", unpack_kernel, BYTES=touched, WORD=word, VALUE=tl.uint16) for touched, word in UNPACKED),
    variant("pack 1 bit", pack_kernel, VALUES=8, WORD=tl.uint32, VALUE=tl.uint8),
    variant("pack 12 bits", pack_kernel, VALUES=2, WORD=tl.uint32, VALUE=tl.uint16),
    variant("same", same_kernel),
]
