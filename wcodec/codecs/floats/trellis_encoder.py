"""What an encoder of ``trellis`` decides: steps, classes of rows, points, and the path of every column.

The search minimises squared error + slope · bits. Code lengths come from a scalar quantiser's histogram first, then from the
symbols that the search chose, for a sample of the tensor; the last search goes through all of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env
from wcodec.codecs.floats.trellis_layout import Layout, Piece, choose_layout, with_classes
from wcodec.codecs.floats.trellis_model import Model, choose
from wcodec.codecs.matrix import matrix_shape
from wcodec.coding.trellis import Quantised, code, factors
from wcodec.coding.trellis_search import Moments, Search
from wcodec.coding.trellis_search import Piece as Columns
from wcodec.errors import EncodeError
from wcodec.types import U8, U64, Spec, UInts

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
STATES = {1 << v: v for v in range(2, 9)}
SCOPES = ("tensor", "rows", "columns")
LARGEST = 110
"""Steps lie below 2 to this power: then no product with factors is infinite."""
FAR = 65_000
"""Steps that a value may be away from zero: symbols have 16 bits."""
NEAR = 240
"""Steps within which 8 bits are enough."""
SAMPLE = 1 << 20
"""Weights that code lengths are estimated by."""
SLOPE = 0.37
"""Squared steps that a bit is worth: what is best at all rates."""
ROUNDS = 2
PER_POINT = 256
FORBIDDEN = 1e6
"""Cost of symbols that a model has not: with x cut off in between, there is always another one."""
CHUNK = 1 << 16
"""Weights whose squares are added at once."""
POINTS = 16
"""Points that are tried."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to quantise a tensor.

    step: between neighbours of both lattices together; v: 2^v states; slope: squared steps that a bit is worth. rows, columns: codes of
    factors of steps. layout: order of the symbols, and what classes its rows have. weights: of squared errors, flat, 1 on average.
    """

    step: np.float32
    v: int
    slope: float
    layout: Layout
    rows: U8 | None = None
    columns: U8 | None = None
    weights: F32 | None = None
    points: bool = True
    rounds: int = ROUNDS

    def scaled(self, x: F32, piece: Piece) -> F32:
        """Return a piece of the flat array in steps; 0 where the step is 0."""
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            if self.rows is None and self.columns is None:
                whole: F32 = np.divide(piece.of(x), self.step, dtype=np.float32)
                return whole
            row, column = np.divmod(piece.elements(), self.layout.cols)
            steps: F32 = np.full((1, 1), self.step, np.float32)
            steps = steps if self.rows is None else steps * factors(self.rows)[row]
            steps = steps if self.columns is None else steps * factors(self.columns)[column]
            found: F32 = np.where(steps > 0, piece.of(x) / steps, np.float32(0))
            return found


def quantise(x: F32, spec: Spec, env: Env, options: Mapping[str, Any]) -> Quantised:
    """Decide everything for a flat tensor of finite values. Raises EncodeError."""
    return encode(x, env, settings(x, spec, options))


def settings(x: F32, spec: Spec, options: Mapping[str, Any]) -> Settings:
    """Work out the options that ``Trellis`` describes. Raises EncodeError."""
    (rows, cols), v, scope = matrix_shape(spec), states_of(options), options.get("steps", "tensor")
    if scope not in SCOPES:
        raise EncodeError(f"steps is {scope!r}; there are: {', '.join(SCOPES)}")
    if not x.size:
        rows, cols, scope = 0, 0, "tensor"
    matrix = x.reshape(rows, cols)
    energy = energies(matrix)
    size = float(np.sqrt(total(energy) / max(1, x.size)))
    step = step_of(options, size)
    of_rows = code(np.sqrt(energy / max(1, cols)) / (size or 1)) if scope == "rows" else None
    of_columns = code(np.sqrt(energies(matrix.T) / max(1, rows)) / (size or 1)) if scope == "columns" else None
    weights = None
    if x.size and (importance := options.get("importance")) is not None:
        mean = float(importance.mean(dtype=np.float64))
        weights = (importance / mean).astype(np.float32) if mean > 0 else None
    layout = choose_layout(rows, cols, v, options.get("tile"))
    its = Settings(step, v, options.get("slope", SLOPE), layout, of_rows, of_columns, weights)
    its = replace(its, points=options.get("points", True), rounds=options.get("rounds", ROUNDS))
    return replace(its, layout=with_classes(layout, lambda piece: its.scaled(x, piece), energy, options.get("classes", 4)))


def states_of(options: Mapping[str, Any]) -> int:
    """Return v, for 2^v states. Raises EncodeError."""
    states = options.get("states", 32)
    if states not in STATES:
        raise EncodeError(f"states is {states}; there are {', '.join(map(str, STATES))}")
    return STATES[states]


def step_of(options: Mapping[str, Any], size: float) -> np.float32:
    """Return the step asked for. size: root mean square of the values. Raises EncodeError."""
    if "step" in options and "relative" in options:
        raise EncodeError("step and relative exclude each other")
    asked = options["step"] if "step" in options else options.get("relative", 0.5) * (size or 1)
    if not 2.0**-149 <= asked < 2.0 ** (LARGEST - 1):
        raise EncodeError(f"a step of {asked:g}")
    return np.float32(asked)


def encode(x: F32, env: Env, its: Settings) -> Quantised:
    """Quantise as settled. Raises EncodeError."""
    coder = Coder(x, env, its)
    counts, points = coder.learn()
    symbols, moments = np.empty(x.size, coder.dtype), coder.moments()
    coder.search(list(its.layout.pieces()), coder.how(coder.last(counts), points), symbols, moments)
    return coder.finish(symbols, moments.counts, coder.points(moments))


class Coder:
    """A tensor while it is encoded: searches pieces of it, and learns from the symbols."""

    def __init__(self, x: F32, env: Env, its: Settings) -> None:
        self.x, self.env, self.its = x, env, its
        far = max((float(np.abs(self.scaled(piece)).max(initial=0)) for piece in its.layout.pieces()), default=0.0)
        if not far < FAR:
            raise EncodeError(f"values of {FAR} steps: the step is too small")
        self.far, self.wide = far, far > NEAR
        self.zero = 1 << (15 if self.wide else 7)
        self.dtype = np.dtype(np.uint16 if self.wide else np.uint8)
        self.half = max(1 << 9, 1 << int(far / 2 + 4).bit_length()) if self.wide else 1 << 7
        self.tables = 2 * its.layout.pairs

    def scaled(self, piece: Piece) -> F32:
        """Return the weights of a piece in steps, as the trellises run: [steps, columns]."""
        return self.its.scaled(self.x, piece)

    def sample(self) -> Sequence[Piece]:
        """Return pieces of columns, evenly spread, of about SAMPLE weights."""
        pieces = list(itertools.chain.from_iterable(piece.narrow() for piece in self.its.layout.pieces()))
        return pieces[:: max(1, sum(piece.count for piece in pieces) // SAMPLE)]

    def learn(self) -> tuple[U64, npt.NDArray[np.int64]]:
        """Return counts of symbols, and points, as searches of a sample find them."""
        counts, points, sample = self.first_counts(), np.empty(0, np.int64), self.sample()
        for _ in range(self.its.rounds):
            moments = self.moments()
            self.search(sample, self.how(choose(counts, self.env.host, self.wide), points), None, moments)
            counts, points = moments.counts, self.points(moments)
        return counts, points

    def last(self, counts: U64) -> Model:
        """Return what the last search goes by, after counts of a sample."""
        return choose(counts, self.env.host, self.wide, self.its.slope, self.far)

    def finish(self, symbols: UInts, counts: U64, points: npt.NDArray[np.int64]) -> Quantised:
        """Return what was decided. counts: of the symbols."""
        its, model = self.its, choose(counts, self.env.host, self.wide)
        return Quantised(
            symbols, self.zero, its.step, its.v, its.layout.tile, its.rows, its.columns, tuple(points.tolist()), its.layout.classes,
            model.alphabet(self.zero, self.wide),
        )  # fmt: skip

    def how(self, model: Model, points: npt.NDArray[np.int64]) -> Search:
        """Return what the search minimises."""
        k = np.add.outer(np.arange(self.tables) & 1, 2 * np.arange(-self.half, self.half))
        shifts = None
        if points.size:
            away = np.append(points, np.zeros(1, np.int64)) - PER_POINT * np.arange(1, points.size + 2)
            away[-1] = 0
            shift = np.sign(k) * away[np.minimum(np.abs(k), points.size + 1) - 1] * (k != 0)
            shifts = (shift / PER_POINT).astype(np.float32)
        costs = (model.lengths * self.its.slope).astype(np.float32)
        if not model.cut:
            return Search(self.its.v, -self.half, costs, self.zero, shifts)
        low, high = model.low << (model.bits + 1), (model.high + 1 << (model.bits + 1)) - 1
        costs[:, : low + self.half] = costs[:, high + 1 + self.half :] = FORBIDDEN
        return Search(self.its.v, -self.half, costs, self.zero, shifts, 2.0 * low - 1, 2.0 * high + 1)

    def first_counts(self) -> U64:
        """Count symbols of scalar quantisers to either lattice, in a sample."""
        counts = np.zeros((self.tables, 2 * self.half), np.uint64)
        for piece in self.sample():
            u, classes = self.scaled(piece), piece.classes
            for z0 in (0, 1):
                i = np.rint((u - np.float32(z0)) * np.float32(0.5)).astype(np.intp) + self.half
                if classes is None:
                    counts[z0] += np.bincount(i.ravel(), minlength=2 * self.half).astype(np.uint64)
                else:
                    key = (2 * classes.astype(np.intp)[:, None] + z0) * (2 * self.half) + i
                    counts += np.bincount(key.ravel(), minlength=counts.size).astype(np.uint64).reshape(counts.shape)
        return counts

    def search(self, pieces: Sequence[Piece], how: Search, symbols: UInts | None, moments: Moments) -> None:
        """Search pieces, write their symbols to the flat array, if any, and add up their moments."""
        groups = [pieces[i :: self.env.parallel] for i in range(min(self.env.parallel, len(pieces)))]
        for found in self.env.workers(lambda group: self._group(group, how, symbols), groups):
            moments.counts[:] += found.counts
            moments.sums[:] += found.sums

    def moments(self) -> Moments:
        """Return moments of no symbols yet."""
        return Moments.zeros((self.tables, 2 * self.half))

    def _group(self, pieces: Sequence[Piece], how: Search, symbols: UInts | None) -> Moments:
        moments = self.moments()
        self.env.backend.trellis_search_pieces(how, (self._columns(piece, symbols) for piece in pieces), moments)
        return moments

    def _columns(self, piece: Piece, symbols: UInts | None) -> Columns:
        weights = None if self.its.weights is None else np.ascontiguousarray(piece.of(self.its.weights))
        u = np.ascontiguousarray(self.scaled(piece))
        return Columns(u, weights, piece.classes, np.empty(u.shape, self.dtype) if symbols is None else piece.of(symbols))

    def points(self, moments: Moments) -> npt.NDArray[np.int64]:
        """Return the centroids of |k| = 1, 2, … in 1/256 of a step, as far as they lower the error enough to matter."""
        if not self.its.points:
            return np.empty(0, np.int64)
        k = np.add.outer(np.arange(self.tables) & 1, 2 * np.arange(-self.half, self.half))
        inside = (np.abs(k) <= POINTS) & (k != 0)
        size = np.abs(k[inside])
        counts = np.bincount(size, moments.counts[inside].astype(np.float64), POINTS + 1)[1:].astype(np.int64)
        sums = np.bincount(size, (np.sign(k) * moments.sums)[inside].astype(np.float64), POINTS + 1)[1:].astype(np.int64)
        shift = np.where(counts > 0, (2 * sums + 256 * counts) // np.maximum(512 * counts, 1), 0)  # in 1/256, rounded
        shift = np.clip(shift, -PER_POINT // 2, PER_POINT // 2)
        gain = counts * (shift / PER_POINT) ** 2
        everything = int(moments.counts.sum())
        worth = np.flatnonzero((gain > everything * 1e-4) & (gain > 64 * self.its.slope))
        last = int(worth[-1]) + 1 if worth.size else 0
        found: npt.NDArray[np.int64] = PER_POINT * np.arange(1, last + 1) + shift[:last]
        return found


def total_energy(x: F32) -> float:
    """Return the sum of squares of a flat array in float64, added in one order on every machine."""
    return total(energies(x.reshape(1, -1)))


def energies(x: F32) -> F64:
    """Return the sum of squares of every row in float64, added in one order on every machine."""
    rows, cols = x.shape
    width = min(64, 1 << max(0, cols - 1).bit_length())
    high = max(1, CHUNK // width)
    found = np.empty(rows)
    for top in range(0, rows, high):
        sums = np.zeros((min(high, rows - top), width))
        for left in range(0, cols, width):
            piece = x[top : top + high, left : left + width].astype(np.float64)
            sums[:, : piece.shape[1]] += piece * piece
        while sums.shape[1] > 1:
            sums = sums[:, : sums.shape[1] // 2] + sums[:, sums.shape[1] // 2 :]
        found[top : top + high] = sums[:, 0]
    return found


def total(energy: F64) -> float:
    """Add up, in one order on every machine."""
    return float(np.cumsum(energy)[-1]) if energy.size else 0.0
