"""The encoder of ``trellis`` for a matrix whose inputs are known: least error of what it computes.

Columns are searched from left to right, each along all rows. What a column's rounding lets slip goes to the columns on its right, which
make up for it (LDLQ, arXiv 2307.13304, as GPTQ does); what is left weighs d per column (``Curvature.factor``), so that steps are
∝ 1/√d: reverse water-filling (WaterSIC, arXiv 2603.04956). Weights of outputs make steps of rows, likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env
from wcodec.codecs.floats.curvature import Curvature
from wcodec.codecs.floats.trellis_encoder import PER_POINT, ROUNDS, SLOPE, Coder, Settings, energies, states_of, step_of, total
from wcodec.codecs.floats.trellis_layout import Layout, Piece, tiles, with_classes
from wcodec.codecs.integers.rans_encoder import TRELLIS_BLOCK
from wcodec.codecs.matrix import matrix_shape
from wcodec.coding.numbers import to_float32
from wcodec.coding.rans import Order
from wcodec.coding.trellis import Lattice, Quantised, code, factors
from wcodec.coding.trellis_search import Moments, Search
from wcodec.errors import EncodeError
from wcodec.types import DTYPES, U64, Spec, UInts

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
BLOCK = 128
"""Columns whose errors reach all columns behind them as one product of matrices."""
PASSES = 2
"""Times that all columns are searched: the last ones by code lengths of symbols that were chosen with feedback."""


def quantise_calibrated(x: F32, spec: Spec, env: Env, options: Mapping[str, Any]) -> Quantised:
    """Decide everything for a flat matrix of finite values, by the option ``curvature``. Raises EncodeError."""
    (rows, cols), curvature = matrix_shape(spec), suited(spec, options)
    upper, d = curvature.factor()
    its = settings(x.reshape(rows, cols), d, curvature.of_rows(rows), options)
    coder = Coder(x, env, its)
    counts, points = coder.learn()
    symbols = np.empty(x.size, coder.dtype)
    for _ in range(PASSES):
        counts = Feedback(coder, upper, coder.how(coder.last(counts), points), points).all(symbols)
    return coder.finish(symbols, counts, points)


def suited(spec: Spec, options: Mapping[str, Any]) -> Curvature:
    """Return the option ``curvature``. Raises EncodeError when it is another matrix's."""
    curvature: Curvature = options["curvature"]
    cols = matrix_shape(spec)[1]
    if curvature.inputs.shape != (cols, cols) or not spec.count:
        raise EncodeError(f"moments of {len(curvature.inputs)} inputs do not suit a matrix of {cols} columns")
    return curvature


def whitened(matrix: F32, d: F64, g: F64) -> F32:
    """Return the matrix in units in which all errors count alike."""
    found: F32 = (matrix * np.sqrt(g)[:, None] * np.sqrt(d)).astype(np.float32)
    return found


def whitened_elements(x: UInts, spec: Spec, curvature: Curvature) -> F32:
    """Return a tensor's elements in those units, flat."""
    matrix = to_float32(x, spec.dtype).reshape(matrix_shape(spec))
    return whitened(matrix, curvature.factor()[1], curvature.of_rows(len(matrix))).reshape(-1)


def settings(matrix: F32, d: F64, g: F64, options: Mapping[str, Any], band: int = 1) -> Settings:
    """Work out steps: an error of one step counts the same everywhere. band: rows that no tile cuts. Raises EncodeError."""
    (rows, cols), v = matrix.shape, states_of(options)
    energy = energies(whitened(matrix, d, g))
    step = step_of(options, float(np.sqrt(total(energy) / matrix.size)))
    middle = [float(np.exp(-0.5 * np.log(its).mean())) for its in (g, d)]
    of_rows, of_columns = (code(1 / (np.sqrt(its) * mean)) for its, mean in zip((g, d), middle, strict=True))
    step = step_of({"step": float(step) * middle[0] * middle[1]}, 1.0)
    its = Settings(
        step, v, options.get("slope", SLOPE), _layout(rows, cols, v, band), of_rows if np.ptp(of_rows) else None, of_columns,
        points=options.get("points", True), rounds=options.get("rounds", ROUNDS),
    )  # fmt: skip
    flat = matrix.reshape(-1)
    return replace(its, layout=with_classes(its.layout, lambda piece: its.scaled(flat, piece), energy, options.get("classes", 4)))


