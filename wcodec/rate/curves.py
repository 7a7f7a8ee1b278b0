"""Size against error of one tensor, measured where it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

SPACING = 0.5
"""Distance of the positions that are measured: half a bit of a quantiser."""
STEEPEST = 1000.0
"""Logarithm of a slope that stands for an infinite one."""
FLAT = 1.02
"""Growth that is none yet."""
HALVINGS = 30
DOUBT = 0.98
"""Share of what one family of settings costs that another one may cost to be chosen instead: samples tell no finer differences."""

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
    for. reach: how far a setting may be from the best one, for bytes that are left over. start: where to search first.
    """

    measure: Measure
    low: float
    high: float
    snap: Callable[[float], float]
    reach: float = 0.25
    start: float = 3.0
    _points: dict[int, tuple[float, float]] = field(default_factory=dict, init=False)
    _used: dict[float, float] = field(default_factory=dict, init=False)
    _last: int = field(default=-1, init=False)

    @property
    def _top(self) -> int:
        return max(1, math.floor((self.high - self.low) / SPACING + 1e-9))

    def point(self, k: int) -> tuple[float, float]:
        """Return bytes and squared error of the k-th position."""
        if k not in self._points:
            self._points[k] = self.measure(self.low + k * SPACING)
        return self._points[k]

    def learn(self, position: float, size: float) -> None:
        """Take note of the bytes that were really used at a position: between two of those, sizes are between them."""
        measured, _ = self._between(position)
        if measured > 0:
            self._used[position] = size / measured

    def end(self, position: float) -> None:
        """Take note that from a position on nothing is better than lossless."""
        self.high = min(self.high, position - self.reach / 4)

    def at(self, slope: float) -> Rung:
        """Return where a byte more saves ``2^slope`` of squared error."""
        wanted = slope + math.log2(self._scale(self.low + self._last * SPACING))
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
        """Return what a position costs."""
        size, error = self._between(position)
        return Rung(position, size * self._scale(position), error)

    def _between(self, position: float) -> tuple[float, float]:
        """Return bytes and squared error, between measured positions by cubic interpolation."""
        place = (position - self.low) / SPACING
        first = min(max(math.floor(place) - 1, 0), max(self._top - 3, 0))
        known = [first + i for i in range(min(4, self._top + 1))]
        sizes, errors = zip(*map(self.point, known), strict=True)
        return max(_interpolate(known, sizes, place), 0.0), 2.0 ** _interpolate(known, [_log(error) for error in errors], place)

    def _scale(self, position: float) -> float:
        """Return the bytes really used over those measured."""
        known = sorted(self._used)
        return float(np.interp(position, known, [self._used[its] for its in known])) if known else 1.0

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
        for family, curve in self._open():
            its = curve.at(own)
            doubt = DOUBT if family and best.position is not None else 1.0
            if its.error + price * its.size < doubt * (best.error + price * best.size):
                best = Rung(its.position, its.size, its.error, family)
        return best

    def near(self, rung: Rung, size: float, far: bool = False) -> Rung:
        """Return the finest rung of at most ``size`` bytes within reach of a given one, or anywhere: far. None that small: the coarsest."""
        if rung.position is None:
            return rung
        curve = self.curves[rung.family]
        reach = math.inf if far else curve.reach
        low, high = max(curve.low, rung.position - reach), min(curve.high, rung.position + reach)

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
        rungs = [replace(curve.rung(curve.low), family=family) for family, curve in self._open()]
        return min([Rung(None, self.lossless, 0.0), *rungs], key=lambda rung: rung.size)

    def _open(self) -> Iterator[tuple[int, Curve]]:
        """Yield the curves, with their numbers, that have settings better than lossless."""
        return ((family, curve) for family, curve in enumerate(self.curves) if curve.high > curve.low)


def _interpolate(known: Sequence[int], values: Sequence[float], at: float) -> float:
    """Return the value at a place of the polynomial through all points (Lagrange)."""
    total = 0.0
    for i, value in zip(known, values, strict=True):
        total += value * math.prod((at - j) / (i - j) for j in known if j != i)
    return total


def _log(value: float) -> float:
    return math.log2(value) if value > 0 else -STEEPEST
