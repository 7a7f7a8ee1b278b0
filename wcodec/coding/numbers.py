"""Stored floats to float32 and back: exact when widening, rounded to nearest even when narrowing."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt

from wcodec.errors import BackendUnavailable
from wcodec.types import DType, UInts

FLOATS = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2), "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
}  # fmt: skip
"""numpy dtypes of the floats that numpy or ml_dtypes converts; BF16 is two shifts."""

LOSSY = ("F64", "F32", "F16", "BF16")
"""Dtypes that codecs may approximate."""


def to_float32(x: UInts, dtype: DType) -> npt.NDArray[np.float32]:
    """Widen storage elements to float32; F64 is rounded to nearest even."""
    if dtype.name == "BF16":
        return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype.name == "F32":
        return x.view(np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        widened: npt.NDArray[np.float32] = x.view(FLOATS[dtype.name]).astype(np.float32)
    return widened


def from_float32(values: npt.NDArray[np.float32], dtype: DType) -> UInts:
    """Round float32 to storage elements, to nearest even; F64 is widened.

    NaNs keep their sign and the upper bits of their payload, and become quiet.
    """
    if dtype.name == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)
        quiet = bits >> np.uint32(16) | np.uint32(0x40)
        return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)
    if dtype.name == "F32":
        return np.ascontiguousarray(values).view(np.uint32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        found: UInts = values.astype(FLOATS[dtype.name]).view(dtype.storage)
    if dtype.name == "F16" and (nan := np.isnan(values)).any():  # some builds of numpy keep NaNs signalling, some do not
        bits = values[nan].view(np.uint32)
        found[nan] = bits >> np.uint32(16) & np.uint32(0x8000) | np.uint32(0x7E00) | bits >> np.uint32(13) & np.uint32(0x3FF)
    return found


def add(a: UInts, b: UInts, dtype: DType) -> UInts:
    """Add floats: in float32, rounded to the dtype once more; F64 in float64. NaNs become the quiet one without sign and payload."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype.name == "F64":
            wide: npt.NDArray[np.float64] = a.view("<f8") + b.view("<f8")
            return np.where(np.isnan(wide), np.float64("nan"), wide).view(dtype.storage)
        total = to_float32(a, dtype) + to_float32(b, dtype)
        return from_float32(np.where(np.isnan(total), np.float32("nan"), total), dtype)


def check_subnormals() -> None:
    """Raise BackendUnavailable when this thread's float32 arithmetic loses subnormal numbers: decoded bits would depend on that."""
    tiny = np.array([1], np.uint32).view(np.float32)
    if (tiny + tiny).view(np.uint32)[0] != 2:
        raise BackendUnavailable("float arithmetic flushes subnormal numbers to zero in this thread (torch.set_flush_denormal?)")
