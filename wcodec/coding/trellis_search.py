"""The Viterbi search of the trellis codec in numpy, vectorised over columns: the oracle.

Only encoders need it, and no file depends on how it chooses; but every implementation does the same float32 operations in the
same order, one at a time, so that an encoder gives the same file on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.coding.rans import POLYNOMIALS
from wcodec.types import U8, U64, UInts

F32: TypeAlias = npt.NDArray[np.float32]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]
WIDEST = 1 << 15
"""Symbols lie between minus this and this."""


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What the search of a trellis with 2^v states minimises.

    A symbol i after a state of parity z0 stands for the point 2i + z0. costs [2 · classes, entries]: what symbol first + entry costs in
    squared units of x, after z0 in class c in row 2c + z0; the first and last entry are also what all symbols beyond cost.
    shifts, of the same shape: added to the points. zero: added to symbols that are written. low, high: x is cut off there.
    """

    v: int
    first: int
    costs: F32
    zero: int
    shifts: F32 | None = None
    low: float = -np.inf
    high: float = np.inf

    def limits(self, bits: int) -> tuple[float, float]:
        """Return where x is cut off at least, so that all symbols looked at fit ``bits`` bits, and 16 with a sign."""
        low, high = max(-self.zero, 1 - WIDEST), min((1 << bits) - 1 - self.zero, WIDEST - 1)
        return max(2.0 * low + 3, self.low), min(2.0 * high - 3, self.high)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Counts of symbols, and sums of their x − (2i + z0) in units of 2^-16, each [2 · classes, entries] as the costs."""

    counts: U64
    sums: I64

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> Moments:
        """Return those of no symbols."""
        return cls(np.zeros(shape, np.uint64), np.zeros(shape, np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Columns to search: x and weights as ``search`` takes them, classes of steps, and where their symbols go, [steps, columns]."""

    x: F32
    weights: F32 | None
    classes: U8 | None
    out: UInts


def search(how: Search, x: F32, weights: F32 | None, classes: U8 | None, out: UInts, moments: Moments | None) -> None:
    """Write the symbols, plus ``zero``, of the path of every column with the least sum of weight · (x − point)² + cost.

    x: [steps, columns] in units of which points are integers; weights: the same, None for 1; classes: one for every step, None for 0.
    A column starts in state 0 and ends in any. Of two equal costs the lower symbol wins, then z1 = 0, at the end the lower state.
    moments grow by those of the symbols chosen.
    """
    low, high = (np.float32(limit) for limit in how.limits(8 * out.itemsize))
    states, half = 1 << how.v, 1 << (how.v - 1)
    after = np.arange(states)
    z0 = after >> (how.v - 1)
    before = [state_before(after, z0, z1, how.v) for z1 in (0, 1)]
    cost = np.full((states, x.shape[1]), np.inf, np.float32)
    cost[0] = 0
    kept, picks = np.empty((len(x), states, x.shape[1]), bool), np.empty((len(x), 2, 2, x.shape[1]), np.int32)
    for t, row in enumerate(x):
        table = 0 if classes is None else 2 * int(classes[t])
        cut = np.minimum(np.maximum(row, low), high)
        branch, picks[t] = _branches(how, table, cut, None if weights is None else weights[t])
        branch -= cost[0]
        even, odd = (cost[before[z1]] + branch[z0, z1] for z1 in (0, 1))
        kept[t] = odd < even
        cost = np.where(kept[t], odd, even)
    state, column = np.argmin(cost, axis=0), np.arange(x.shape[1])
    for t in range(len(x) - 1, -1, -1):
        z1, parity = kept[t, state, column].astype(np.intp), state >> (how.v - 1)
        symbol = picks[t, parity, z1, column]
        out[t] = (symbol + how.zero).astype(out.dtype)
        state = state_before(state, parity, z1, how.v) & (2 * half - 1)
        if moments is not None:
            at = (2 * int(classes[t]) if classes is not None else 0) + parity, _entry(how, symbol)
            np.add.at(moments.counts, at, np.uint64(1))
            np.add.at(moments.sums, at, ((x[t] - (2 * symbol + parity).astype(np.float32)) * np.float32(65536)).astype(np.int64))


def state_before(state: npt.NDArray[np.intp], z0: npt.NDArray[np.intp], z1: int | npt.NDArray[np.intp], v: int) -> npt.NDArray[np.intp]:
    """Return the state before: the shift register of entropy.md section 5 backwards."""
    h0, h1 = POLYNOMIALS[v]
    found: npt.NDArray[np.intp] = ((state ^ z0 * (h0 >> 1) ^ z1 * (h1 >> 1)) & ((1 << (v - 1)) - 1)) << 1 | z0
    return found


def _entry(how: Search, symbol: I32) -> I32:
    return np.clip(symbol - how.first, 0, how.costs.shape[1] - 1)


def _branches(how: Search, table: int, x: F32, weights: F32 | None) -> tuple[F32, I32]:
    """Return the least cost of a symbol of parity z1 after z0, and that symbol: [z0, z1, column].

    The four points nearest to x are looked at: two of each parity.
    """
    costs, symbols = np.empty((2, 2, x.size), np.float32), np.empty((2, 2, x.size), np.int32)
    for z0 in (0, 1):
        i = np.floor((x - np.float32(z0)) * np.float32(0.5)).astype(np.int32)
        near = i + np.arange(-1, 3, dtype=np.int32)[:, None]
        at = _entry(how, near)
        d = x - (2 * near + z0).astype(np.float32)
        if how.shifts is not None:
            d = d - how.shifts[table + z0][at]
        cost = d * d if weights is None else d * d * weights
        cost = cost + how.costs[table + z0][at]
        far = cost[2:] < cost[:2]  # of either pair of one parity
        least, chosen = np.where(far, cost[2:], cost[:2]), np.where(far, near[2:], near[:2])
        first_odd = near[0] & 1 == 1
        costs[z0] = np.where(first_odd, least[::-1], least)
        symbols[z0] = np.where(first_odd, chosen[::-1], chosen)
    return costs, symbols
