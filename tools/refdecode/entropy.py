"""entropy.md: tables, the order of symbols, and the decoding of blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .rules import ceil_div, must

# -- 1. Tables


def read_table(data: bytes, at: int, precision: int) -> tuple[list[int] | None, int]:
    """The 256 frequencies of the table at `at`, or None for the unused one, and where the next table begins."""
    must(at + 3 <= len(data), "E-1", "a table reaches beyond its bytes")
    if data[at : at + 3] == bytes(3):
        return None, at + 3
    first, described = data[at], data[at + 1] + 1
    must(first + described <= 256, "E-1", "a table describes tokens above 255")
    bits = int.from_bytes(data[at + 2 : at + 2 + 1024], "little")  # more than any table has
    lengths = [bits >> 4 * i & 15 for i in range(described)]
    must(lengths[0] > 0 and lengths[-1] > 0, "E-1", "a table's first or last token is absent")
    must(max(lengths) <= precision, "E-1", "a table has a length above its precision")
    frequencies, used = [0] * 256, 4 * described
    for i, length in enumerate(lengths):
        if length:
            low = bits >> used & (1 << length - 1) - 1
            frequencies[first + i] = (1 << length - 1) + low
            used += length - 1
    end = at + 2 + ceil_div(used, 8)
    must(end <= len(data), "E-1", "a table reaches beyond its bytes")
    must(bits >> used & (1 << -used % 8) - 1 == 0, "E-1", "a table's padding is not zero")
    must(sum(frequencies) == 1 << precision, "E-2", "a table's frequencies have another sum")
    must(max(frequencies) < 1 << precision, "E-2", "a table gives one token everything")
    return frequencies, end


@dataclass
class Tables:
    """Every table of a section, as arrays that are indexed by [table, slot] and [table, token]."""

    precision: int
    used: np.ndarray
    token: np.ndarray
    frequency: np.ndarray
    cumulative: np.ndarray


def read_tables(data: bytes, number: int, precision: int) -> tuple[Tables, int]:
    size = 1 << precision
    must(number * size <= 2**16, "E-8", f"{number} tables of precision {precision}")
    tables = Tables(
        precision,
        np.zeros(number, bool),
        np.zeros((number, size), np.int64),
        np.zeros((number, 256), np.int64),
        np.zeros((number, 256), np.int64),
    )
    at = 0
    for i in range(number):
        frequencies, at = read_table(data, at, precision)
        if frequencies is not None:
            tables.used[i] = True
            tables.token[i] = np.repeat(np.arange(256), frequencies)
            tables.frequency[i] = frequencies
            tables.cumulative[i] = np.cumsum(frequencies) - frequencies
    return tables, at


# -- 2. Order of symbols


@dataclass
class Order:
    """Where every symbol, in the order of the section's elements, stands: its block, and its position there."""

    lanes: int
    blocks: int
    block: np.ndarray
    position: np.ndarray
    columns: int  # of a block, for section 5: C (tiled) or 4W (linear)

    @property
    def step(self) -> np.ndarray:
        return 4 * (self.position // (4 * self.lanes)) + self.position % 4

    @property
    def lane(self) -> np.ndarray:
        return self.position // 4 % self.lanes


def linear_order(count: int, size: int, lanes: int) -> Order:
    symbol = np.arange(count)
    return Order(lanes, ceil_div(count, size), symbol // size, symbol % size, 4 * lanes)


def tiled_order(rows: int, cols: int, tile_rows: int, tile_cols: int, lanes: int) -> Order:
    symbol = np.arange(rows * cols)
    y, x = symbol // max(cols, 1), symbol % max(cols, 1)
    across = ceil_div(cols, tile_cols)
    block = y // tile_rows * across + x // tile_cols
    return Order(lanes, ceil_div(rows, tile_rows) * across, block, y % tile_rows * tile_cols + x % tile_cols, tile_cols)


# -- 3. Bytes of a stream


def read_stream(data: bytes, order: Order) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The words, the word at which every block begins (and where the last one ends), and the states [block, lane]."""
    blocks, lanes = order.blocks, order.lanes
    offsets_size, states_size = 4 * max(blocks - 1, 0), 4 * blocks * lanes
    words_size = len(data) - offsets_size - states_size
    must(words_size >= 0 and words_size % 2 == 0 and words_size // 2 < 2**32, "E-3", "the stream has a wrong size")
    words = np.frombuffer(data, "<u2", offset=offsets_size + states_size).astype(np.int64)
    offsets = np.frombuffer(data, "<u4", count=offsets_size // 4).astype(np.int64)
    begin = np.concatenate([[0], offsets, [len(words)]]) if blocks else np.array([0])
    must(bool(np.all(np.diff(begin) >= 0)), "E-4", "offsets decrease, or exceed the words")
    must(bool(np.all(np.diff(begin) <= np.bincount(order.block, minlength=blocks))), "E-4", "a block with more words than symbols")
    must(blocks > 0 or not len(words), "E-4", "words without a block")
    states = np.frombuffer(data, "<u4", count=blocks * lanes, offset=offsets_size).astype(np.int64)
    must(bool(np.all(states >= 2**16)), "E-5", "a state below 2^16")
    return words, begin, states


# -- 4. Decoding a block


def decode_blocks(data: bytes, tables: Tables, order: Order, mapped: np.ndarray, v: int) -> np.ndarray:
    """The token of every symbol. All blocks go step by step together; those symbols of a step that share a block are in lane order.

    `mapped` is the entry of the map for every symbol, and `v` that of `trellis(v)`, or 0 without a trellis.
    """
    words, begin, state = read_stream(data, order)
    cursor = begin[:-1].copy()
    tokens = np.zeros(len(order.block), np.int64)
    trellis = np.zeros(order.blocks * order.columns if v else 0, np.int64)
    step, lane = order.step, order.lane
    by_step = np.lexsort((lane, order.block, step))
    for symbols in np.split(by_step, np.flatnonzero(np.diff(step[by_step])) + 1):
        block = order.block[symbols]
        owner = block * order.lanes + lane[symbols]
        table = mapped[symbols]
        if v:
            column = block * order.columns + order.position[symbols] % order.columns
            table = 2 * table + trellis[column] % 2
        must(bool(np.all(tables.used[table])), "E-7", "an unused table is chosen")
        x = state[owner]
        slot = x % (1 << tables.precision)
        token = tables.token[table, slot]
        x = tables.frequency[table, token] * (x >> tables.precision) + slot - tables.cumulative[table, token]
        takes = np.flatnonzero(x < 2**16)
        if len(takes):
            taker = block[takes]  # ascending; the words of a block go to its lanes in increasing order
            word = cursor[taker] + np.arange(len(takes)) - np.searchsorted(taker, taker)
            must(bool(np.all(word < begin[taker + 1])), "E-6", "a block has too few words")
            x[takes] = x[takes] << 16 | words[word]
            cursor += np.bincount(taker, minlength=order.blocks)
        state[owner] = x
        tokens[symbols] = token
        if v:
            trellis[column] = next_trellis_state(v, trellis[column], token)
    must(bool(np.all(state == 2**16)), "E-6", "a lane does not end at 2^16")
    must(bool(np.all(cursor == begin[1:])), "E-6", "a block has words left")
    return tokens


# -- 5. Contexts

TRELLIS_H0 = {2: 0o5, 3: 0o13, 4: 0o23, 5: 0o45, 6: 0o103, 7: 0o235, 8: 0o515}
TRELLIS_H1 = {2: 0o2, 3: 0o04, 4: 0o04, 5: 0o10, 6: 0o024, 7: 0o126, 8: 0o362}


def next_trellis_state(v: int, state: np.ndarray, token: np.ndarray) -> np.ndarray:
    z0, z1 = state % 2, token % 2
    return (state // 2) ^ (z0 * (TRELLIS_H0[v] // 2)) ^ (z1 * (TRELLIS_H1[v] // 2))
