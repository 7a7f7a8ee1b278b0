"""Targets: which setting every tensor gets, so that a whole file keeps to a size, or every tensor to an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from math import log2

import blake3
import numpy as np

from wcodec.api.crew import Crew
from wcodec.api.report import TensorRow
from wcodec.api.sources import AllTensors
from wcodec.codecs import Env
from wcodec.errors import EncodeError
from wcodec.rate.allocation import adjust, allocate
from wcodec.rate.curves import Curve, Options, Rung
from wcodec.rate.target import UNDER, Target
from wcodec.recipes import Method, Recipe
from wcodec.recipes.base import LOSSLESS, Ladder
from wcodec.recipes.ladders import Sample, answers, ladders, sample_of
from wcodec.types import Spec

ROOM, LEAST, MOST = 1 << 24, 1 << 12, 1 << 16
"""Elements of all samples together, and of one at least and at most."""
OVERHEAD = 80
"""Bytes of names and digests for a tensor, about: those of its sections are in its size."""
ATTEMPTS = 8
"""Times that a file is encoded at most."""
SLOPES = 3
"""Attempts at the slope that all tensors share; behind them, few tensors make up for what a file is off."""
AIM = 0.998
"""Share of the target aimed at, within what is allowed."""
LATE = 0.985
"""The same in the last two attempts, where no other came closer."""
NEAR = 0.02
"""Share of the target within which a few tensors make up for what a file is off."""
HEADS = (
    "*lm_head*", "*embed_tokens*", "*embed_out*", "*wte.*", "*head.weight", "*classifier*",
    "word_embeddings.*", "transformer.word_embeddings.*",
)  # fmt: skip
"""Heads, and embeddings that language models mostly use as heads again: a large one matters no less than a small one."""
FINER = (*HEADS, "*embed*", "*wpe*")
FINER_BITS = 0.5
"""How much finer than others of their size embeddings and heads are, which every token passes through."""


@dataclass(slots=True)
class Looked:
    """What a look at a tensor found. fixed: bytes of one that no ladder is for, about.

    cost: of a squared error, to the model, where that is known.
    """

    name: str
    spec: Spec
    digest: bytes
    ladders: Sequence[Ladder]
    lossless: float
    answers: bool
    signal: float
    cost: float | None

    def options(self, weight: float) -> Options:
        curves = [Curve(its.measure, its.low, its.high, its.snap, its.reach) for its in self.ladders]
        return Options(curves, self.lossless, weight)


@dataclass
class Plan:
    """How a checkpoint gets under a size, found out by looking at samples once and then at what encoding made of them.

    limit: bytes of all files. rungs: what was chosen last. look: looks at a tensor again.
    """

    target: Target
    recipe: Recipe
    limit: int
    tensors: Mapping[str, Looked]
    options: dict[str, Options]
    fixed: dict[str, float]
    overhead: float
    threads: int
    look: Callable[[str], Looked]
    attempt: int = 0
    _slope: float = 0.0
    rungs: dict[str, Rung] = field(default_factory=dict)
    _methods: dict[tuple[str, int, float], Method] = field(default_factory=dict)
    _best: tuple[int, dict[str, Rung]] | None = None
    _size: int = 0

    @classmethod
    def of(cls, target: Target, recipe: Recipe, tensors: AllTensors, sensitivity: Mapping[str, float], env: Env, threads: int) -> Plan:
        """Look at all tensors, once. Raises EncodeError when the target is too small for what stays lossless."""
        room = min(max(ROOM // max(1, len(tensors.names)), LEAST), MOST)
        look = partial(_look, recipe=recipe, tensors=tensors, room=room, env=env)
        seen: set[tuple[str, Spec, bytes]] = set()
        found: dict[str, Looked] = {}
        with Crew(threads) as crew:
            for its in crew.ordered(look, tensors.names, 4):
                key = tensors.file(its.name), its.spec, its.digest
                if key not in seen:
                    found[its.name] = its
                seen.add(key)
        limit = target.limit(sum(its.spec.count for its in found.values()))
        chosen = {name: its for name, its in found.items() if its.ladders}
        largest = max((its.spec.count for name, its in chosen.items() if not _matches(name, HEADS)), default=2**63)
        costs = [its.cost * its.signal * its.spec.count for its in chosen.values() if its.cost is not None]
        usual = sum(costs) / max(1, len(costs))
        options = {name: its.options(_weight(name, its, sensitivity, largest, usual)) for name, its in chosen.items()}
        fixed = {name: its.lossless for name, its in found.items() if not its.ladders}
        overhead = 256 * len({tensors.file(name) for name in tensors.names}) + OVERHEAD * len(tensors.names)
        plan = cls(target, recipe, limit, found, options, fixed, overhead, threads, look)
        plan._slope = plan._guess()
        return plan

    def choose(self) -> Recipe:
        """Return the recipe with a setting for every tensor. Raises EncodeError when the target is too small."""
        if not self.attempt:
            self.rungs = self._allocate()
        self.attempt += 1
        settings = {name: self._method(name, rung) for name, rung in self.rungs.items()}
        settings |= {name: LOSSLESS for name in self.fixed if self.tensors[name].answers}
        return replace(self.recipe, text=f"{self.recipe.text}\n{self.target.text}", settings=settings)

    def method_of(self, name: str) -> Method:
        """Return the method of a tensor before the target chose its setting."""
        return self.recipe.choose(name, self.tensors[name].spec).method

    def accept(self, size: int, rows: Iterable[TensorRow]) -> bool:
        """Tell whether files of this size will do; if not, learn from them. Raises EncodeError when the target is too small."""
        fits = size <= self.limit
        if fits and (size >= (1 - UNDER) * self.limit or self.attempt > ATTEMPTS or self._finest()):
            return True
        if fits and (self._best is None or size > self._best[0]):
            self._best = size, self.rungs
        self._learn(size, {row.name: row for row in rows if row.alias is None})
        if self.attempt >= ATTEMPTS and self._best is None:
            raise self._impossible()
        now = self.rungs
        self.rungs = self._next() if self.attempt < ATTEMPTS or self._best is None else self._best[1]
        return fits and self.attempt > 1 and _same(self.rungs, now)

    def _next(self) -> dict[str, Rung]:
        """Return all rungs at another slope, or few other rungs where that suffices."""
        far = abs(self._size - self.limit) > NEAR * self.limit and self.attempt <= SLOPES
        found = self._allocate() if far else self.rungs
        if not _same(found, self.rungs):
            return found
        close = abs(self._size - self.limit) <= 2 * UNDER * self.limit  # by turns, then: sizes of small tensors jump, as streams are padded
        tried = max(self.attempt - SLOPES, 0) % max(len(found), 1) if close else 0
        late = self.attempt >= ATTEMPTS - 2 and (self._best is None or self._best[0] < LATE * self.limit)
        return adjust(self.options, self.rungs, (LATE if late else AIM) * self.limit - self._size, tried)

    def _allocate(self) -> dict[str, Rung]:
        room = AIM * self.limit - self.overhead - sum(self.fixed.values())
        with Crew(self.threads) as crew:
            found = allocate(self.options, room, self._slope, crew.map)
        if found is not None:
            self._slope = found[1]
            return found[0]
        if self._smallest() > self.limit and not (self.attempt == 0 and self._guessed()):
            raise self._impossible()
        return {name: its.smallest() for name, its in self.options.items()}

    def notes(self) -> Iterator[str]:
        """Yield what the target made of the recipe's rules."""
        finer = sorted(name for name in self.options if _matches(name, FINER) and self.tensors[name].cost is None)
        if finer:
            yield f"{FINER_BITS:g} bit finer than others: {', '.join(finer)}"

    def _method(self, name: str, rung: Rung) -> Method:
        """Return the method of a rung: the same one whenever it is chosen again, so that its section can be, too."""
        if rung.position is None:
            return LOSSLESS
        key = name, rung.family, rung.position
        if key not in self._methods:
            self._methods[key] = self.tensors[name].ladders[rung.family].method(rung.position)
        return self._methods[key]

    def _guess(self) -> float:
        """Return the slope at which Gaussian tensors would share the bytes, as a logarithm."""
        counts = {name: self.tensors[name].spec.count for name in self.options}
        total = max(sum(counts.values()), 1)
        left = max(self.limit - self.overhead - sum(self.fixed.values()), total / 16)
        power = sum(count * log2(self.tensors[name].signal * self.options[name].weight) for name, count in counts.items()) / total
        for options in self.options.values():
            for curve in options.curves:
                curve.start = 8 * left / total
        return power + log2(16 * np.log(2) / 12) - 2 * 8 * left / total

    def _learn(self, size: int, rows: Mapping[str, TensorRow]) -> None:
        """Replace estimates by bytes really used."""
        self._size = size
        self.overhead = size - sum(row.size for row in rows.values())
        for name in self.fixed:
            self.fixed[name] = rows[name].size
        for name, rung in list(self.rungs.items()):
            its = self.options[name]
            if rung.position is None or rows[name].why:
                its.lossless = rows[name].size
                if rung.position is not None:
                    its.curves[rung.family].end(rung.position)
                self.rungs[name] = Rung(None, its.lossless, 0.0)
            else:
                its.curves[rung.family].learn(rung.position, rows[name].size)
                self.rungs[name] = replace(rung, size=rows[name].size)

    def _finest(self) -> bool:
        return all(rung.position is None for rung in self.rungs.values())

    def _guessed(self) -> bool:
        """Tell whether a tensor has a method with settings of its own: until it is encoded, it counts as if it were lossless."""
        return any(self.method_of(name) is not LOSSLESS and not self.tensors[name].answers for name in self.fixed)

    def _smallest(self) -> float:
        return self.overhead + sum(self.fixed.values()) + sum(its.smallest().size for its in self.options.values())

    def _impossible(self) -> EncodeError:
        kept = sum(self.fixed.values())
        return EncodeError(
            f"{self.target.text} allows {self.limit:,} bytes; the smallest file possible has about {round(self._smallest()):,}, "
            f"of which {round(kept):,} are of tensors that stay as they are and {round(self.overhead):,} of names and digests"
        )


