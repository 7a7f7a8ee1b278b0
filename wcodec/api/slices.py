"""Basic indexing of an encoded array: decode only the blocks that the index meets."""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import AbstractContextManager
from math import prod
from typing import Any

import numpy as np

from wcodec.types import Spec, UInts

GROUP = 1 << 22
"""Storage elements that are decoded at once, more only when a single row is longer."""

Axis = range | int


def normalise(index: Any, shape: tuple[int, ...]) -> tuple[list[Axis], list[int]]:
    """Return what every axis selects, and the positions of new axes in the result. Raises IndexError, TypeError as numpy does."""
    items = list(index) if isinstance(index, tuple) else [index]
    given = sum(item is not None and item is not Ellipsis for item in items)
    if sum(item is Ellipsis for item in items) > 1 or given > len(shape):
        raise IndexError(f"index {index!r} has too many items for {len(shape)} dimensions")
    if not any(item is Ellipsis for item in items):
        items.append(Ellipsis)
    axes: list[Axis] = []
    new: list[int] = []
    kept = 0
    for item in items:
        if item is None:
            new.append(kept)
            kept += 1
        elif item is Ellipsis:
            count = len(shape) - given
            axes += [range(shape[len(axes) + i]) for i in range(count)]
            kept += count
        else:
            axes.append(_axis(item, shape[len(axes)], len(axes)))
            kept += isinstance(axes[-1], range)
    return axes, new


def _axis(item: Any, length: int, axis: int) -> Axis:
    if isinstance(item, slice):
        return range(*item.indices(length))
    if isinstance(item, bool | np.bool_ | list | np.ndarray):
        raise TypeError("only integers, slices, `...` and None index an encoded tensor; decode it for masks and index arrays")
    at = operator.index(item)
    if not -length <= at < length:
        raise IndexError(f"index {at} is out of bounds for axis {axis} with size {length}")
    return at % length


def read_slice(
    spec: Spec,
    index: Any,
    unit: int,
    borrow: Callable[[int, np.dtype[Any]], AbstractContextManager[UInts]],
    window: Callable[[int, int, UInts], None],
) -> UInts:
    """Return the indexed storage elements as a new array; ``window(start, stop, out)`` decodes a flat range."""
    shape = spec.storage_shape
    axes, new = normalise(index, spec.shape)
    axes += [range(n) for n in shape[len(spec.shape) :]]
    out = np.empty([len(axis) for axis in axes if isinstance(axis, range)], spec.dtype.storage)
    strides = [prod(shape[i + 1 :]) for i in range(len(shape))]

    def fill(depth: int, start: int, into: UInts) -> None:
        """Fill ``into`` from the sub-array at axes depth …, whose first element is flat element ``start``."""
        rest = axes[depth:]
        if all(isinstance(axis, range) and axis == range(n) for axis, n in zip(rest, shape[depth:], strict=True)):
            direct(start, into)
            return
        axis, stride = axes[depth], strides[depth]
        if isinstance(axis, int):
            fill(depth + 1, start + axis * stride, into)
            return
        if stride >= unit and not whole(depth + 1):
            for i, at in enumerate(axis):
                fill(depth + 1, start + at * stride, into[i, ...])
            return
        for low, high in _groups(axis, stride, unit):
            grouped(depth, start, axis[low:high], into[low:high])

    def whole(depth: int) -> bool:
        return all(axis == range(n) for axis, n in zip(axes[depth:], shape[depth:], strict=True))

    def direct(start: int, into: UInts) -> None:
        if into.flags.c_contiguous:
            window(start, start + into.size, into.reshape(-1))
            return
        with borrow(into.size, into.dtype) as flat:
            window(start, start + into.size, flat)
            into[...] = flat.reshape(into.shape)

    def grouped(depth: int, start: int, axis: range, into: UInts) -> None:
        stride, first, last = strides[depth], min(axis), max(axis)
        with borrow((last - first + 1) * stride, into.dtype) as flat:
            window(start + first * stride, start + (last + 1) * stride, flat)
            box = flat.reshape(-1, *shape[depth + 1 :])
            steps = [slice(axis[0] - first, None if (end := axis[-1] - first + _sign(axis)) < 0 else end, axis.step)]
            inner = [a if isinstance(a, int) else _slice(a) for a in axes[depth + 1 :]]
            into[...] = box[(*steps, *inner)]

    if out.size:
        fill(0, 0, out)
    for at in new:
        out = np.expand_dims(out, at)
    return out


def read_slice_there(
    spec: Spec, index: Any, empty: Callable[[int, np.dtype[Any]], Any], window: Callable[[int, int, Any], None]
) -> tuple[Any, tuple[int, ...]]:
    """Return the indexed storage elements as a flat array of a device, and its shape: the rows along axis 0 are decoded, then indexed."""
    axes, new = normalise(index, spec.shape)
    axes += [range(n) for n in spec.storage_shape[len(spec.shape) :]]
    shape = [len(axis) for axis in axes[: len(spec.shape)] if isinstance(axis, range)]
    for at in new:
        shape.insert(at, 1)
    if not axes or 0 in spec.shape or not prod(shape):
        flat = empty(prod(shape) * (spec.count // max(prod(spec.shape), 1)), spec.dtype.storage)
        window(0, len(flat), flat)
        return flat, tuple(shape)
    rows = [axes[0]] if isinstance(axes[0], int) else axes[0]
    low, high, stride = min(rows), max(rows) + 1, spec.count // spec.shape[0]
    box = empty((high - low) * stride, spec.dtype.storage)
    window(low * stride, high * stride, box)
    box, dim = box.reshape(high - low, *spec.storage_shape[1:]), 0
    for axis, first in zip(axes, (low, *(0 for _ in axes[1:])), strict=True):
        if isinstance(axis, int):
            box = box.select(dim, axis - first)
            continue
        way = axis if axis.step > 0 else axis[::-1]
        box = box[(*(slice(None),) * dim, slice(way[0] - first, way[-1] - first + 1, way.step))]
        box, dim = box.flip(dim) if axis.step < 0 else box, dim + 1
    return box.reshape(-1).clone(), tuple(shape)


def _sign(axis: range) -> int:
    return 1 if axis.step > 0 else -1


def _slice(axis: range) -> slice:
    stop = axis.stop if axis.stop >= 0 else None
    return slice(axis.start, stop, axis.step)


def _groups(axis: range, stride: int, unit: int) -> list[tuple[int, int]]:
    """Cut a non-empty selection into runs that are decoded at once: near ones together, far ones and large ones apart."""
    if abs(axis.step) * stride > max(unit, stride):
        return [(i, i + 1) for i in range(len(axis))]
    size = max(1, GROUP // max(1, abs(axis.step) * stride))
    return [(i, min(i + size, len(axis))) for i in range(0, len(axis), size)]
