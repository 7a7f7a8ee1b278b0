"""How much the errors of a matrix matter to what it computes, and to what follows (Kronecker-factored curvature, arXiv 1503.05671)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.errors import EncodeError

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
DAMPING = 0.01
"""What is added to the diagonal of the inputs' moments, of its mean: directions that a few samples have not seen."""
QUIET = 0.25
"""Share of the mean below which an output's weight is taken to be more: in errors as large as it allows, a loss is not quadratic."""


@dataclass(frozen=True, slots=True, eq=False)
class Curvature:
    """An error E [rows, cols] costs the sum over rows i of outputs[i] · E[i] · inputs · E[i]ᵀ.

    inputs: second moment of the inputs, float32 [cols, cols], symmetric. outputs: what squared errors of the outputs cost, float32 [rows];
    None: all alike, and costs are no loss that those of other matrices could be compared with.
    """

    inputs: F32
    outputs: F32 | None = None

    def factor(self) -> tuple[F32, F64]:
        """Return U, unit upper triangular float32, and d > 0 with inputs + damping = U diag(d) Uᵀ.

        Then E costs Σ d[j] · outputs[i] · (E U)[i, j]²: error that is fed back from left to right leaves what rounding leaves.
        Raises EncodeError where the moments are not those of finite inputs.
        """
        mean = float(np.diagonal(self.inputs).mean(dtype=np.float64)) if len(self.inputs) else 1.0
        if not 0 <= mean < np.inf:
            raise EncodeError("the moments of the inputs are not finite")
        damped = self.inputs[::-1, ::-1].astype(np.float64)
        damped[np.diag_indices_from(damped)] += DAMPING * mean or 1.0
        try:
            lower = np.linalg.cholesky(damped)
        except np.linalg.LinAlgError:
            raise EncodeError("the moments of the inputs are not positive") from None
        root = np.diagonal(lower).copy()
        lower /= root
        return np.ascontiguousarray(lower[::-1, ::-1], np.float32), root[::-1] ** 2

    def of_rows(self, rows: int) -> F64:
        """Return what every output's error counts, above 0."""
        if self.outputs is None:
            return np.ones(rows)
        found = self.outputs.astype(np.float64)
        mean = float(found.mean()) if rows else 1.0
        if found.shape != (rows,) or not 0 <= mean < np.inf or found.min(initial=0) < 0:
            raise EncodeError(f"weights of {found.size} outputs do not suit a matrix of {rows} rows")
        clipped: F64 = np.maximum(found, QUIET * mean or 1.0)
        return clipped