def _look(name: str, recipe: Recipe, tensors: AllTensors, room: int, env: Env) -> Looked:
    spec = tensors.spec(name)
    with tensors.read(name) as x:
        digest = blake3.blake3(x.view(np.uint8).data).digest()
        method = recipe.choose(name, spec).method
        sample, plain = sample_of(method, name, x, spec, room), Sample.of(x, spec, room)
        found = ladders(method, name, x, spec, env, sample)
        signal = sample.signal if found else 0.0
        return Looked(name, spec, digest, found, plain.lossless(env), answers(method), signal, sample.cost)


def _weight(name: str, its: Looked, sensitivity: Mapping[str, float], largest: int, usual: float) -> float:
    """Return what a squared error of a tensor counts: relative to its squares, for so errors add up (arXiv 2411.17525).

    Where it is known what errors cost, relative to what the squares of a tensor cost on average: ``usual``.
    largest: elements of the largest tensor that is no head; the squares of heads are counted as if of so many elements at most.
    """
    weight = sensitivity.get(name, 1.0)
    if not 0 < weight < float("inf"):
        raise EncodeError(f"sensitivity is {weight}, expected a positive number", at=name)
    if its.cost is not None:
        return weight * its.cost / usual
    count = min(its.spec.count, largest) if _matches(name, HEADS) else its.spec.count
    return weight / (its.signal * count) * (4**FINER_BITS if _matches(name, FINER) else 1.0)


def _matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name.lower(), glob) for glob in globs)


def _same(a: Mapping[str, Rung], b: Mapping[str, Rung]) -> bool:
    return all((rung.family, rung.position) == (b[name].family, b[name].position) for name, rung in a.items())