def _layout(rows: int, cols: int, v: int, band: int) -> Layout:
    """Return tiles that are as high as can be, so that every column has a trellis along it."""
    high = min(rows, TRELLIS_BLOCK // 128)
    wide = 128 * min(-(-cols // 128), TRELLIS_BLOCK // (128 * high))
    found = [Layout(rows, cols, v, tile) for tile in (*tiles(rows, cols, band), (high, wide))]
    return min(found, key=lambda its: its.overhead)


def feed_back(wanted: F32, upper: F32, rounded: Callable[[int, F32], F32]) -> None:
    """Round columns from left to right, each one with what the errors of those before it ask of it.

    wanted: [columns, rows]. upper: U of ``Curvature.factor``. rounded: takes a column's number and values, returns what they become.
    """
    left, errors = upper.T.copy(), np.zeros_like(wanted)
    for start in range(0, len(wanted), BLOCK):
        stop = min(start + BLOCK, len(wanted))
        target = wanted[start:stop] + left[start:stop, :start] @ errors[:start]
        for j in range(start, stop):
            now = target[j - start] + left[j, start:j] @ errors[start:j]
            np.subtract(wanted[j], rounded(j, now), out=errors[j])


@dataclass(frozen=True, slots=True)
class Column:
    """A column while it is searched. j: its number. steps: of its rows. found: where its symbols go."""

    piece: Piece
    j: int
    steps: F32
    found: UInts
    moments: Moments


@dataclass(frozen=True, slots=True)
class Feedback:
    """A search of all columns, from left to right. upper: U of ``Curvature.factor``."""

    coder: Coder
    upper: F32
    how: Search
    points: npt.NDArray[np.int64]

    def all(self, symbols: UInts) -> U64:
        """Search everything, write the symbols to the flat array. Returns their counts."""
        layout = self.coder.its.layout
        bands = {piece.first: piece for piece in layout.pieces() if piece.first % layout.cols == 0}
        moments = list(self.coder.env.workers(partial(self._band, symbols=symbols), bands.values()))
        counts: U64 = np.sum([found.counts for found in moments], axis=0, dtype=np.uint64)
        return counts

    def _band(self, piece: Piece, symbols: UInts) -> Moments:
        """Search the rows that a piece has and all their columns."""
        cols = self.coder.its.layout.cols
        band = replace(piece, columns=cols)
        wanted = np.ascontiguousarray(band.of(self.coder.x).T)  # [columns, rows]
        found, moments = np.empty(wanted.shape, self.coder.dtype), self.coder.moments()
        of_rows, of_columns = self._steps(piece)

        def rounded(j: int, now: F32) -> F32:
            return self.column(Column(piece, j, of_rows * of_columns[j], found[j], moments), now)

        feed_back(wanted, self.upper, rounded)
        band.of(symbols)[:] = found.T
        return moments

    def column(self, its: Column, now: F32) -> F32:
        """Search a column, write its symbols. Returns what they stand for."""
        self.search(its, now / its.steps, its.moments)
        return self.values(its, its.steps)

    def search(self, its: Column, u: F32, moments: Moments | None) -> None:
        """Write the symbols of a column in steps."""
        weights, column = self.coder.its.weights, replace(its.piece, first=its.piece.first + its.j, columns=1)
        own = None if weights is None else np.ascontiguousarray(column.of(weights))
        self.coder.env.backend.trellis_search(self.how, u.reshape(-1, 1), own, its.piece.classes, its.found.reshape(-1, 1), moments)

    def values(self, its: Column, steps: F32) -> F32:
        """Return what the symbols of a column stand for."""
        points = self.points.astype(np.float32) / np.float32(PER_POINT)
        lattice = Lattice(self.coder.its.v, self.coder.zero, steps, None, points)
        order, values = Order(its.found.size, 1, 1, tile=(its.found.size, 128)), np.empty(its.found.size, np.float32)
        self.coder.env.backend.trellis_dequantise(order, 0, its.found, lattice, DTYPES["F32"], values.view(np.uint32))
        return values

    def _steps(self, piece: Piece) -> tuple[F32, F32]:
        """Return the steps of a piece's rows, and the factors of all columns."""
        its, top = self.coder.its, piece.first // self.coder.its.layout.cols
        assert its.columns is not None, "settings have made them"
        of_rows = np.full(piece.steps, its.step) if its.rows is None else its.step * factors(its.rows[top : top + piece.steps])
        return of_rows, factors(its.columns)
