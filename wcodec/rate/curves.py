"""Size against error of one tensor, measured where it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

SPACING = 0.5
"""Distance of the positions that are measured: half a bit of a quantiser."""
STEEPEST = 1000.0
"""Logarithm of a slope that stands for an infinite one."""
FLAT = 1.02
"""Growth that is none yet."""
HALVINGS = 30

Measure = Callable[[float], tuple[float, float]]
"""Of a position, the bytes and the squared error there."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A setting that a curve offers. family: which of several curves. position: along it; None: lossless."""

    position: float | None
    size: float
    error: float
    family: int = 0


@dataclass(slots=True)
class Curve:
    """A convex falling curve: size grows and squared error falls with the position, from ``low`` to ``high``.

    measure: called once for each multiple of SPACING that matters. snap: the next position not above a given one that a setting exists
    for. reach: how far `Options.near` may go. scale: bytes really used over those measured. start: where to search first.
    """

    measure: Measure
    low: float
    high: float
    snap: Callable[[float], float]
    reach: float = 0.25
    scale: float = 1.0
    start: float = 3.0
    _points: dict[int, tuple[float, float]] = field(default_factory=dict, init=False)
    _last: int = field(default=-1, init=False)

    @property
    def _top(self) -> int:
        return max(1, math.floor((self.high - self.low) / SPACING + 1e-9))

    def point(self, k: int) -> tuple[float, float]:
        """Return bytes and squared error of the k-th position."""
        if k not in self._points:
            self._points[k] = self.measure(self.low + k * SPACING)
        return self._points[k]

    def at(self, slope: float) -> Rung:
        """Return where a byte more saves ``2^slope`` of squared error."""
        wanted = slope + math.log2(self.scale)
        k = self._last if self._last >= 0 else round((self.start - self.low) / SPACING)
        k = min(max(k, 0), self._top - 1)
        while k > 0 and self._vertex(k) < wanted:
            k -= 1
        while k < self._top - 1 and self._vertex(k + 1) >= wanted:
            k += 1
        self._last = k
        left, right = self._vertex(k), self._vertex(k + 1)
        share = min(max((left - wanted) / (left - right), 0.0), 1.0) if left > right else 0.0
        position = self.low + (k + share) * SPACING
        return self.rung(max(self.snap(position), self.low))

    def rung(self, position: float) -> Rung:
        """Return what a position costs, between measured ones by cubic interpolation."""
        place = (position - self.low) / SPACING
        first = min(max(math.floor(place) - 1, 0), max(self._top - 3, 0))
        known = [first + i for i in range(min(4, self._top + 1))]
        sizes, errors = zip(*map(self.point, known), strict=True)
        size = _interpolate(known, sizes, place)
        error = 2.0 ** _interpolate(known, [_log(error) for error in errors], place)
        return Rung(position, max(size, 0.0) * self.scale, error)

    def _vertex(self, k: int) -> float:
        """Return the slope of the curve at a measured position, as a logarithm: the mean of both sides'."""
        sides = [self._side(at) for at in (k - 1, k) if 0 <= at < self._top]
        return sum(sides) / len(sides)

    def _side(self, k: int) -> float:
        (size, error), (larger, less) = self.point(k), self.point(k + 1)
        if less >= error:  # all zeros still, or as exact as the dtype is
            return STEEPEST if larger <= FLAT * size else -STEEPEST
        return _log((error - less) / (larger - size)) if larger > size else STEEPEST


@dataclass(slots=True)
class Options:
    """The curves that a tensor may choose from, and the bytes that it takes losslessly. weight: of its squared error."""

    curves: Sequence[Curve]
    lossless: float
    weight: float = 1.0

    def at(self, slope: float) -> Rung:
        """Return the rung with the least sum of weighed error and ``2^slope`` times bytes."""
        own = slope - math.log2(self.weight)
        price = 2.0**own
        best = Rung(None, self.lossless, 0.0)
        for family, curve in enumerate(self.curves):
            its = curve.at(own)
            if its.error + price * its.size < best.error + price * best.size:
                best = Rung(its.position, its.size, its.error, family)
        return best

    def near(self, rung: Rung, size: float) -> Rung:
        """Return the finest rung of at most ``size`` bytes within reach of a given one, or the coarsest of those."""
        if rung.position is None:
            return rung
        curve = self.curves[rung.family]
        low, high = max(curve.low, rung.position - curve.reach), min(curve.high, rung.position + curve.reach)

        def at(position: float) -> Rung:
            return replace(curve.rung(min(max(curve.snap(position), curve.low), curve.high)), family=rung.family)

        best = at(low)
        for _ in range(HALVINGS):
            middle = at((low + high) / 2)
            if middle.size <= size:
                best, low = middle, (low + high) / 2
            else:
                high = (low + high) / 2
        return best

    def smallest(self) -> Rung:
        """Return the coarsest rung."""
        rungs = [curve.rung(curve.low) for curve in self.curves]
        sizes = [rung.size for rung in rungs]
        family = int(np.argmin(sizes)) if sizes else 0
        if not rungs or sizes[family] >= self.lossless:
            return Rung(None, self.lossless, 0.0)
        return Rung(rungs[family].position, sizes[family], rungs[family].error, family)


def _interpolate(known: Sequence[int], values: Sequence[float], at: float) -> float:
    """Return the value at a place of the polynomial through all points (Lagrange)."""
    total = 0.0
    for i, value in zip(known, values, strict=True):
        total += value * math.prod((at - j) / (i - j) for j in known if j != i)
    return total


def _log(value: float) -> float:
    return math.log2(value) if value > 0 else -STEEPEST
