"""Tensors each just within an error."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import sqrt
from typing import ClassVar

import numpy as np

from wcodec.codecs import Env
from wcodec.coding.numbers import to_float32
from wcodec.errors import EncodeError
from wcodec.rate.curves import DOUBT
from wcodec.rate.target import Target
from wcodec.rate.within import coarsest
from wcodec.recipes import Method, Recipe
from wcodec.recipes.base import Ladder
from wcodec.recipes.ladders import answers, ladders, sample_of, squared_error
from wcodec.types import Section, Spec, UInts

ROOM = 1 << 16
"""Elements of a sample."""
NEARLY = 1 - 1e-6
"""Share of the bound that is aimed below, as reports add in another order."""


@dataclass
class Bounded(Method):
    """Encode at the coarsest setting of a method whose error is at most ``limit``: RMS error over RMS value."""

    of: Method
    limit: float
    name: ClassVar[str] = "bounded"
    notes: list[str] = field(default_factory=list, init=False)

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        sample = sample_of(self.of, name, x, spec, ROOM)
        found = ladders(self.of, name, x, spec, env, sample)
        if not found:
            raise EncodeError("zeros, or values that are not finite")
        values = to_float32(x, spec.dtype).astype(np.float64)
        allowed = self.limit * NEARLY * sqrt(np.dot(values, values))
        del values
        starts = [(its, start) for its in found if (start := _on_sample(its, self.limit * sqrt(spec.count * sample.signal))) is not None]
        if not starts:
            raise EncodeError(f"no setting keeps an error of {self.limit:g}")
        sizes = [its.measure(start)[0] * (DOUBT if number == 0 else 1.0) for number, (its, start) in enumerate(starts)]
        ladder, start = starts[sizes.index(min(sizes))]
        made: dict[float, Section] = {}

        def error(position: float) -> float:
            made[position] = ladder.method(position).encode(name, x, spec, env)
            return sqrt(squared_error(made[position], x, spec, env)) / allowed

        position = coarsest(error, ladder.low, ladder.high, ladder.snap, start)
        if position is None:
            raise EncodeError(f"no setting keeps an error of {self.limit:g}")
        return made[position]


def bounded(recipe: Recipe, target: Target) -> Recipe:
    """Return a recipe whose methods, where they answer to targets, keep every tensor to an error."""
    assert target.max_error is not None
    limit = target.max_error
    rules = [replace(rule, method=Bounded(rule.method, limit)) if answers(rule.method) else rule for rule in recipe.rules]
    return replace(recipe, text=f"{recipe.text}\n{target.text}", rules=rules)


def _on_sample(ladder: Ladder, allowed: float) -> float | None:
    """Return where the search begins; None where the finest setting is too coarse by far."""

    def error(position: float) -> float:
        return sqrt(ladder.measure(position)[1]) / allowed

    return coarsest(error, ladder.low, ladder.high, ladder.snap, (ladder.low + ladder.high) / 2)
