"""A bounded summary of any number of weights: how many there are, and how important they are, by the upper bits of their float32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wcodec.coding.numbers import LOSSY, to_float32
from wcodec.errors import EncodeError
from wcodec.types import Spec, UInts

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

KEY_BITS = 20
"""Sign, exponent and 11 bits of mantissa: weights of one bin differ by less than 2^-11 of their size, subnormal ones by 2^-137."""
NON_FINITE = 0xFF << KEY_BITS - 9
PIECE = 1 << 20
"""Weights that are looked at together."""


def keys(x: F32) -> npt.NDArray[np.uint32]:
    """Return the bin of every weight. Raises EncodeError for infinities and NaNs, which have no place among centroids."""
    found: npt.NDArray[np.uint32] = x.view(np.uint32) >> np.uint32(32 - KEY_BITS)
    if x.size and int((found & np.uint32((1 << KEY_BITS - 1) - 1)).max()) >= NON_FINITE:
        raise EncodeError("the tensor holds infinities or NaNs")
    return found


def weights_of(x: UInts, spec: Spec) -> F32:
    """Return a tensor's storage elements as float32. Raises EncodeError for dtypes that are not floats of 16 bits or more."""
    if spec.dtype.name not in LOSSY:
        raise EncodeError(f"{spec.dtype.name} is not approximated")
    return to_float32(x, spec.dtype)


def importance_of(importance: npt.NDArray[np.float32] | None, count: int) -> F32 | None:
    """Return importances with a mean of 1, flat; of nothing less than a hundredth, as they are estimates. Raises EncodeError."""
    if importance is None:
        return None
    found = np.ascontiguousarray(importance, np.float32).reshape(-1)
    mean = float(found.mean(dtype=np.float64)) if found.size else 0.0
    if found.size != count or not np.isfinite(mean) or (found < 0).any():
        raise EncodeError(f"{found.size} importances, expected {count} finite ones of at least 0")
    if not mean:
        return None
    found = found / np.float32(mean)
    return np.maximum(found, np.float32(0.01), out=found)


class Histogram:
    """Count, importance and important mean of the weights of every bin. Memory: 24 MB."""

    def __init__(self) -> None:
        self.counts = np.zeros(1 << KEY_BITS)
        self._mass = np.zeros(1 << KEY_BITS)
        self._sums = np.zeros(1 << KEY_BITS)

    def add(self, x: F32, importance: F32 | None = None) -> None:
        """Add weights. Raises EncodeError, and has added nothing, when one is not finite."""
        pieces = [slice(at, at + PIECE) for at in range(0, x.size, PIECE)]
        for piece in pieces:
            keys(x[piece])
        for piece in pieces:
            its, bins = x[piece].astype(np.float64), keys(x[piece])
            counted = np.bincount(bins, minlength=1 << KEY_BITS)
            self.counts += counted
            if importance is None:
                self._mass += counted
                self._sums += np.bincount(bins, its, 1 << KEY_BITS)
            else:
                mass = importance[piece].astype(np.float64)
                self._mass += np.bincount(bins, mass, 1 << KEY_BITS)
                self._sums += np.bincount(bins, mass * its, 1 << KEY_BITS)

    def points(self) -> Points:
        """Return the bins that are in use, by value."""
        bins = np.flatnonzero(self.counts)
        values = self._sums[bins] / self._mass[bins]
        order = np.argsort(values, kind="stable")
        bins = bins[order]
        return Points(bins, values[order], self._mass[bins], self.counts[bins])


@dataclass(frozen=True, slots=True)
class Points:
    """Bins in use, by ascending value. mass: importance of their weights, counts when all are alike."""

    bins: npt.NDArray[np.intp]
    values: F64
    mass: F64
    counts: F64

    def error(self, rounded: F64) -> float:
        """Return the root of the important squared error relative to the important square."""
        power = float((self.mass * self.values**2).sum())
        return float(np.sqrt((self.mass * (self.values - rounded) ** 2).sum() / power)) if power else 0.0


def summarise(x: F32, importance: F32 | None) -> Points:
    """Return the points of weights. Raises EncodeError when there are none, or one is not finite."""
    if not x.size:
        raise EncodeError("the tensor is empty")
    histogram = Histogram()
    histogram.add(x, importance)
    return histogram.points()


def assign(x: F32, points: Points, index: npt.NDArray[np.integer]) -> UInts:
    """Return for every weight the index (below 2^16) of its bin."""
    table = np.zeros(1 << KEY_BITS, np.uint8 if int(index.max(initial=0)) < 256 else np.uint16)
    table[points.bins] = index
    out = np.empty(x.size, table.dtype)
    for at in range(0, x.size, PIECE):
        np.take(table, keys(x[at : at + PIECE]), out=out[at : at + PIECE])
    return out
