"""Floats as arrays of numpy: widening of stored bits, and uniform.md's step 3, which rounds to a tensor's dtype."""

from __future__ import annotations

import numpy as np

SILENT = {"over": "ignore", "under": "ignore", "invalid": "ignore"}
"""For np.errstate: infinities and subnormal numbers are results like others."""


def narrow(dtype: str, values: np.ndarray) -> np.ndarray:
    """The storage elements of binary32 `values` in F64, F32, F16 or BF16, rounded to nearest, ties to even. No value is NaN."""
    if dtype == "BF16":
        bits = values.view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
    kind = {"F64": np.float64, "F32": np.float32, "F16": np.float16}[dtype]
    with np.errstate(**SILENT):
        return values.astype(kind).view(f"<u{np.dtype(kind).itemsize}")


def widen(dtype: str, elements: np.ndarray) -> np.ndarray:
    """The values of F64 storage elements in binary64, those of F32, F16 and BF16 in binary32."""
    if dtype == "BF16":
        return (elements.astype(np.uint32) << 16).view(np.float32)
    kind = {"F64": np.float64, "F32": np.float32, "F16": np.float16}[dtype]
    return elements.view(kind).astype(np.float64 if dtype == "F64" else np.float32)


def binary32(bits: int) -> np.float32:
    """A param that holds the bits of a binary32."""
    return np.array(bits, np.uint32).view(np.float32)[()]
