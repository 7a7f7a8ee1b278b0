"""The encoder of ``trellis`` for a matrix whose inputs are known: least error of what it computes.

Columns are searched from left to right, each along all rows. What a column's rounding lets slip goes to the columns on its right, which
make up for it (LDLQ, arXiv 2307.13304, as GPTQ does); what is left weighs d per column (``Curvature.factor``), so that steps are
∝ 1/√d: reverse water-filling (WaterSIC, arXiv 2603.04956). Weights of outputs make steps of rows, likewise.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from wcodec.coding.rans import Order
from wcodec.coding.trellis import Lattice, Quantised, code, factors
from wcodec.coding.trellis_search import Moments, Search
from wcodec.errors import EncodeError
from wcodec.types import DTYPES, Spec, UInts

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
BLOCK = 128
"""Columns whose errors reach all columns behind them as one product of matrices."""
PASSES = 2
"""Times that all columns are searched: the last ones by code lengths of symbols that were chosen with feedback."""


def quantise_calibrated(x: F32, spec: Spec, env: Env, options: Mapping[str, Any]) -> Quantised:
    """Decide everything for a flat matrix of finite values, by the option ``curvature``. Raises EncodeError."""
    curvature: Curvature = options["curvature"]
    rows, cols = matrix_shape(spec)
    if curvature.inputs.shape != (cols, cols) or not x.size:
        raise EncodeError(f"moments of {len(curvature.inputs)} inputs do not suit a matrix of {cols} columns")
    upper, d = curvature.factor()
    its = settings(x.reshape(rows, cols), d, curvature.of_rows(rows), options)
    coder = Coder(x, env, its)
    counts, points = coder.learn()
    symbols = np.empty(x.size, coder.dtype)
    for _ in range(options.get("passes", PASSES)):
        feedback = Feedback(coder, upper, coder.how(coder.last(counts), points), points)
        bands = {piece.first: piece for piece in its.layout.pieces() if piece.first % cols == 0}
        moments = list(env.workers(partial(feedback.band, symbols=symbols), bands.values()))
        counts = np.sum([found.counts for found in moments], axis=0, dtype=np.uint64)
    return coder.finish(symbols, counts, points)


def whitened(matrix: F32, d: F64, g: F64) -> F32:
    """Return the matrix in units in which all errors count alike."""
    found: F32 = (matrix * np.sqrt(g)[:, None] * np.sqrt(d)).astype(np.float32)
    return found


def settings(matrix: F32, d: F64, g: F64, options: Mapping[str, Any]) -> Settings:
    """Work out steps: an error of one step counts the same everywhere. Raises EncodeError."""
    (rows, cols), v = matrix.shape, states_of(options)
    energy = energies(whitened(matrix, d, g))
    step = step_of(options, float(np.sqrt(total(energy) / matrix.size)))
    middle = [float(np.exp(-0.5 * np.log(its).mean())) for its in (g, d)]
    of_rows, of_columns = (code(1 / (np.sqrt(its) * mean)) for its, mean in zip((g, d), middle, strict=True))
    step = step_of({"step": float(step) * middle[0] * middle[1]}, 1.0)
    its = Settings(
        step, v, options.get("slope", SLOPE), _layout(rows, cols, v), of_rows if np.ptp(of_rows) else None, of_columns,
        points=options.get("points", True), rounds=options.get("rounds", ROUNDS),
    )  # fmt: skip
    flat = matrix.reshape(-1)
    return replace(its, layout=with_classes(its.layout, lambda piece: its.scaled(flat, piece), energy, options.get("classes", 4)))


def _layout(rows: int, cols: int, v: int) -> Layout:
    """Return tiles that are as high as can be, so that every column has a trellis along it."""
    high = min(rows, TRELLIS_BLOCK // 128)
    wide = 128 * min(-(-cols // 128), TRELLIS_BLOCK // (128 * high))
    found = [Layout(rows, cols, v, tile) for tile in (*tiles(rows, cols), (high, wide))]
    return min(found, key=lambda its: its.overhead)


@dataclass(frozen=True, slots=True)
class Feedback:
    """A search of all columns, from left to right. upper: U of ``Curvature.factor``."""

    coder: Coder
    upper: F32
    how: Search
    points: npt.NDArray[np.int64]

    def band(self, piece: Piece, symbols: UInts) -> Moments:
        """Search the rows that a piece has and all their columns; write the symbols to the flat array."""
        its, cols, backend = self.coder.its, self.coder.its.layout.cols, self.coder.env.backend
        rows, left, f32 = piece.steps, self.upper.T.copy(), DTYPES["F32"]
        band = replace(piece, columns=cols)
        wanted = np.ascontiguousarray(band.of(self.coder.x).T)  # [columns, rows], of which less and less is left to make up for
        found, moments = np.empty((cols, rows), self.coder.dtype), self.coder.moments()
        order, points = Order(rows, 1, 1, tile=(rows, 128)), self.points.astype(np.float32) / np.float32(PER_POINT)
        of_rows, of_columns = self._steps(piece)
        values = np.empty(rows, np.float32)
        errors = np.zeros((cols, rows), np.float32)
        for start in range(0, cols, BLOCK):
            stop = min(start + BLOCK, cols)
            target = wanted[start:stop] + left[start:stop, :start] @ errors[:start]
            for j in range(start, stop):
                now = target[j - start] + left[j, start:j] @ errors[start:j]
                steps = of_rows * of_columns[j]
                backend.trellis_search(self.how, (now / steps).reshape(-1, 1), None, piece.classes, found[j].reshape(-1, 1), moments)
                lattice = Lattice(its.v, self.coder.zero, steps, None, points)
                backend.trellis_dequantise(order, 0, found[j], lattice, f32, values.view(np.uint32))
                np.subtract(wanted[j], values, out=errors[j])
        band.of(symbols)[:] = found.T
        return moments

    def _steps(self, piece: Piece) -> tuple[F32, F32]:
        """Return the steps of a piece's rows, and the factors of all columns."""
        its, top = self.coder.its, piece.first // self.coder.its.layout.cols
        assert its.columns is not None, "settings have made them"
        of_rows = np.full(piece.steps, its.step) if its.rows is None else its.step * factors(its.rows[top : top + piece.steps])
        return of_rows, factors(its.columns)
