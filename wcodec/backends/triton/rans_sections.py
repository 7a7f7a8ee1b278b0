"""What kernels of entropy coding are told of a window, and the small arrays that go to the device with it."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import triton

from wcodec.backends.triton import rans_kernels as kernels
from wcodec.backends.triton.launch import WARPS, upload
from wcodec.coding.rans import POLYNOMIALS, Job

Fields: TypeAlias = dict[str, int]
"""Fields of a row by name."""
LANES = (1, 4, 32)
INTERPRETED_THREADS = 256
"""The interpreter takes as long for few lanes as for many."""


class Sent:
    """Small arrays of many sections, which go to a device as one."""

    def __init__(self) -> None:
        self._arrays: list[npt.NDArray[Any]] = []
        self._size = 0

    def add(self, x: npt.NDArray[Any]) -> int:
        """Add an array; return where it will stand, from the beginning."""
        at = self._size
        raw = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
        self._size += -(-raw.size // 16) * 16
        self._arrays.append(raw)
        return at

    def to(self, device: torch.device) -> torch.Tensor:
        """Copy all of them, each at a multiple of 16 bytes."""
        whole, at = np.zeros(self._size + 16, np.uint8), 0
        for raw in self._arrays:
            whole[at : at + raw.size] = raw
            at += -(-raw.size // 16) * 16
        return upload(whole, device)


def rows_of(lanes: int) -> int:
    """Return how many blocks a program takes: one lane for every thread."""
    if triton.knobs.runtime.interpret:
        return INTERPRETED_THREADS // lanes
    return WARPS * (64 if torch.version.hip else 32) // lanes


def programs_of(job: Job) -> int:
    """Return how many programs the blocks of a window need. Raises ValueError for lanes that the format does not have."""
    if job.order.lanes not in LANES:
        raise ValueError(f"{job.order.lanes} lanes")
    return -(-job.order.blocks // rows_of(job.order.lanes))


def constants_of(job: Job) -> dict[str, Any]:
    """Return the constants of a kernel that walks blocks."""
    lanes, kinds = job.order.lanes, {"none": kernels.NONE, "classes": kernels.CLASS, "trellis": kernels.PARITY}
    context = kernels.PAIRS if job.context.trellis and job.context.map is not None else kinds[job.context.kind]
    return {"CONTEXT": context.value, "TILED": not job.order.block, "W": lanes, "NB": rows_of(lanes)}


def held(job: Job) -> bool:
    """Tell whether every lane has four trellises only."""
    return job.order.width == 4 * job.order.lanes


def trellises(job: Job, device: torch.device) -> torch.Tensor:
    """Return room for the trellises that do not stay in registers."""
    if job.context.kind != "trellis" or held(job):
        return torch.empty(0, dtype=torch.int32, device=device)
    blocks = programs_of(job) * rows_of(job.order.lanes)
    return torch.empty(blocks * job.order.width // 4, dtype=torch.int32, device=device)


def send_context(job: Job, sent: Sent) -> Fields:
    """Add the arrays of a context; return where they will stand.

    Raises ValueError when they do not cover the window, or where classes cannot be.
    """
    context, order = job.context, job.order
    if context.map is None:
        return {}
    if context.trellis and (order.block or context.columns is not None):
        raise ValueError("with a trellis, classes are those of rows, in tiled order")
    rows, columns = context.rows, context.columns
    last_row = -(-(job.start + order.count) // order.cols) if order.cols else 0
    if (rows is not None and rows.size < last_row) or (columns is not None and columns.size < order.cols):
        raise ValueError("classes do not cover the window")
    for classes, count in ((rows, context.map.shape[0]), (columns, context.map.shape[1])):
        if classes is not None and int(classes.max(initial=0)) >= count:
            raise ValueError("a class is not in the map")
    found = {"MAP": sent.add(context.map)}
    found |= {} if rows is None else {"ROWS": sent.add(rows)}
    return found | ({} if columns is None else {"COLUMNS": sent.add(columns)})


def place_of(job: Job) -> Fields:
    """Return the fields that say where the blocks of a window stand, and how its tables are chosen."""
    order, context = job.order, job.context
    found = {"BLOCKS": order.blocks, "COUNT": order.count, "START": job.start, "MATRIX_COLS": max(order.cols, 1)}
    found |= {"PRECISION": job.tables.precision, "FIRST_ROW": job.start // max(order.cols, 1)}
    if order.block:
        found |= {"COLS": order.block, "WIDE": order.block}
    else:
        high, wide = order.tile
        found |= {"COLS": order.cols, "HIGH": high, "WIDE": wide}
        found |= {"HEIGHT": order.count // order.cols, "ACROSS": order.blocks_per_unit}
    if context.trellis:
        found |= {"H0": POLYNOMIALS[context.trellis][0] >> 1, "H1": POLYNOMIALS[context.trellis][1] >> 1}
    if context.map is not None:
        found["CLASSES"] = context.map.shape[1]
    return found


def row_of(job: Job, fields: Fields, small: torch.Tensor) -> list[int | torch.Tensor]:
    """Return the row of a section, without its first program. small: what the addresses of small arrays point into."""
    row: list[int | torch.Tensor] = [0] * (kernels.FIELDS.value - 1)
    for name, value in (place_of(job) | fields).items():
        row[getattr(kernels, name).value - 1] = int(value)
    row[-1] = small  # it is aligned, and says which device; kernels do not read it
    return row
