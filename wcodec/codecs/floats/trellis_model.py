"""How an encoder expects the symbols of a trellis to be coded: raw bits, escapes, and what every symbol then costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env
from wcodec.codecs.integers.tails import LENGTHS, PRECISION, RARE, SIDE, TOKENS
from wcodec.coding.sampling import UNIT
from wcodec.coding.tables import Tables
from wcodec.coding.tokens import Alphabet
from wcodec.types import U64

F32: TypeAlias = npt.NDArray[np.float32]
MOST_BITS = 8
"""Raw bits tried: symbols are 16 bits wide, and 2^7 tokens of either parity are enough for any tensor."""
FEW_BITS = 2
"""Raw bits tried for symbols of 8 bits."""
TAIL = 16
"""Steps by which cutting off a tail may move a weight."""
NONE: F32 = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A way to code symbols first … first + 2^n − 1, first = −2^(n − 1) being even.

    bits: raw ones. low, high: the h = symbol ≫ (bits + 1) that have tokens, the first and the last. escape: others have one together;
    cut: there are to be none, as the search shall keep out of tails that are not worth their slots of the tables.
    cost: bits of all symbols that it was made for, in 2^-20 bits, tables and a fine for what is slow included.
    lengths: bits of symbols as the tables say, [tables, symbols].
    """

    bits: int
    low: int
    high: int
    escape: bool
    cut: bool
    cost: int
    lengths: F32

    def alphabet(self, zero: int, wide: bool) -> Alphabet:
        """Return what ``rans`` calls it, for symbols that are written as themselves plus zero, which 2^9 divides if wide."""
        if not self.bits and not self.escape and not wide:
            return Alphabet(trellis=True)
        base = self.low + (zero >> (self.bits + 1))
        return Alphabet(self.bits, base, False, 2 * (self.high - self.low + 1) if self.escape else -1, True)


def choose(counts: U64, env: Env, wide: bool, slope: float = 0, far: float = np.inf) -> Model:
    """Choose the cheapest model for symbols with these counts, [tables, symbols]. wide: they have more than 8 bits.

    slope: squared steps that a bit is worth to a search that may still cut off tails; far: steps from zero that weights are.
    """
    best: Model | None = None
    for bits in range(MOST_BITS + 1 if wide else FEW_BITS + 1):
        merged = counts.reshape(len(counts), -1, 1 << bits, 2).sum(2, dtype=np.uint64)  # [tables, h, parity]
        for its in _models(merged, bits, env, slope, far):
            best = its if best is None or its.cost < best.cost else best
        if best is not None and bits > best.bits:
            break
    assert best is not None
    return _with_lengths(best, counts, env)


def _models(merged: U64, bits: int, env: Env, slope: float, far: float) -> Iterator[Model]:
    """Yield models for [tables, h, parity], whose lengths are still to be worked out."""
    total = merged.sum((0, 2), dtype=np.uint64).astype(np.int64)
    used, half = np.flatnonzero(total), len(total) // 2
    done: set[tuple[int, int]] = set()
    low, high = (int(used[0]), int(used[-1])) if used.size else (half, half)
    count = int(total.sum())
    for rare in RARE:
        kept = np.flatnonzero(total >= count // (rare << PRECISION)) if rare else used
        a, b = (int(kept[0]), int(kept[-1])) if kept.size else (low, high)
        if b - a + 1 > TOKENS // 2 - ((a, b) != (low, high)):
            inside = np.concatenate(([0], np.cumsum(total)))
            room = TOKENS // 2 - 1
            a = int(np.argmax(inside[room:] - inside[:-room]))
            b = a + room - 1
        if (a, b) in done:
            continue
        done.add((a, b))
        all_of_it, extra = (a, b) == (low, high), UNIT * bits * count + UNIT * count // SIDE * (bits > 0)
        apart = np.concatenate((np.arange(a, 0, -1), np.zeros(b - a + 1), np.arange(1, len(total) - b))) * (4 << bits)
        if all_of_it or (slope and far - (4 << bits) * min(half - a, b + 1 - half) < TAIL):
            lost = 0 if all_of_it else int((apart * apart * total).sum() / slope * UNIT)
            yield Model(bits, a - half, b - half, False, not all_of_it, _cost(_tokens(merged, a, b, False), env) + lost + extra, NONE)
        if not all_of_it:
            outside = int(total.sum() - total[a : b + 1].sum())
            extra += UNIT * _escape_bits(len(total)) * outside + UNIT * count // SIDE * (bits == 0)
            yield Model(bits, a - half, b - half, True, False, _cost(_tokens(merged, a, b, True), env) + extra, NONE)


def _escape_bits(kinds: int) -> int:
    """Bits of the value of an escape, and of what says that it is there."""
    return kinds.bit_length() + 2


def _tokens(merged: U64, low: int, high: int, escape: bool) -> U64:
    """Return the counts of tokens, [tables, 256]."""
    found = np.zeros((len(merged), TOKENS), np.uint64)
    size = 2 * (high - low + 1)
    found[:, :size] = merged[:, low : high + 1].reshape(len(merged), -1)
    if escape:
        found[:, size : size + 2] = merged.sum(1) - merged[:, low : high + 1].sum(1)
    return found


def _cost(tokens: U64, env: Env) -> int:
    """Bits of tokens and their tables, in 2^-20 bits."""
    tables = env.backend.fit_tables(tokens, PRECISION)
    return int((tokens.astype(np.int64) * _lengths(tables)).sum()) + 8 * UNIT * len(env.backend.pack_tables(tables))


def _lengths(tables: Tables) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = LENGTHS[tables.frequencies]
    return found


def _with_lengths(its: Model, counts: U64, env: Env) -> Model:
    """Work out what symbols cost; tokens that were not seen count as seen half a time."""
    merged = counts.reshape(len(counts), -1, 1 << its.bits, 2).sum(2, dtype=np.uint64)
    kinds, half = merged.shape[1], merged.shape[1] // 2
    a, b = its.low + half, its.high + half
    full = b - a + 1 == TOKENS // 2
    tokens = 2 * _tokens(merged, a, b, its.escape)
    size = 2 * (b - a + 1)
    tokens[:, : size if full else size + 2] += np.uint64(1)
    lengths = _lengths(env.backend.fit_tables(tokens, PRECISION)) / UNIT
    outside = lengths[:, size : size + 2] if not full else np.full((len(counts), 2), PRECISION)
    found = np.empty(merged.shape)
    found[:] = outside[:, None] + _escape_bits(kinds)
    found[:, a : b + 1] = lengths[:, :size].reshape(len(counts), -1, 2)
    spread = np.repeat(found[:, :, None], 1 << its.bits, 2).reshape(counts.shape) + its.bits
    return Model(its.bits, its.low, its.high, its.escape, its.cut, its.cost, spread.astype(np.float32))
