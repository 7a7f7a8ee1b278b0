"""wfn: a whole network of few values that are sums of powers of two (Weight Fixing Networks), in one pass without data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import frexp, isfinite, ldexp
from typing import ClassVar

import numpy as np

from wcodec.codecs import Env
from wcodec.codecs.lossless import Config, lossless
from wcodec.coding.histogram import F32, Histogram, Points, assign, importance_of, weights_of
from wcodec.coding.numbers import from_float32
from wcodec.coding.tables import Tables
from wcodec.errors import EncodeError
from wcodec.recipes.base import Importance, Method, Tensors, of, require
from wcodec.recipes.fixing import Fixed, fix
from wcodec.types import DTYPES, Resource, Section, Spec, UInts

ERROR = 0.25
"""Root of the squared error, relative to that of the squares, above which networks were found to break: 12 dB."""
LEAST_DISTANCE = 0.01
ZEROED = 0.25
"""Share of the root mean square below which weights may become 0, about: the paper's 2^-7 for the networks that it looks at."""


@dataclass
class WFN(Method):
    """Share one codebook of sums of powers of two among all chosen tensors.

    delta: mean relative distance of weights from their values; halved where it would destroy the weights, and notes say so.
    smallest: γ₀, weights below it may become 0; absent: the power of two at or below a quarter of the root mean square.
    """

    delta: float = 0.1
    smallest: float | None = None
    importance: Importance | None = None
    name: ClassVar[str] = "wfn"
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        require(0 < self.delta < 1, "wfn: delta is above 0 and below 1")
        require(self.smallest is None or (self.smallest > 0 and isfinite(self.smallest)), "wfn: smallest is above 0")
        self._fixed: Fixed | None = None
        self._books: dict[str, Resource] = {}
        self._tables: tuple[Tables, Resource] | None = None

    def prepare(self, names: Sequence[str], tensors: Tensors, env: Env) -> None:
        """Fix the values of all tensors together. Memory: that of one tensor, and 50 MB."""
        histogram, used = Histogram(), set()
        for name in names:
            spec = tensors.spec(name)
            try:
                with tensors.read(name) as x:
                    histogram.add(weights_of(x, spec), self._important(name, spec.count))
            except EncodeError:  # encode says so again, of this tensor
                continue
            used.add(spec.dtype.name)
        self._points = histogram.points()
        if not self._points.bins.size:
            return
        self._fixed = self._fix(self._points)
        if self._fixed is None:
            return
        for dtype in sorted(used):
            book = Spec.of(dtype, self._fixed.values.size)
            self._books[dtype] = Resource(book, lossless(from_float32(self._fixed.values.astype(np.float32), book.dtype), book, env))
        if len(names) > 1 and 1 < self._fixed.values.size <= 256:
            counts = np.bincount(self._fixed.index, self._points.counts, 256).astype(np.uint64)
            self._tables = shared_tables(Tables.fit(counts.reshape(1, 256), 12), env)

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        weights = weights_of(x, spec)
        self._important(name, spec.count)  # to refuse what prepare passed over
        if self._fixed is None:
            raise EncodeError("wfn finds no values that keep these weights")
        indices = assign(weights, self._points, self._fixed.index)
        config = self._coding(indices)
        return env.codecs["codebook"].encode(x, spec, env, book=self._books[spec.dtype.name], assigned=indices, indices=config)

    def _important(self, name: str, count: int) -> F32 | None:
        return importance_of(of(self.importance, name), count)

    def _fix(self, points: Points) -> Fixed | None:
        """Fix with the distance asked for, or the largest half of it … that keeps the weights."""
        smallest, distance = self.smallest or smallest_of(points), self.delta
        while True:
            fixed = fix(points, distance, smallest)
            error = points.error(fixed.values[fixed.index])
            if error <= ERROR:
                break
            if distance / 2 < LEAST_DISTANCE:
                self.notes.append(f"wfn: error {error:.2f} of the weights even at distance {distance:g}; they stay lossless")
                return None
            self.notes.append(f"wfn: distance {distance:g} would leave an error of {error:.2f} of the weights; trying {distance / 2:g}")
            distance /= 2
        self.notes.append(f"wfn: {fixed.values.size} values, mean relative distance {fixed.distance:.4f}, error {error:.3f}")
        return fixed

    def _coding(self, indices: UInts) -> Config | None:
        """Return how indices are encoded: with the network's tables where own ones do not save what they cost."""
        if self._tables is None or not indices.size:
            return None
        tables, resource = self._tables
        counts = np.bincount(indices, minlength=256).astype(np.uint64).reshape(1, 256)
        own = Tables.fit(counts, tables.precision)
        if np.count_nonzero(counts) < 2 or own.cost(counts) + 8 * len(own.pack()) < tables.cost(counts):
            return None
        return {"codec": "rans", "tables": (tables, resource)}


def smallest_of(points: Points) -> float:
    """Return the power of two at or below a share of the root mean square."""
    size = ZEROED * float(np.sqrt((points.counts * points.values**2).sum() / points.counts.sum()))
    return ldexp(1.0, frexp(size)[1] - 1) if size else 1.0


def shared_tables(tables: Tables, env: Env) -> tuple[Tables, Resource]:
    """Return tables and the resource that holds them."""
    packed = np.frombuffer(tables.pack(), np.uint8)
    spec = Spec(DTYPES["U8"], (packed.size,))
    return tables, Resource(spec, env.codecs["raw"].encode(packed, spec, env))
