"""One slope for all tensors (Shoham and Gersho 1988): the least error that so many bytes can buy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wcodec.rate.curves import Options, Rung

STEPS = 48
"""Halvings of the interval of slopes, at most."""
FINE = 1e-4
"""Share of the bytes below which they count as spent."""
NEARLY = 1e-3
"""Share of the bytes that may be left over rather than spent far from the best setting."""
CLOSE = 16
"""Bytes that may be left over."""
EXTREME = 400.0
"""Logarithm of the steepest and flattest slope looked at."""

Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def allocate(tensors: Mapping[str, Options], size: float, slope: float, workers: Map = map) -> tuple[dict[str, Rung], float] | None:
    """Return a rung for every tensor, all at one slope, of at most ``size`` bytes together, and that slope; None when they need more.

    slope: where to begin, a logarithm. What jumps leave over is spent on the tensors whose next rung still fits.
    """
    names = list(tensors)

    def at(slope: float) -> dict[str, Rung]:
        return dict(zip(names, workers(lambda name: tensors[name].at(slope), names), strict=True))

    step, coarse, fine, best = 1.0, None, None, dict[str, Rung]()
    while coarse is None or fine is None:
        found = at(slope)
        if _total(found) <= size:
            coarse, best = slope, found
            slope -= step
        else:
            fine = slope
            slope += step
        if coarse is not None and coarse < -EXTREME:
            return best, coarse
        if fine is not None and fine > EXTREME:
            return None
        step *= 1.5
    for _ in range(STEPS):
        if size - _total(best) <= FINE * size:
            break
        middle = (coarse + fine) / 2
        found = at(middle)
        coarse, fine, best = (middle, fine, found) if _total(found) <= size else (coarse, middle, best)
    return adjust(tensors, best, size - _total(best)), coarse


def adjust(tensors: Mapping[str, Options], rungs: Mapping[str, Rung], more: float, last: int = 0) -> dict[str, Rung]:
    """Spend so many bytes more, or less when negative, on as few tensors as a small
    move of each allows, or a large one where small ones do not suffice: the largest first, but for so many that come last.
    """
    found, order = dict(rungs), sorted(rungs, key=lambda name: (-rungs[name].size, name))
    order = order[last:] + order[:last]
    enough = NEARLY * _total(rungs)
    for far in (False, True):
        for name in order:
            if 0 <= more <= (enough if far else CLOSE):
                return found
            its = tensors[name].near(found[name], found[name].size + more, far)
            more -= its.size - found[name].size
            found[name] = its
    return found


def _total(rungs: Mapping[str, Rung]) -> float:
    return sum(rung.size for rung in rungs.values())
