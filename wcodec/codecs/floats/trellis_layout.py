"""In which order an encoder of ``trellis`` puts the symbols: tiles or lines, and which rows share tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from wcodec.codecs.integers.rans_encoder import TRELLIS_BLOCK, order_of
from wcodec.coding.sampling import UNIT, entropy, log2
from wcodec.errors import EncodeError
from wcodec.types import U8

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
I64: TypeAlias = npt.NDArray[np.int64]
BLOCK_BITS = 800
"""What a block costs: states, offset."""
NARROW = 64
"""Columns of a piece of a sample."""
SAMPLE = 1 << 19
"""Weights that classes of rows are chosen by."""
BINS = 16
"""Kinds of rows, by their energy, that classes are made of."""
GAIN = 0.004
"""Bits per weight that a further class must save, as more tables decode more slowly, or lines, as columns suit feedback."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Trellises that run side by side through a flat array: step t of trellis c is element first + t · stride + c.

    classes: of every step; None for one.
    """

    first: int
    steps: int
    columns: int
    stride: int
    classes: U8 | None = None

    @property
    def count(self) -> int:
        """Number of elements."""
        return self.steps * self.columns

    def of(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the view [steps, columns] of a flat array."""
        size = flat.itemsize
        return as_strided(flat[self.first :], (self.steps, self.columns), (self.stride * size, size))

    def elements(self) -> I64:
        """Return the flat index of every element, [steps, columns]."""
        return self.first + np.add.outer(np.arange(self.steps) * self.stride, np.arange(self.columns))

    def narrow(self) -> Iterator[Piece]:
        """Cut into pieces of few columns."""
        for at in range(0, self.columns, NARROW):
            yield replace(self, first=self.first + at, columns=min(NARROW, self.columns - at))


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Order of the symbols of a matrix. tile: (R, C), or None for linear order.

    classes: pair of tables of every class, class of every row.
    """

    rows: int
    cols: int
    v: int
    tile: tuple[int, int] | None = None
    classes: tuple[U8, U8] | None = None

    @property
    def pairs(self) -> int:
        """Pairs of tables."""
        return 1 if self.classes is None else 1 + int(self.classes[0].max(initial=0))

    @property
    def overhead(self) -> float:
        """Bits that blocks, and trellises that begin anew, cost."""
        pieces = list(self.pieces())
        return BLOCK_BITS * len(pieces) + (0.35 * self.v + 0.25) * sum(piece.columns for piece in pieces)

    def pieces(self) -> Iterator[Piece]:
        """Yield all blocks; a block that ends within a step is two pieces."""
        if self.tile is None:
            yield from self._lines()
            return
        high, wide = self.tile
        for top in range(0, self.rows, high):
            steps = min(high, self.rows - top)
            classes = None if self.classes is None else np.ascontiguousarray(self.classes[0][self.classes[1][top : top + steps]])
            for left in range(0, self.cols, wide):
                yield Piece(top * self.cols + left, steps, min(wide, self.cols - left), self.cols, classes)

    def _lines(self) -> Iterator[Piece]:
        order = order_of(self.rows * self.cols, self.cols, {"trellis": self.v})
        for first in range(0, order.count, order.block):
            steps, left = divmod(min(order.block, order.count - first), order.width)
            if left:
                yield Piece(first, steps + 1, left, order.width)
            if steps:
                yield Piece(first + left, steps, order.width - left, order.width)


def choose_layout(rows: int, cols: int, v: int, tile: Any) -> Layout:
    """Return the layout asked for: (R, C), ``linear``, or None for tiles, unless lines cost much less. Raises EncodeError."""
    if tile == "linear":
        return Layout(rows, cols, v)
    if tile is None:
        lines = Layout(rows, cols, v)
        best = min((Layout(rows, cols, v, tile) for tile in tiles(rows, cols)), key=lambda its: its.overhead, default=lines)
        return best if best.overhead <= lines.overhead + GAIN * rows * cols else lines
    high, wide = (int(length) for length in tile)
    if high < 1 or wide < 128 or wide % 128 or high * wide > TRELLIS_BLOCK:
        raise EncodeError(f"a tile of {high} × {wide}: C is a multiple of 128, and there are at most 2^17 elements")
    return Layout(rows, cols, v, (high, wide))


def tiles(rows: int, cols: int, band: int = 1) -> Iterator[tuple[int, int]]:
    """Yield tiles that suit a matrix, if its columns are enough and long enough for trellises of their own. band: rows that none cuts."""
    if rows < 64 or cols < 128:
        return
    groups, least = -(-cols // 128), -(-rows // 1024)
    for bands in range(least, least + 3):
        high = -(-rows // (bands * band)) * band
        across = -(-groups // max(1, TRELLIS_BLOCK // (128 * high)))
        yield high, 128 * -(-groups // across)


def with_classes(its: Layout, scaled: Callable[[Piece], F32], energy: F64, most: int) -> Layout:
    """Give rows of different energy tables of their own, where that pays. scaled: a piece in steps. Tiled layouts only."""
    if its.tile is None or its.rows < 2 * BINS or most < 2:
        return its
    rank = np.argsort(energy, kind="stable")
    bins = np.empty(its.rows, np.intp)
    bins[rank] = np.arange(its.rows) * BINS // its.rows
    counts, share = _histograms(its, scaled, bins)
    group, costs = _merged(counts, most)
    if not costs:
        return its
    bits = [
        share * cost / UNIT + GAIN * its.rows * its.cols * k + its.rows * (int(log2(np.array([k]))[0]) / UNIT) for k, cost in costs.items()
    ]
    best = list(costs)[int(np.argmin(bits))]
    if best == 1:
        return its
    classes: U8 = group[best][bins].astype(np.uint8)
    return replace(its, classes=(np.arange(best, dtype=np.uint8), classes))


def _histograms(its: Layout, scaled: Callable[[Piece], F32], bins: npt.NDArray[np.intp]) -> tuple[I64, float]:
    """Return counts of rounded values [bins, values] in a sample of columns, and how many weights there are for each one of it."""
    pieces = list(Piece(0, its.rows, its.cols, its.cols).narrow())
    chosen = pieces[:: max(1, its.rows * its.cols // SAMPLE)]
    u = np.concatenate([np.rint(scaled(piece) * np.float32(0.5)) for piece in chosen], axis=1)
    far = 2047  # what lies beyond is rare in all rows
    key = bins[:, None] * (2 * far + 1) + (np.clip(u, -far, far).astype(np.intp) + far)
    found = np.bincount(key.ravel(), minlength=BINS * (2 * far + 1)).reshape(BINS, -1)
    found = found[:, found.any(0)]
    return found, its.rows * its.cols / u.size


def _merged(counts: I64, most: int) -> tuple[dict[int, npt.NDArray[np.intp]], dict[int, float]]:
    """Merge neighbouring bins that are most alike until one is left. Returns, for 1 … most classes, those of the bins and the entropy."""
    parts = [(counts[i], entropy(counts[i]), [i]) for i in range(len(counts))]
    group: dict[int, npt.NDArray[np.intp]] = {}
    costs: dict[int, float] = {}
    while True:
        if len(parts) <= most:
            group[len(parts)] = np.repeat(np.arange(len(parts)), [len(members) for _, _, members in parts])
            costs[len(parts)] = sum(cost for _, cost, _ in parts)
        if len(parts) == 1:
            return group, costs
        joined = [entropy(a[0] + b[0]) for a, b in itertools.pairwise(parts)]
        more = [cost - a[1] - b[1] for cost, (a, b) in zip(joined, itertools.pairwise(parts), strict=True)]
        at = int(np.argmin(more))
        a, b = parts[at], parts[at + 1]
        parts[at : at + 2] = [(a[0] + b[0], joined[at], a[2] + b[2])]
