"""Keep the largest scores of a whole network without holding it: two passes of histograms, then an exact threshold."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wcodec.coding.numbers import to_float32
from wcodec.recipes.base import Importance
from wcodec.types import U8, U32, DType, UInts

HALF = 1 << 16


@dataclass(frozen=True, slots=True)
class Threshold:
    """Keep keys above ``key``, and the first ``ties[name]`` equal ones of every tensor."""

    key: int
    ties: dict[str, int]

    def mask(self, name: str, keys: U32) -> U8:
        """Return which elements of a tensor are kept, 0 or 1."""
        kept = keys > self.key
        if ties := self.ties.get(name, 0):
            kept[np.flatnonzero(keys == self.key)[:ties]] = True
        return kept.view(np.uint8)


def keys_of(scores: npt.NDArray[np.float32]) -> U32:
    """Return integers in the order of scores that are at least 0; NaN counts as the largest."""
    return np.ascontiguousarray(scores).view(np.uint32) & np.uint32(0x7FFFFFFF)


def magnitude(x: UInts, dtype: DType, name: str, importance: Importance | None) -> U32:
    """Return keys of |w|, or of |w| · √importance: the root of the error that dropping the weight makes."""
    scores = np.abs(to_float32(x, dtype))
    if importance is not None and name in importance:
        scores = scores * np.sqrt(importance[name].reshape(-1), dtype=np.float32)
    return keys_of(scores)


def largest(names: Iterable[str], keys: Callable[[str], U32], wanted: Callable[[int], int]) -> Threshold:
    """Find the threshold that keeps exactly as many of the largest keys of all tensors as wanted.

    wanted: of the number of all keys. Of equal keys the first by tensor and index.
    keys is called up to three times for every name; one tensor's are held at a time.
    """
    names = list(names)
    upper = np.zeros(HALF, np.int64)
    for name in names:
        upper += np.bincount(keys(name) >> np.uint32(16), minlength=HALF)
    total = int(upper.sum())
    count = wanted(total)
    if count >= total:
        return Threshold(-1, {})
    top, left = _find(upper, count)
    lower = np.zeros(HALF, np.int64)
    for name in names:
        its = keys(name)
        lower += np.bincount(its[its >> np.uint32(16) == top] & np.uint32(0xFFFF), minlength=HALF)
    low, left = _find(lower, left)
    key = top << 16 | low
    ties: dict[str, int] = {}
    for name in names:
        if left:
            ties[name] = min(left, int(np.count_nonzero(keys(name) == key)))
            left -= ties[name]
    return Threshold(key, ties)


def _find(counts: npt.NDArray[np.int64], wanted: int) -> tuple[int, int]:
    """Return the bin where the ``wanted`` largest end, and how many of them lie in it."""
    above = np.cumsum(counts[::-1])
    at = int(np.searchsorted(above, max(wanted, 1)))
    return counts.size - 1 - at, wanted - int(above[at] - counts[::-1][at])
