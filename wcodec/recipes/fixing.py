"""Weight Fixing Networks without training: few values, sums of powers of two, for a whole network (arXiv 2210.13554, ECCV 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wcodec.coding.histogram import F64, Points

ORDERS = 20
"""Orders that are tried before the distance allowed doubles."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Values that a network's weights were fixed to, ascending, the index of each point's, and the mean relative distance."""

    values: F64
    index: npt.NDArray[np.intp]
    distance: float


def centres(largest: float, distance: float, smallest: float, order: int) -> F64:
    """Return 0 and ± values whose neighbours are ``distance`` apart, relative to a weight between, as sums of order + 1 powers of two."""
    ratio = (1 + distance) / (1 - distance)
    count = max(0, int(np.log(max(largest, smallest) / smallest) / np.log(ratio))) + 2
    steps = np.multiply.accumulate(np.concatenate(([smallest], np.full(count, ratio))))
    rest = steps[steps <= largest]
    rounded, lowest = np.zeros_like(rest), smallest * 2.0 ** -(order + 1)
    for _ in range(order + 1):
        fraction, exponent = np.frexp(np.abs(rest))
        power = np.ldexp(1.0, exponent - (fraction < np.sqrt(0.5)))  # the nearest one by its logarithm
        term = np.where(np.abs(rest) >= lowest, np.sign(rest) * power, 0.0)
        rounded, rest = rounded + term, rest - term
    positive = np.unique(rounded[rounded > 0])
    return np.concatenate((-positive[::-1], [0.0], positive))


def fix(points: Points, distance: float, smallest: float) -> Fixed:
    """Fix all points greedily: the centre most of them are nearest to takes the nearest ones while their mean relative distance allows it.

    distance: δ. smallest: γ₀, below which weights may become 0 for nothing.
    """
    size = np.abs(points.values)
    left = np.arange(size.size)
    chosen = np.zeros(size.size)
    order, allowed = 0, distance
    found = centres(float(size.max(initial=0)), distance, smallest, order)
    while left.size:
        taken = _take(points, left, found, allowed, smallest)
        if taken is None:
            order += 1
            if order > ORDERS:
                order, allowed = 0, 2 * allowed
            found = centres(float(size.max()), distance, smallest, order)
            continue
        centre, which = taken
        chosen[left[which]] = centre
        left = np.delete(left, which)
    values, index = np.unique(chosen, return_inverse=True)
    far = _distances(points.values, chosen, smallest)
    mass = points.mass * (far > 0)
    return Fixed(values, index, float((mass * far).sum() / max(float(mass.sum()), 1e-300)))


def _distances(values: F64, centre: F64 | float, smallest: float) -> F64:
    """Return |w − c| / |w|; 0 for weights below γ₀ that become 0."""
    size = np.abs(values)
    free = (size < smallest) & (np.asarray(centre) == 0)
    return np.where(free, 0.0, np.abs(values - centre) / np.maximum(size, 1e-300))


def _take(
    points: Points, left: npt.NDArray[np.intp], found: F64, allowed: float, smallest: float
) -> tuple[float, npt.NDArray[np.intp]] | None:
    """Return the next centre and which of the points left it takes; nothing when it may take none."""
    values, mass = points.values[left], points.mass[left]
    nearest = np.searchsorted((found[1:] + found[:-1]) / 2, values)
    centre = float(found[np.bincount(nearest, mass, found.size).argmax()])
    far = _distances(values, centre, smallest)
    order = np.argsort(far, kind="stable")
    heavy = np.where(far[order] > 0, mass[order], 0.0)
    total = np.cumsum(heavy)
    mean = np.cumsum(heavy * far[order]) / np.maximum(total, 1e-300)
    fine = int(np.searchsorted(mean > allowed, True))  # distances ascend, and so does their mean
    return (centre, order[:fine]) if fine else None
