"""Interleaved rANS in numpy, vectorised over blocks and lanes (spec/entropy.md): the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.coding.tables import Tables
from wcodec.errors import Corrupt
from wcodec.types import U8, U32, U64

Array: TypeAlias = npt.NDArray[Any]

LOW = 1 << 16
"""Lower bound of a state, and its value before the first and after the last symbol."""

POLYNOMIALS = {2: (0o5, 0o2), 3: (0o13, 0o4), 4: (0o23, 0o4), 5: (0o45, 0o10), 6: (0o103, 0o24), 7: (0o235, 0o126), 8: (0o515, 0o362)}
"""Parity polynomials h0, h1 of the trellis with 2^v states (entropy.md section 5)."""


@dataclass(frozen=True, slots=True)
class Order:
    """Where symbols stand (entropy.md section 2).

    count: symbols. cols: columns of the matrix (tiled order, class contexts). lanes: W.
    block: symbols per block in linear order, 0 when tiled. tile: (R, C) when tiled.
    """

    count: int
    cols: int
    lanes: int
    block: int = 0
    tile: tuple[int, int] = (0, 0)

    @property
    def unit(self) -> int:
        """Elements of the smallest window that decodes alone: a block, or a band of tiles."""
        return self.block or max(1, self.tile[0] * self.cols)

    @property
    def units(self) -> int:
        """Number of such windows."""
        return -(-self.count // self.unit) if self.count else 0

    @property
    def blocks_per_unit(self) -> int:
        """1 in linear order, tiles per band in tiled order."""
        return 1 if self.block else -(-self.cols // self.tile[1])

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.units * self.blocks_per_unit

    @property
    def width(self) -> int:
        """Trellises of a block: one per column."""
        return 4 * self.lanes if self.block else self.tile[1]

    def window(self, first: int, last: int) -> Order:
        """Restrict to units first … last − 1."""
        return replace(self, count=min(last * self.unit, self.count) - min(first * self.unit, self.count))

    def sizes(self) -> U32:
        """Symbols of every block."""
        if self.block:
            sizes = np.full(self.blocks, self.block, np.uint32)
            if self.count % self.block:
                sizes[-1] = self.count % self.block
            return sizes
        (high, wide), rows = self.tile, self.count // self.cols if self.cols else 0
        sizes = np.full((self.units, self.blocks_per_unit), high * wide, np.uint32)
        sizes[-1:] = wide * (rows - (self.units - 1) * high)
        sizes[:, -1:] -= sizes[:, -1:] // wide * (self.blocks_per_unit * wide - self.cols)
        return sizes.reshape(-1)

    def elements(self, block: int) -> tuple[U64, U64]:
        """Return (positions, elements) of the symbols of a block: position in the block, flat index in the array."""
        if self.block:
            at = np.arange(min(self.block, self.count - block * self.block), dtype=np.uint64)
            return at, at + np.uint64(block * self.block)
        (high, wide), across = self.tile, self.blocks_per_unit
        top, left = block // across * high, block % across * wide
        r: Array = np.arange(min(high, self.count // self.cols - top))
        c: Array = np.arange(min(wide, self.cols - left))
        position = np.add.outer(r * wide, c).ravel()
        return position.astype(np.uint64), np.add.outer((top + r) * self.cols, left + c).ravel().astype(np.uint64)

    def places(self, element: Array) -> tuple[Array, Array]:
        """Return block, and position in it, of flat elements."""
        if self.block:
            block, position = np.divmod(element, self.block)
            return block, position
        row, column = np.divmod(element, max(self.cols, 1))
        (top, r), (left, c) = np.divmod(row, self.tile[0]), np.divmod(column, self.tile[1])
        return top * self.blocks_per_unit + left, r * self.tile[1] + c


@dataclass(frozen=True, slots=True)
class Context:
    """Which table a symbol takes (entropy.md section 5).

    trellis: v, for kind ``trellis``. map: [row classes, column classes] tables, or pairs of them with a trellis.
    rows, columns: classes, None when there is one.
    """

    kind: Literal["none", "trellis", "classes"] = "none"
    trellis: int = 0
    map: U8 | None = None
    rows: U8 | None = None
    columns: U8 | None = None

    @property
    def tables(self) -> int:
        """Number of tables."""
        mapped = 1 if self.map is None else 1 + int(self.map.max(initial=0))
        return 2 * mapped if self.kind == "trellis" else mapped

    def of(self, elements: U64, cols: int) -> U8:
        """Return what the map says of every element, 0 without one: its table, or with a trellis its pair of tables."""
        if self.map is None:
            return np.zeros(elements.shape, np.uint8)
        row, column = elements // np.uint64(max(cols, 1)), elements % np.uint64(max(cols, 1))
        row_class = 0 if self.rows is None else self.rows[row]
        column_class = 0 if self.columns is None else self.columns[column]
        found: U8 = self.map[row_class, column_class]
        return np.broadcast_to(found, elements.shape)


@dataclass(frozen=True, slots=True)
class Job:
    """Blocks to encode or decode in one call.

    order: of this window. start: flat index of its first element in the whole array (class contexts).
    memo holds what a backend worked out once; it is no part of the value.
    """

    order: Order
    context: Context
    tables: Tables
    start: int = 0
    memo: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)


def next_trellis_state(state: Array, parity: Array, v: int) -> Array:
    """Step the shift register of entropy.md section 5."""
    h0, h1 = POLYNOMIALS[v]
    step: Array = (state >> 1) ^ (state & 1) * (h0 >> 1) ^ (parity & 1) * (h1 >> 1)
    return step


def _trimmed(order: Order) -> Order:
    """Cut blocks to the symbols there are: the same symbols in the same lanes, without steps in which every lane rests."""
    row = 4 * order.lanes
    if order.block:
        return replace(order, block=min(order.block, max(1, -(-order.count // row)) * row))
    rows = order.count // order.cols if order.cols else 0
    high, wide = min(order.tile[0], max(1, rows)), min(order.tile[1], max(1, -(-order.cols // row)) * row)
    return replace(order, tile=(high, wide))


def _grid(order: Order) -> tuple[Array, Array]:
    """Return the flat element (of the window) and its validity for [step, block, lane]."""
    order, lanes = _trimmed(order), order.lanes
    span = order.block or order.tile[0] * order.tile[1]
    steps = -(-span // (4 * lanes)) * 4
    flat = np.zeros((order.blocks, steps * lanes), np.int64)
    valid = np.zeros((order.blocks, steps * lanes), bool)
    for b in range(order.blocks):
        position, element = order.elements(b)
        flat[b, position], valid[b, position] = element, True

    def arrange(a: Array) -> Array:
        return np.ascontiguousarray(a.reshape(-1, steps // 4, lanes, 4).transpose(1, 3, 0, 2)).reshape(steps, -1, lanes)

    return arrange(flat), arrange(valid)


def _walk(order: Order) -> Iterator[tuple[Array, Array, Array]]:
    """Yield (elements, valid, index of the trellis) per step, in decoding order."""
    flat, valid = _grid(order)
    lanes, per_row = order.lanes, max(1, _trimmed(order).width // (4 * order.lanes))
    lane = np.arange(lanes)
    for step in range(len(flat)):
        yield flat[step], valid[step], (step // 4 % per_row * lanes + lane) * 4 + step % 4


def branches(order: Order, v: int, symbols: Array) -> U8:
    """Return z0 of every symbol of a window, in its element order; symbols: unsigned integers whose parity is z1."""
    found = np.zeros(symbols.shape, np.uint8)
    if not order.count:
        return found
    state = np.zeros((order.blocks, _trimmed(order).width), np.uint32)
    for element, valid, column in _walk(order):
        found[element[valid]] = (state[:, column] & 1)[valid]
        after = next_trellis_state(state[:, column], symbols[element].astype(np.uint32), v)
        state[:, column] = np.where(valid, after, state[:, column])
    return found


def contexts(job: Job, tokens: U8) -> U8:
    """Return the table of every symbol of a window, in the window's element order."""
    table = job.context.of(np.arange(job.start, job.start + job.order.count, dtype=np.uint64), job.order.cols)
    if job.context.kind == "trellis":
        return table << np.uint8(1) | branches(job.order, job.context.trellis, tokens)
    return table


