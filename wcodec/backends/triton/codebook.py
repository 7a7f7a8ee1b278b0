"""Look-up in a codebook (spec/codecs/codebook.md)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from wcodec.backends.torch.calls import Call
from wcodec.backends.torch.codebook import TorchCodebook
from wcodec.backends.triton.launch import Loose, Work, kind, launch, slot, tiles, variant
from wcodec.backends.triton.tile import TILE, flag, left, pointer, report, tile

CODEBOOK_2 = flag("CODEBOOK-2")


@triton.jit
def _gather(row, first, WIDE: tl.constexpr, INDEX: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr, count):
    indices, centroids, out = pointer(row, 1, INDEX, ALIGN), pointer(row, 3, VALUE, 1), pointer(row, 5, VALUE, ALIGN)
    at = tl.arange(0, TILE)
    inside = at < count
    if WIDE:  # the element of a centroid
        width = tl.load(row + 7)
        start = first // width
        from_start = at + (first - start * width).to(tl.int32)
        nth = from_start // width.to(tl.int32)
        inside = inside & (nth < left(tl.load(row + 2), start))
        entry = tl.load(indices + start + nth, mask=inside, other=0).to(tl.int32)
        place_of = entry.to(tl.int64) * width + (from_start - nth * width.to(tl.int32))
    else:
        entry = tl.load(indices + first + at, mask=inside, other=0).to(tl.int32)
        place_of = entry
    bad = entry >= left(tl.load(row + 4), 0)
    tl.store(out + first + at, tl.load(centroids + place_of, mask=inside & ~bad, other=0), mask=inside)
    report(pointer(row, 8, tl.int32, 4), bad & inside, CODEBOOK_2)


@triton.jit
def gather_kernel(rows, sections, WIDE: tl.constexpr, INDEX: tl.constexpr, VALUE: tl.constexpr, ALIGN: tl.constexpr):
    """Section: indices, their count, centroids, their count, out, its count, width, status. WIDE: width above 1."""
    row, first, count = tile(rows, sections, 9, 6)
    if count >= TILE:
        _gather(row, first, WIDE, INDEX, VALUE, ALIGN, TILE)
    else:
        _gather(row, first, WIDE, INDEX, VALUE, ALIGN, count)


class TritonCodebook(TorchCodebook):
    """Codebooks by kernels."""

    def gather_many(self, calls: Sequence[Call]) -> None:
        """Look up the centroids of many sections."""
        launch(gather_kernel, [_work(slot(call), *call.arguments) for call in calls])


def _work(status: Loose, centroids: torch.Tensor, width: int, indices: torch.Tensor, out: torch.Tensor) -> Work:
    count, entries = min(out.numel(), indices.numel() * width), centroids.numel() // width
    constants = {"WIDE": width > 1, "INDEX": kind(indices), "VALUE": kind(out)}
    return Work(tiles(count), (indices, indices.numel(), Loose(centroids), entries, out, count, width, status), constants)


KERNELS = [
    variant("gather of 1 element", gather_kernel, WIDE=False, INDEX=tl.uint8, VALUE=tl.uint16),
    variant("gather of several elements", gather_kernel, WIDE=True, INDEX=tl.uint16, VALUE=tl.uint16),
]
