"""How rans holds what a quantiser rounds to: raw low bits where tables say little, escapes for tails that are not worth their slots."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env
from wcodec.coding.sampling import UNIT, log2
from wcodec.coding.tables import Tables
from wcodec.coding.tokens import Alphabet
from wcodec.types import U64, UInts

PRECISION = 12
"""Bits of the tables' frequencies: a symbol seen more rarely than once in 4096 takes more than its share of them."""
LENGTHS: npt.NDArray[np.int64] = PRECISION * UNIT - log2(np.maximum(np.arange((1 << PRECISION) + 1), 1))
"""Of a token with every frequency, in 2^-20 bits; of those with none as if it were 1."""
TOKENS = 256
MOST_BITS = 8
"""Raw bits tried."""
RARE = (0, 16, 8, 4, 2, 1)
"""Tails are escaped where values have so many times less than a slot of the tables; 0: only where there are too many tokens."""
SIDE = 1000
"""Raw bits and escapes must save a bit for so many symbols each: without them, decoding is faster."""
LONG = 1 << 17
"""Symbols of a block where four of them can still be decoded at once: the largest there is, as 100 bytes each tell at few bits."""
PART = 64
"""Bytes that one more part takes, about."""


def fit_tails(x: UInts, env: Env) -> tuple[int, dict[str, Any]]:
    """Return the bytes that integers of at most 16 bits take, about, and the options of ``rans`` for that. x: at least one."""
    counts, found = np.bincount(x).astype(np.uint64), []
    for bits in range(MOST_BITS + 1):
        merged = np.append(counts, np.zeros(-counts.size % (1 << bits), np.uint64)).reshape(-1, 1 << bits).sum(1, dtype=np.uint64)
        found += [(_cost(merged, a, b, bits, env), bits, a, b) for a, b in sorted(set(_spans(merged)))]
    cost, bits, a, b = min(found)
    escaped = a << bits > np.flatnonzero(counts)[0] or b + 1 << bits < counts.size
    options: dict[str, Any] = {"alphabet": Alphabet(bits, a if escaped or b >= TOKENS else 0, escape=b - a + 1 if escaped else -1)}
    if x.size >= 4 * LONG:
        options["block"] = LONG
    return cost // (8 * UNIT), options


def _spans(counts: U64) -> Iterator[tuple[int, int]]:
    """Yield the first and the last value with tokens of their own, for every way to cut off tails. counts: the last one is not 0."""
    used, total = np.flatnonzero(counts), int(counts.sum())
    for rare in RARE:
        kept = np.flatnonzero(counts >= max(1, total // (rare << PRECISION))) if rare else used
        a, b = int(kept[0]), int(kept[-1])
        if b - a + 1 > TOKENS - ((a, b) != (used[0], used[-1])):
            inside, room = np.concatenate(([0], np.cumsum(counts))), TOKENS - 1
            a = int(np.argmax(inside[room:] - inside[:-room]))
            b = a + room - 1
        yield a, b


def _cost(counts: U64, a: int, b: int, bits: int, env: Env) -> int:
    """Return what values with these counts take, of which a … b have tokens, and so many raw bits of each, in 2^-20 bits."""
    tokens, total = np.zeros((1, TOKENS), np.uint64), int(counts.sum())
    tokens[0, : b - a + 1] = counts[a : b + 1]
    side = total * bits + (total // SIDE + 8 * PART) * (bits > 0)
    if outside := total - int(tokens.sum()):
        tokens[0, b - a + 1] = outside
        side += outside * counts.size.bit_length() + total // SIDE + 16 * PART
    tables: Tables = env.backend.fit_tables(tokens, PRECISION)
    side += 8 * len(env.backend.pack_tables(tables))
    return UNIT * side + int((tokens.astype(np.int64) * LENGTHS[tables.frequencies]).sum())
