"""Arrays as matrices: rows along axis 0, everything else in columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wcodec.coding.numbers import LOSSY, to_float32
from wcodec.errors import EncodeError
from wcodec.types import Spec, UInts


def matrix_shape(spec: Spec) -> tuple[int, int]:
    """Return rows and columns: the first dimension (1 when there are fewer than two), and what is left."""
    rows = spec.shape[0] if len(spec.shape) > 1 else 1
    return rows, spec.count // rows if rows else 0


def approximable(x: UInts, spec: Spec, codec: str) -> npt.NDArray[np.float32]:
    """Return the elements as flat float32. Raises EncodeError when they are no floats, not finite, or beyond float32."""
    if spec.dtype.name not in LOSSY:
        raise EncodeError(f"{codec} takes {', '.join(LOSSY)}, not {spec.dtype.name}")
    values = to_float32(x, spec.dtype)
    if not np.isfinite(values).all():
        raise EncodeError(f"{codec} takes finite values of float32's range")
    return values
