"""What rans does to encode: order, context and alphabet that suit an array, and the entropy coding itself."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from wcodec.codecs.base import Env
from wcodec.codecs.integers.smallest import smallest
from wcodec.coding import tokens
from wcodec.coding.rans import Context, Job, Order
from wcodec.coding.tables import Tables
from wcodec.coding.tokens import Alphabet
from wcodec.errors import EncodeError
from wcodec.types import DTYPES, U8, U32, U64, Part, Spec, UInts

BLOCK = 1 << 16
"""Symbols of a block, about: its 100 bytes are then 0.1 % of a BF16 tensor's. Decoders run two or four at once."""
TRELLIS_BLOCK = 1 << 17
"""Symbols of a block with a trellis, at most: a trellis costs bits to begin, too."""
GUESSED = 1 << 20
"""Symbols from which room for their words is guessed: as many bytes as symbols nearly always suffice."""


def order_of(count: int, cols: int, options: Mapping[str, Any]) -> Order:
    """Choose lanes and blocks for so many symbols, where the options leave them open."""
    lanes = options.get("lanes")
    if lanes is None:
        lanes = 5 if count >= 8192 or "tile" in options else 2 if count >= 256 else 0
    if "tile" in options:
        return Order(count, cols, 1 << lanes, tile=options["tile"])
    if "trellis" in options and "block" not in options:
        options = {**options, "block": -(-count // max(1, -(-count // TRELLIS_BLOCK)))}
    several = 4 if count >= 4 * BLOCK else 2
    block = options.get("block") or -(-count // max(1, several * round(count / (several * BLOCK))))
    return Order(count, cols, 1 << lanes, block=-(-max(min(block, count), 1) // 128) * 128)


def context_of(rows: int, cols: int, env: Env, options: Mapping[str, Any]) -> tuple[Context, dict[str, Part]]:
    """Return the context that the options ask for, and its parts."""
    kind: Literal["none", "trellis", "classes"] = "trellis" if "trellis" in options else "classes" if "classes" in options else "none"
    if "classes" not in options:
        return Context(kind, options.get("trellis", 0)), {}
    classes = options["classes"]
    if classes == "halves":  # the example that every test can use: two classes of rows, two of columns
        table = np.array([[0, 1], [1, 2]], np.uint8)
        classes = (table, np.arange(rows) * 2 // max(rows, 1), np.arange(cols) * 2 // max(cols, 1))
    table, of_rows, of_columns = classes
    parts: dict[str, Part] = {}
    for name, count, its in (("rows", table.shape[0], of_rows), ("columns", table.shape[1], of_columns)):
        if count > 1:
            parts[name] = smallest(its.astype(np.uint8), Spec.of("U8", its.size), env)
    kept = [None if count == 1 else its.astype(np.uint8) for count, its in zip(table.shape, (of_rows, of_columns), strict=True)]
    return Context(kind, options.get("trellis", 0), table, *kept), parts


def alphabet_of(x: UInts, bits: int, trellis: bool) -> Alphabet:
    """Choose which 256 values the tokens stand for, of integers of more than 8 bits. Raises EncodeError for values that are too large."""
    h = x >> x.dtype.type(bits + trellis)
    if x.size and int(h.max()) >= 2**20:
        raise EncodeError(f"values up to {int(x.max())} need more raw bits than {bits}")
    base_, zero, escape = tokens.fit(np.bincount(h).astype(np.uint64), trellis)
    return Alphabet(bits, base_, zero, escape, trellis)


def add_alphabet(
    params: dict[str, Any], parts: dict[str, Part], alphabet: Alphabet, order: Order, env: Env, raw: UInts, outliers: U32, escaped: U8
) -> None:
    """Put the alphabet's params and parts in place."""
    params |= {"base": alphabet.base} if alphabet.base else {}
    params |= {"zero": True} if alphabet.zero else {}
    if alphabet.bits:
        params["bits"] = alphabet.bits
        parts["rest"] = smallest(raw, Spec(DTYPES["U8" if alphabet.bits <= 8 else "U16"], (raw.size,)), env)
    if alphabet.escape >= 0:
        block, position = order.places(np.flatnonzero(escaped))
        counts = np.bincount(block, minlength=order.blocks).astype(np.uint32)
        stored = outliers[np.lexsort((position, block))]
        params |= {"escape": alphabet.escape, "outliers": outliers.size}
        parts["outliers"] = smallest(stored, Spec.of("U32", stored.size), env)
        parts["counts"] = smallest(counts, Spec.of("U32", counts.size), env)


def encode_tokens(
    order: Order,
    context: Context,
    precision: int,
    symbols: U8,
    env: Env,
    tables: Tables | None = None,
    shared: bool = False,
    counts: U64 | None = None,
) -> tuple[U8, Tables]:
    """Entropy-code tokens, with the tables given (and counts that they were made from) or fitted ones.

    Returns the stream, without tables when they are shared.
    """
    spans = _spans(order, env.parallel)

    def job(span: tuple[Order, int], its: Tables) -> tuple[Job, U8]:
        return Job(span[0], context, its, span[1]), symbols[span[1] : span[1] + span[0].count]

    if tables is None:
        none = Tables(precision, np.zeros((context.tables, 256), np.uint16))
        found = list(env.workers(lambda span: env.backend.rans_histogram(*job(span, none)), spans))
        counts = np.sum(found, axis=0, dtype=np.uint64)
        tables = env.backend.fit_tables(counts, precision)
    ready = tables
    packed = b"" if shared else env.backend.pack_tables(tables)
    fixed = len(packed) + 4 * max(order.blocks - 1, 0) + 4 * order.blocks * order.lanes
    # Words go straight into place, so that they never stand in memory twice. Where the guess is too small, the next one is not.
    rate = 1.0 if counts is None or order.count < GUESSED else 1.03 * tables.cost(counts) / max(8, 8 * int(counts.sum()))
    rooms = [int(rate * span.count) // 2 * 2 + 256 * span.blocks for span, _ in spans]
    made: list[tuple[U32, U32, int]] = []
    while not made or any(size > room for (_, _, size), room in zip(made, rooms, strict=True)):
        rooms = [size for _, _, size in made] or rooms
        starts = list(itertools.accumulate(rooms, initial=fixed))
        stream = env.host.take(starts[-1])
        places = [(*job(span, ready), stream[a:b]) for span, (a, b) in zip(spans, itertools.pairwise(starts), strict=True)]
        made = list(env.workers(lambda place: env.backend.rans_encode(*place), places))
    end = fixed
    for start, (_, _, size) in zip(starts, made, strict=False):
        if start != end:
            stream.data[end : end + size] = stream.data[start : start + size]
        end += size
    per_block = np.concatenate([sizes for _, sizes, _ in made])
    head = [np.frombuffer(packed, np.uint8), np.add.accumulate(per_block[:-1], dtype=np.uint32).view(np.uint8)]
    np.concatenate([*head, *(states.reshape(-1).view(np.uint8) for states, _, _ in made)], out=stream[:fixed])
    return stream[:end], tables


def _spans(order: Order, count: int) -> list[tuple[Order, int]]:
    """Cut into about ``count`` windows of whole units. Returns them and the elements before each."""
    count = min(count, max(order.units, 1))
    if count == 1:
        return [(order, 0)]
    cuts = [order.units * i // count for i in range(count + 1)]
    return [(order.window(a, b), a * order.unit) for a, b in itertools.pairwise(cuts)]
