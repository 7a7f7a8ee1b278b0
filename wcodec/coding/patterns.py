"""Patterns of n kept among m elements, numbered in the order of the combinatorial number system (spec/codecs/nm.md)."""

from __future__ import annotations

from functools import cache
from math import comb

import numpy as np
import numpy.typing as npt

from wcodec.types import U8, U32, UInts

LISTED = 1 << 16
"""Patterns that are looked up rather than worked out."""


@cache
def listed(n: int, m: int) -> U8 | None:
    """Return the elements of all patterns, flat, for looking them up; None where there are more than LISTED."""
    return unrank(np.arange(comb(m, n), dtype=np.uint32), n, m).reshape(-1) if comb(m, n) <= LISTED else None


def unrank(patterns: UInts, n: int, m: int) -> U8:
    """Return the m elements of every pattern, 1 where kept, [patterns, m]; numbers are below C(m, n)."""
    out = np.zeros((patterns.size, m), np.uint8)
    rest, left = patterns.astype(np.int64), np.full(patterns.size, n, np.int64)
    table = _binomials(m)
    for position in range(m - 1, -1, -1):
        below = table[position][left]
        kept = (left > 0) & (rest >= below)
        out[:, position] = kept
        rest[kept] -= below[kept]
        left -= kept
    return out


def rank(mask: U8) -> U32:
    """Return the number of every row's pattern, of a mask of 0 and 1 [patterns, m]: the sum of C(position, i + 1) over the i-th kept."""
    which = np.cumsum(mask, axis=1, dtype=np.intp)
    table = _binomials(mask.shape[1])
    terms = np.where(mask, table[np.arange(mask.shape[1])[None, :], which], 0)
    found: U32 = terms.sum(1).astype(np.uint32)
    return found


@cache
def _binomials(m: int) -> npt.NDArray[np.int64]:
    return np.array([[comb(i, j) for j in range(m + 1)] for i in range(m)], np.int64)


def complete(mask: U8, n: int) -> U8:
    """Keep the first dropped elements of every row besides, until n are kept; no row keeps more. [patterns, m]"""
    missing = n - mask.sum(1, dtype=np.intp)
    spare = np.cumsum(mask == 0, axis=1, dtype=np.intp)
    found: U8 = mask | ((mask == 0) & (spare <= missing[:, None])).view(np.uint8)
    return found
