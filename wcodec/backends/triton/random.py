"""Philox words and what they become (spec/rng.md)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import triton
import triton.language as tl

from wcodec.backends.torch.calls import Call
from wcodec.backends.torch.random import TorchRandom
from wcodec.backends.triton.floats import FORMATS, narrow
from wcodec.backends.triton.launch import Loose, Work, kind, launch, upload, variant
from wcodec.backends.triton.tile import TILE, left, place, pointer
from wcodec.coding import philox
from wcodec.types import DType


@triton.jit
def words(row, first):
    """Return the words of a tile from the block of word ``first`` on. Fields from 3 on: seed, id, stream."""
    seed = tl.load(row + 3).to(tl.uint64)
    k0, k1 = seed.to(tl.uint32), (seed >> 32).to(tl.uint32)
    counter = (tl.arange(0, TILE // 4) + (first >> 2)).to(tl.uint64)
    x0, x1 = counter.to(tl.uint32), (counter >> 32).to(tl.uint32)
    x2, x3 = tl.zeros_like(x0) + tl.load(row + 4).to(tl.uint32), tl.zeros_like(x0) + tl.load(row + 5).to(tl.uint32)
    a, b = tl.full([], 0xD2511F53, tl.uint32), tl.full([], 0xCD9E8D57, tl.uint32)
    for _ in tl.static_range(10):
        high_a, low_a, high_b, low_b = tl.umulhi(x0, a), x0 * a, tl.umulhi(x2, b), x2 * b
        x0, x1, x2, x3 = high_b ^ x1 ^ k0, low_b, high_a ^ x3 ^ k1, low_a
        k0, k1 = k0 + tl.full([], 0x9E3779B9, tl.uint32), k1 + tl.full([], 0xBB67AE85, tl.uint32)
    return tl.reshape(tl.join(tl.join(x0, x2), tl.join(x1, x3)), [TILE])


@triton.jit
def _numbers(row, first, NORMAL: tl.constexpr, FORMAT: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr, low, count):
    word = words(row, tl.load(row + 6) + first)
    if NORMAL:
        table = pointer(row, 9, tl.uint32, 4)
        number = tl.load(table + (word >> 20).to(tl.int32)).to(tl.float32) * 2.384185791015625e-07
        number = tl.where((word >> 19 & 1) == 1, -number, number)
    else:
        number = ((word >> 9).to(tl.int32) * 2 + (1 - 8388608)).to(tl.float32) * 1.1920928955078125e-07
    scale = tl.load(row + 7).to(tl.uint32).to(tl.float32, bitcast=True)
    decay = tl.load(row + 8).to(tl.uint32).to(tl.float32, bitcast=True)
    at = tl.arange(0, TILE)
    tl.store(pointer(row, 1, VALUE, ALIGN) + first + at, narrow(number * scale * decay, FORMAT), mask=(at >= low) & (at < count))


@triton.jit
def fill_kernel(rows, sections, SKIP: tl.constexpr, NORMAL: tl.constexpr, FORMAT: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Section: out, count, seed, id, stream, start, bits of scale, bits of decay, table of magnitudes.

    SKIP: words of the first block before start; tiles begin with whole blocks.
    """
    row, block = place(rows, sections, 10)
    first = block * TILE - SKIP
    count = left(tl.load(row + 2), first)
    if (SKIP == 0) & (count >= TILE):
        _numbers(row, first, NORMAL, FORMAT, VALUE, ALIGN, 0, TILE)
    else:
        _numbers(row, first, NORMAL, FORMAT, VALUE, ALIGN, -first, count)


@triton.jit
def draw_kernel(rows, sections, SKIP: tl.constexpr, ALIGN: tl.constexpr):
    """Section: out, count, seed, id, stream, start, threshold."""
    row, block = place(rows, sections, 8)
    first = block * TILE - SKIP
    at = tl.arange(0, TILE)
    inside = (at >= -first) & (at < left(tl.load(row + 2), first))
    kept = (words(row, tl.load(row + 6) + first) < tl.load(row + 7).to(tl.uint32)) & inside
    tl.store(pointer(row, 1, tl.uint8, ALIGN) + first + at, kept.to(tl.uint8), mask=inside)


class TritonRandom(TorchRandom):
    """Random numbers by kernels."""

    def philox_fill_many(self, calls: Sequence[Call]) -> None:
        """Write the numbers of many sections."""
        launch(fill_kernel, [_fill(*call.arguments) for call in calls])

    def draw_words_many(self, calls: Sequence[Call]) -> None:
        """Write the drawn masks of many sections."""
        launch(draw_kernel, [_draw(*call.arguments) for call in calls])


def _fill(
    seed: int, id: int, stream: int, how: str, scale: float, decay: float, start: int, dtype: DType, out: torch.Tensor
) -> Work:  # fmt: skip
    reals = [int(np.float32(real).view(np.uint32)) for real in (scale, decay)]
    constants = {"SKIP": start % 4, "NORMAL": how == "normal", "FORMAT": dtype.name, "VALUE": kind(out)}
    return Work(_tiles(start, out), (out, out.numel(), seed, id, stream, start, *reals, Loose(_normals(out.device))), constants)


def _draw(seed: int, id: int, stream: int, threshold: int, start: int, out: torch.Tensor) -> Work:
    return Work(_tiles(start, out), (out, out.numel(), seed, id, stream, start, threshold), {"SKIP": start % 4})


def _tiles(start: int, out: torch.Tensor) -> int:
    """Return how many programs a window needs, whose first tile begins with a whole block."""
    return -(-(out.numel() + start % 4) // TILE.value) if out.numel() else 0


@cache
def _normals(device: torch.device) -> torch.Tensor:
    return upload(philox.normals().view(np.int32), device)


KERNELS = [
    *(variant(f"{name} numbers, {name_of}", fill_kernel, SKIP=0, NORMAL=name == "normal", FORMAT=name_of, VALUE=FORMATS[name_of])
      for name in philox.KINDS for name_of in ("F32", "BF16")),
    variant("draw", draw_kernel, SKIP=0),
]  # fmt: skip
