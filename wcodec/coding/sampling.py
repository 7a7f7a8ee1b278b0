"""What a sample says of an array: entropy, noise, and where to split floats. Bits are counted alike on every machine."""

from __future__ import annotations

from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.types import U8, UInts

SAMPLE = 1 << 15
RUN = 1 << 10
UNIT = 1 << 20
"""Entropies are whole numbers of 2^-20 bits."""

Counts: TypeAlias = npt.NDArray[np.integer[Any]]


def sample(x: UInts, count: int = SAMPLE) -> UInts:
    """Take evenly spread runs of elements, at most about ``count`` of them."""
    if x.size <= count:
        return x
    runs = count // RUN
    step = (x.size - RUN) // (runs - 1)
    return np.concatenate([x[i * step : i * step + RUN] for i in range(runs)])


def log2(n: Counts) -> npt.NDArray[np.int64]:
    """Logarithms of numbers from 1 to 2^53, in 2^-20 bits and within one of them: only correctly rounded steps, in this order."""
    m, e = np.frexp(n.astype(np.float64))
    t = (m - 0.75) / (m + 0.75)
    s = t * t
    series = t * (2.8853900817779268 + s * (0.961796693925976 + s * (0.5770780163555854 + s * 0.4121985831111324)))
    return np.floor((series - 0.41503749927884376 + e) * UNIT).astype(np.int64)


def entropy(counts: Counts) -> int:
    """Return the order-0 entropy of fewer than 2^37 symbols together, in 2^-20 bits."""
    used = counts[counts > 0].astype(np.int64)
    total = used.sum(keepdims=True)
    return int((total * log2(total)).sum() - (used * log2(used)).sum()) if used.size else 0


def is_noise(plane: U8) -> bool:
    """Tell whether bytes look as if they had 8 bits of entropy each."""
    seen = sample(plane)
    bits = entropy(np.bincount(seen, minlength=256)) / UNIT
    # The entropy of a sample of noise falls short of 8 bits by about 184 bits in all.
    return bits / max(seen.size, 1) >= 8 - 0.015 - 250 / max(seen.size, 1)


def choose_split(x: UInts, widest: int, size: int | None = None) -> tuple[int, int, int]:
    """Choose how floats split by the entropy of a sample: what costs next to nothing belongs to the rest.

    widest: bits of the widest symbol considered, without the sign. size: elements in all, when x is a sample already.
    Returns rest bits, place of the sign (as in ``Planes``) and the
    highest symbol of the sample.
    """
    bits, seen = 8 * x.itemsize, sample(x)
    size = size or x.size
    # Counts of [upper bits without the sign, sign]; merging neighbours takes a mantissa bit away.
    upper = seen >> x.dtype.type(bits - 1 - widest)
    counts = np.bincount(upper, minlength=2 << widest).reshape(2, -1).T
    best = (float("inf"), 0, 0, 0)
    for width in range(widest, max(widest - 3, 0), -1):
        best = min(best, _cost(counts.sum(1), seen.size, size, bits, width, 1), key=itemgetter(0))
        if counts.min(1).sum() / seen.size < 0.45:  # skewed: worth a look
            best = min(best, _cost(counts.ravel(), seen.size, size, bits, width + 1, 2), key=itemgetter(0))
        counts = counts.reshape(-1, 2, 2).sum(1)
    return best[1:]


def _cost(counts: Counts, seen: int, size: int, bits: int, width: int, sign: int) -> tuple[float, int, int, int]:
    """Return bits per element of symbols of a width with these counts in a sample, and what ``choose_split`` returns."""
    used = np.flatnonzero(counts[1:])
    span = int(used[-1] - used[0]) + 1 if used.size else 0
    # Every token needs one of 4,096 slots; those that are rarer waste about half of theirs. A wider symbol also has a longer table.
    rare = max(0, min(span, 255) - int((counts[1:] > seen >> 12).sum()))
    cost = entropy(counts) / UNIT / seen + bits - width + 0.7 * rare / 4096 + 10 * used.size / size + used.size / (1.39 * seen)
    # Whole bytes are the fastest; a sign in the symbol must gain something.
    cost = cost - 0.012 * (width == 8) + 0.01 * (sign == 2)
    return cost, bits - width, sign, int(used[-1]) + 1 if used.size else 0
