"""The coarsest setting of one tensor that keeps to an error."""

from __future__ import annotations

from collections.abc import Callable
from math import log2

TIGHT = 0.99
"""Share of the error allowed above which a setting is coarse enough."""
TRIES = 12


def coarsest(
    error: Callable[[float], float], low: float, high: float, snap: Callable[[float], float], start: float, tries: int = TRIES
) -> float | None:
    """Return the position whose error is just at or below 1, of those that were tried; None when the finest one's is above.

    error: of a position, RMS; falls with it, of quantisers by half for every 1. snap, low, high: as of a ladder.
    """
    good: tuple[float, float] | None = None
    bad: tuple[float, float] | None = None
    position = snap(min(max(start, low), high))
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
        position = snap(min(max(_next(good, bad), low), high))
        if position in (good and good[0], bad and bad[0]):
            break
    return None if good is None else good[0]


def _next(good: tuple[float, float] | None, bad: tuple[float, float] | None) -> float:
    aim = log2(TIGHT) / 2
    if good is not None and bad is not None:
        share = (bad[1] - aim) / (bad[1] - good[1])
        return bad[0] + min(max(share, 0.1), 0.9) * (good[0] - bad[0])
    position, log = good or bad or (0.0, 0.0)
    return position + (log - aim) * (1.05 if log > 0 else 1.0)
