"""Windows of a token stream described to C, and what C says about them."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import numpy as np

from wcodec.backends.native.abi import CONTEXTS, Job
from wcodec.backends.native.arrays import address, fits
from wcodec.coding import rans
from wcodec.errors import Corrupt
from wcodec.types import U32


def raise_for(rules: int) -> None:
    """Raise Corrupt [E-6, E-7, RANS-3] for the rules that C says a stream breaks, if any: the first that a pass on its own would find."""
    if rules & 2:
        raise Corrupt("a symbol chose an unused table", rule="E-7")
    if rules & 1:
        raise Corrupt("entropy-coded words do not end where the block ends", rule="E-6")
    if rules:
        raise Corrupt("a block does not hold its count of escapes", rule="RANS-3")


def describe(job: rans.Job, precision: int) -> Job | None:
    """Describe a job to C, or return None when it is not one for C."""
    order, context = job.order, job.context
    if order.lanes not in (1, 4, 32) or order.block % 128 or (not order.block and order.tile[1] % (4 * order.lanes)):
        return None
    classes, maps, rows, columns = 0, None, None, None
    if context.map is not None:
        if context.kind == "none" or not order.cols or (context.kind == "trellis" and (order.block or context.columns is not None)):
            return None
        classes, maps = context.map.shape[1], context.map
        rows, columns = context.rows, context.columns
        last_row = -(-(job.start + order.count) // order.cols)
        if not (
            fits(maps, np.uint8, 1)
            and (rows is None or fits(rows, np.uint8, last_row))
            and (columns is None or fits(columns, np.uint8, order.cols))
        ):
            return None
    return Job(
        order.count, job.start, order.cols, order.lanes, precision, order.block, order.tile[0], order.tile[1],
        CONTEXTS[context.kind], context.trellis, context.tables, classes,
        None if maps is None else address(maps), None if rows is None else address(rows), None if columns is None else address(columns),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ready:
    """A job described to C, and pointers to the arrays that go with it."""

    job: Job
    arrays: tuple[U32, U32, U32]
    pointers: tuple[int, int, int]


def ready_for(job: rans.Job, lut: U32, states: U32, offsets: U32) -> Ready | None:
    """Describe a job to C once for the same arrays, or return None when it is not one for C."""
    known: Ready | None = job.memo.get("native")
    if known is not None and all(map(operator.is_, known.arrays, (lut, states, offsets))):
        return known
    native, blocks = describe(job, job.tables.precision), job.order.blocks
    if (
        native is None
        or not fits(lut, np.uint32, native.tables << native.precision)
        or not fits(states, np.uint32, blocks * native.lanes)
        or not fits(offsets, np.uint32, blocks + 1)
    ):
        return None
    found = job.memo["native"] = Ready(native, (lut, states, offsets), (address(lut), address(states), address(offsets)))
    return found
