"""One launch for many sections: a row of fields for each, and for every program the section that it works on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import triton.language as tl

from wcodec.backends.torch.calls import Call
from wcodec.backends.triton.tile import TILE

WARPS = 4
WORDS = {1: tl.uint8, 2: tl.uint16, 4: tl.uint32, 8: tl.uint64}
"""Kernels' types of storage elements, by bytes. Tensors have torch's signed types: the same bits."""

Kernel: TypeAlias = tuple[str, Any, dict[str, str], dict[str, Any]]
"""A kernel to compile: name, function, types of its arguments, constants."""


@dataclass(frozen=True, slots=True)
class Loose:
    """An array from which single elements are loaded, not vectors: its alignment does not matter."""

    array: torch.Tensor


Field: TypeAlias = int | torch.Tensor | Loose


@dataclass(frozen=True, slots=True)
class Work:
    """What a launch does for one section. programs: how many. fields: integers, or arrays that stand for their addresses.

    constants: of the kernel; sections that have the same share a launch.
    """

    programs: int
    fields: Sequence[Field]
    constants: dict[str, Any] = field(default_factory=dict)


def launch(kernel: Any, work: Iterable[Work]) -> None:
    """Run a kernel over the programs of many sections, in as few launches as constants and alignment of addresses allow."""
    groups: dict[tuple[Any, ...], list[Work]] = {}
    for item in work:
        if item.programs:
            aligned = all(not isinstance(f, torch.Tensor) or f.data_ptr() % 16 == 0 for f in item.fields)
            groups.setdefault((16 if aligned else 1, *item.constants.values()), []).append(item)
    for (align, *_), items in groups.items():
        rows, sections = _tables(items)
        fixed = items[0].constants | {"ALIGN": align}
        kernel[(sections.numel(),)](rows, sections, **fixed, num_warps=WARPS, enable_fp_fusion=False)


def before_tiles(kernel: Any, work: Sequence[Work]) -> list[Loose]:
    """Run a kernel that counts something in every tile, its first field being where.

    Returns for each section how many there are before each of its tiles, in all sections together: a scan of which the host learns nothing.
    """
    if not work:
        return []
    sizes = [item.programs for item in work]
    totals = torch.empty(sum(sizes), dtype=torch.int32, device=_device(work[0]))
    pieces = totals.split(sizes)
    launch(kernel, [Work(item.programs, (Loose(piece), *item.fields), item.constants) for item, piece in zip(work, pieces, strict=True)])
    return [Loose(piece) for piece in (totals.cumsum(0) - totals).split(sizes)]


def _array(value: Field) -> torch.Tensor | None:
    return value.array if isinstance(value, Loose) else value if isinstance(value, torch.Tensor) else None


def _device(item: Work) -> torch.device:
    return next(array.device for value in item.fields if (array := _array(value)) is not None)


def _number(value: Field) -> int:
    """Return the 64 bits of a field as a signed number."""
    array = _array(value)
    bits = array.data_ptr() if array is not None else value
    assert isinstance(bits, int)
    return (bits + 2**63) % 2**64 - 2**63


def _tables(items: Sequence[Work]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows [sections, 1 + fields], each beginning with its first program, and the section of every program."""
    first = [0, *accumulate(item.programs for item in items)]
    rows = [[at, *map(_number, item.fields)] for at, item in zip(first, items, strict=False)]
    device = _device(items[0])
    programs = upload(np.array([item.programs for item in items], np.int64), device)
    numbers = torch.arange(len(items), dtype=torch.int32, device=device)
    return upload(np.array(rows, np.int64), device), torch.repeat_interleave(numbers, programs, output_size=first[-1])


def upload(x: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Copy control data to a device without waiting for it."""
    found = torch.from_numpy(x)
    return found if device.type == "cpu" else found.pin_memory().to(device, non_blocking=True)


def upload_all(arrays: Sequence[npt.NDArray[np.int64]], device: torch.device) -> list[Loose]:
    """Copy numbers of many sections to a device, as one."""
    sizes = [array.size for array in arrays]
    return [Loose(piece) for piece in upload(np.concatenate([np.empty(0, np.int64), *arrays]), device).split(sizes)]


def slot(call: Call) -> Loose:
    """Return the status word of a call."""
    assert call.status is not None
    return Loose(call.status)


def kind(x: torch.Tensor) -> tl.dtype:
    """Return the kernels' type of a tensor's elements."""
    return WORDS[x.element_size()]


def extent(*arrays: torch.Tensor) -> int:
    """Return the number of elements of arrays, which kernels rely on. Raises ValueError when they differ in it or have gaps."""
    count = arrays[0].numel()
    if any(a.numel() != count or not a.is_contiguous() for a in arrays):
        raise ValueError(f"arrays of {[a.numel() for a in arrays]} elements, or with gaps")
    return count


def tiles(count: int) -> int:
    """Return how many programs a section of ``count`` elements needs."""
    size: int = TILE.value
    return -(-count // size)


def variant(name: str, kernel: Any, **constants: Any) -> Kernel:
    """Return a row of a module's ``KERNELS``, which are compiled ahead of time in a test."""
    fixed = constants | {"ALIGN": 16}
    return name, kernel, {"rows": "*i64", "sections": "*i32"} | dict.fromkeys(fixed, "constexpr"), fixed
