"""The coarsest setting of one tensor that keeps to an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log2
from typing import TypeAlias

TIGHT = 0.99
"""Share of the error allowed above which a setting is coarse enough."""
TRIES = 12

Known: TypeAlias = tuple[float, float] | None
"""A position and the logarithm of its error."""


def coarsest(
    error: Callable[[float], float], low: float, high: float, snap: Callable[[float], float], start: float, tries: int = TRIES
) -> float | None:
    """Return the position whose error is just at or below 1, of those that were tried; None when the finest one's is above.

    error: of a position, RMS; falls with it, of quantisers by half for every 1. snap, low, high: as of a ladder.
    """
    good: Known = None
    bad: Known = None
    position, stride = snap(min(max(start, low), high)), 1.0
    for _ in range(tries):
        log = log2(max(error(position), 2.0**-60))
        if log <= 0:
            good = position, log
            if log >= log2(TIGHT) or position <= low:
                break
        else:
            bad = position, log
            if position >= high:
                return None
        found = (snap(min(max(its, low), high)) for its in _next(good, bad, stride))
        position = next((its for its in found if its not in (good and good[0], bad and bad[0])), position)
        if position in (good and good[0], bad and bad[0]):
            break
        stride *= 1.0 if good and bad else 1.7
    return None if good is None else good[0]


def _next(good: Known, bad: Known, stride: float) -> Iterator[float]:
    """Yield where to look next: where a line through both sides meets the middle of what is allowed, or by strides that grow."""
    aim = log2(TIGHT) / 2
    if good is not None and bad is not None:
        share = (bad[1] - aim) / (bad[1] - good[1])
        for its in (share, 0.5, 0.99):
            yield bad[0] + min(max(its, 0.1), 0.99) * (good[0] - bad[0])
    else:
        position, log = good or bad or (0.0, 0.0)
        yield position + (log - aim) * stride
