"""A target along a walk: every part of a model is encoded once, at what is left of the bytes when it comes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import ClassVar

from wcodec.api.report import TensorRow
from wcodec.api.targets import AIM, OVERHEAD, Plan
from wcodec.codecs import Env
from wcodec.codecs.base import stored_size
from wcodec.errors import EncodeError
from wcodec.rate.allocation import allocate
from wcodec.rate.curves import Curve, Options, Rung
from wcodec.recipes import Method, Recipe
from wcodec.recipes.ladders import ladders, sample_of
from wcodec.types import Section, Spec, UInts

ROOM = 1 << 15
"""Elements of a sample."""
TRIES = 8


@dataclass
class Sized(Method):
    """Encode at the finest setting of a method that takes ``size`` bytes, up to ``slack`` more or less."""

    of: Method
    size: float
    slack: float
    name: ClassVar[str] = "sized"
    notes: list[str] = field(default_factory=list, init=False)

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        found = ladders(self.of, name, x, spec, env, sample_of(self.of, name, x, spec, ROOM))
        if not found:
            raise EncodeError("zeros, or values that are not finite")
        curves = [Options([Curve(its.measure, its.low, its.high, its.snap)], inf) for its in found]
        rungs = [its.near(Rung(0.0, 0.0, 0.0), self.size, far=True) for its in curves]
        ladder, curve, rung = min(zip(found, curves, rungs, strict=True), key=lambda its: (its[2].size > self.size, its[2].error))
        best: tuple[float, Section] | None = None
        for _ in range(TRIES):
            assert rung.position is not None, "near a lossy rung are lossy ones"
            section = ladder.method(rung.position).encode(name, x, spec, env)
            off = stored_size(section) - self.size
            if best is None or (abs(off) if off <= self.slack else inf) < (abs(best[0]) if best[0] <= self.slack else inf):
                best = off, section
            curve.curves[0].learn(rung.position, stored_size(section))
            again = curve.near(rung, self.size, far=True)
            if abs(off) <= self.slack or again.position == rung.position:
                break
            rung = again
        assert best is not None, "there was a try"
        return best[1]


class Pace:
    """Bytes for every part of a walk.

    A plan made without statistics has shared the bytes among all tensors. Those of a part get that share of what is really left, and
    share it anew by what their errors cost, where statistics tell.
    free: bytes of tensors that fine-tuning may change: they are set aside, as nobody knows how small those will be.
    """

    def __init__(self, plan: Plan, free: Mapping[str, int]) -> None:
        self._plan, self.recipe, self._slope = plan, plan.choose(), 0.0
        self._left = {name: plan.rungs[name].size for name in plan.options if plan.rungs[name].position is not None}
        self._kept = {name: plan.rungs[name].size for name in plan.options if name not in self._left} | {**plan.fixed, **free}

    def at(self, part: Collection[str], used: int, rows: Sequence[TensorRow]) -> Recipe:
        """Return the recipe for a part. used: bytes of the files so far. rows: the tensors that they hold."""
        more = (used - sum(row.size for row in rows)) / len(rows) if rows else OVERHEAD
        room = AIM * self._plan.limit - used - sum(self._kept.values()) - more * (len(self._kept) + len(self._left))
        scale = max(room / max(sum(self._left.values()), 1), 0.0)
        for name in part:
            self._kept.pop(name, None)
        planned = {name: self._left.pop(name) for name in part if name in self._left}
        sizes = {name: scale * size for name, size in planned.items()}
        sizes |= self._shared(sizes)
        slack = (1 - AIM) * self._plan.limit / max(sum(sizes.values()), 1)
        sized = {name: Sized(self._plan.method_of(name), size, slack * size) for name, size in sizes.items()}
        return replace(self.recipe, settings={**self.recipe.settings, **sized})

    def _shared(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """Return the sizes at which bytes save as much wherever they go, of those tensors whose costs are known."""
        options = {}
        for name in sizes:
            its = self._plan.look(name)
            if its.cost is not None:
                options[name] = replace(its.options(its.cost), lossless=inf)
        found = allocate(options, sum(sizes[name] for name in options), self._slope) if len(options) > 1 else None
        if found is None:
            return {}
        rungs, self._slope = found
        return {name: rung.size for name, rung in rungs.items()}

    def check(self, used: int) -> None:
        """Raise EncodeError where the files are larger than the target."""
        if used > self._plan.limit:
            raise EncodeError(f"{self._plan.target.text} allows {self._plan.limit:,} bytes; with calibration the file has {used:,}")

    def notes(self) -> list[str]:
        """Return what the report should tell."""
        return [*self.recipe.notes(), *self._plan.notes()]


__all__ = ["Pace"]