def histogram(job: Job, tokens: U8) -> U64:
    """Count tokens per table: [tables, 256]."""
    key = contexts(job, tokens).astype(np.intp) << 8 | tokens
    return np.bincount(key, minlength=256 * job.context.tables).reshape(-1, 256).astype(np.uint64)


def encode(job: Job, tokens: U8) -> tuple[U32, U32, U8]:
    """Encode the tokens of a window. Returns states [blocks, W], words per block, and the words' bytes."""
    order, precision = job.order, job.tables.precision
    if not order.count:
        return np.empty((0, order.lanes), np.uint32), np.empty(0, np.uint32), np.empty(0, np.uint8)
    flat, valid = _grid(order)
    table = contexts(job, tokens).astype(np.intp)
    frequency, start = job.tables.frequencies.astype(np.uint32), job.tables.starts().astype(np.uint32)
    x = np.full((order.blocks, order.lanes), LOW, np.uint32)
    emitted = np.zeros(flat.shape, bool)
    words = np.zeros(flat.shape, np.uint16)
    for step in range(len(flat) - 1, -1, -1):
        key = (table[flat[step]], tokens[flat[step]])
        f, c = np.maximum(frequency[key], 1), start[key]
        emit = (x >> np.uint32(32 - precision) >= f) & valid[step]
        emitted[step], words[step] = emit, x.astype(np.uint16)
        y = np.where(emit, x >> np.uint32(16), x)
        x = np.where(valid[step], (y // f << np.uint32(precision)) + y % f + c, x)
    per_block = emitted.transpose(1, 0, 2).reshape(order.blocks, -1)
    stored = words.transpose(1, 0, 2).reshape(order.blocks, -1)[per_block]
    return x, per_block.sum(1, dtype=np.uint32), stored.astype("<u2").view(np.uint8)


def decode(job: Job, states: U32, offsets: U32, words: U8, out: U8) -> None:
    """Decode a window into out (tokens, window's element order).

    offsets: [blocks + 1] in words, the first word of every block and the end; words: their bytes.
    Raises Corrupt [E-6, E-7].
    """
    if not job.order.count:
        return
    precision = job.tables.precision
    lut, mask = job.tables.lut(), np.uint32((1 << precision) - 1)
    word = np.append(words.view("<u2"), np.uint16(0)).astype(np.uint32)
    x, at, end = states.copy(), offsets[:-1].astype(np.int64), offsets[1:].astype(np.int64)
    trellis = np.zeros((job.order.blocks, _trimmed(job.order).width), np.uint32)
    bad = False
    for element, valid, column in _walk(job.order):
        table: Array = job.context.of(element.astype(np.uint64) + np.uint64(job.start), job.order.cols).astype(np.uint32)
        if job.context.kind == "trellis":
            table = table << np.uint32(1) | trellis[:, column] & 1
        entry = lut[table << np.uint32(precision) | (x & mask)]
        bad |= bool((entry[valid] == 0).any())
        token = entry >> np.uint32(24)
        out[element[valid]] = token[valid]
        if job.context.kind == "trellis":
            after = next_trellis_state(trellis[:, column], token, job.context.trellis)
            trellis[:, column] = np.where(valid, after, trellis[:, column])
        y = (entry & np.uint32(0xFFF)) * (x >> np.uint32(precision)) + (entry >> np.uint32(12) & np.uint32(0xFFF))
        take = (y < LOW) & valid
        rank = np.cumsum(take, axis=1)
        source = at[:, None] + rank - 1
        y = np.where(take, y << np.uint32(16) | word[np.where(take & (source < end[:, None]), source, -1)], y)
        x, at = np.where(valid, y, x), at + rank[:, -1]
    if bad:
        raise Corrupt("a symbol chose an unused table", rule="E-7")
    if not ((x == LOW).all() and (at == end).all()):
        raise Corrupt("entropy-coded words do not end where the block ends", rule="E-6")
