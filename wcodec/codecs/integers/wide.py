"""How rans holds integers of many kinds in the fewest bytes: raw low bits, escapes for the tails, a table no finer than it pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.coding import tokens
from wcodec.coding.tables import Tables
from wcodec.types import UInts

KINDS = 20
"""Bits of the largest value, less raw bits, that rans takes."""
FEW = 1 << 15
"""Symbols below which four lanes are enough: 32 states cost 112 bytes more."""
FINEST = 12
EXTRA = 64
"""Guess of the bytes that one more part costs."""


def fit_wide(x: UInts) -> tuple[int, dict[str, Any]] | None:
    """Return the bytes that rans needs, about, and its options; None when it cannot hold x. x: at least one element."""
    highest = int(x.max())
    shift = max(0, highest.bit_length() - KINDS)
    if shift > 16:
        return None
    counts, found = _count(x, shift), []
    for bits in range(shift, min(16, max(highest.bit_length() - 1, shift)) + 1):
        size = _size(counts, bits, highest, FINEST)
        found.append((size * (1.003 if bits else 1), bits, size))  # one pass fewer without raw bits
        if size > 1.2 * min(found)[2]:
            break
        counts = _halved(counts)
    bits = min(found)[1]
    counts = _count(x, shift)
    for _ in range(shift, bits):
        counts = _halved(counts)
    precisions = (8, 10, FINEST) if x.size < FEW else (FINEST,)
    size, precision = min((_size(counts, bits, highest, p), p) for p in precisions)
    options: dict[str, Any] = {"bits": bits} if bits else {}
    options |= {"precision": precision} if precision != FINEST else {}
    lanes = 0 if x.size < 256 else 2 if x.size < FEW else 5
    return int(size) + 4 * (1 << lanes) * (1 + (x.size >> 16)), options | {"lanes": lanes}


def _count(x: UInts, shift: int) -> npt.NDArray[np.int64]:
    size = (int(x.max()) >> shift) + 1
    counts = np.zeros(size, np.int64)
    for at in range(0, x.size, 1 << 22):
        counts += np.bincount(x[at : at + (1 << 22)] >> x.dtype.type(shift), minlength=size)
    return counts


def _halved(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Count values without their lowest bit."""
    even: npt.NDArray[np.int64] = np.append(counts, 0) if counts.size % 2 else counts
    halved: npt.NDArray[np.int64] = even.reshape(-1, 2).sum(1)
    return halved


def _size(counts: npt.NDArray[np.int64], bits: int, highest: int, precision: int) -> float:
    """Return the bytes of tokens, table, raw bits and escapes for values with these counts less ``bits`` raw bits."""
    base, zero, escape = tokens.fit(counts.astype(np.uint64))
    kinds = np.zeros((1, 256), np.uint64)
    seen = counts[base : base + (256 if escape < 0 else escape)]
    kinds[0, : seen.size] = seen
    if zero:
        kinds[0, 0] = counts[0]
    total = int(counts.sum())
    escaped = total - int(kinds.sum())
    if escape >= 0:
        kinds[0, escape] = escaped
    if int((kinds > 0).sum()) >= 1 << precision:
        return float("inf")
    tables = Tables.fit(kinds, precision)
    size = tables.cost(kinds) / 8 + len(tables.pack()) + total * bits / 8 + EXTRA * (bits > 0)
    return size + (escaped * (highest.bit_length() - bits) / 8 + 2 * EXTRA if escaped else 0)
