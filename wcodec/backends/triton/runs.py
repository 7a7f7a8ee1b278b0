"""Counts that a file states for the blocks of its elements, checked on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from wcodec.backends.torch.calls import RULES
from wcodec.backends.triton.launch import Loose, Work, launch, upload_all, variant
from wcodec.backends.triton.tile import TILE, place, pointer
from wcodec.types import U32


@triton.jit
def runs_kernel(rows, sections, ALIGN: tl.constexpr):
    """Section: bytes, their count, block, counts of the blocks, shift, value, status, flag. A program counts in one block."""
    row, block = place(rows, sections, 9)
    data, first = pointer(row, 1, tl.uint8, 1), block * tl.load(row + 3)
    size = tl.minimum(tl.load(row + 2) - first, tl.load(row + 3)).to(tl.int32)
    shift, value = tl.load(row + 5).to(tl.uint32), tl.load(row + 6).to(tl.uint32)
    at = tl.arange(0, TILE)
    found = tl.zeros([TILE], tl.int32)
    for begin in range(0, size, TILE):
        byte = tl.load(data + first + begin + at, mask=begin + at < size, other=0).to(tl.uint32)
        found += ((byte >> shift == value) & (begin + at < size)).to(tl.int32)
    if tl.sum(found, axis=0).to(tl.int64) != tl.load(pointer(row, 4, tl.int64, 8) + block):
        tl.atomic_or(pointer(row, 7, tl.int32, 4), tl.load(row + 8).to(tl.int32))


@dataclass(frozen=True, slots=True)
class Runs:
    """A check: every ``block`` bytes have their count of those that are ``value`` when shifted right."""

    data: torch.Tensor
    block: int
    counts: U32 | npt.NDArray[np.int64]
    shift: int
    value: int
    rule: str
    status: Loose


def check_runs(checks: Sequence[Runs]) -> None:
    """Set the rules' flags where a block has another count."""
    if checks:
        counts = upload_all([check.counts.astype(np.int64) for check in checks], checks[0].data.device)
        launch(runs_kernel, [_work(*pair) for pair in zip(checks, counts, strict=True)])


def _work(check: Runs, counts: Loose) -> Work:
    fields = (Loose(check.data), check.data.numel(), check.block, counts, check.shift, check.value, check.status, RULES[check.rule][0])
    return Work(counts.array.numel(), fields)


KERNELS = [variant("counts of blocks", runs_kernel)]
