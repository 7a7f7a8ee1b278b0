"""nm: a mask that keeps n of every m neighbours (spec/codecs/nm.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb, prod
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import Env, Expected
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.masks.common import Mask, check_dtype, kept_of
from wcodec.codecs.params import uint
from wcodec.coding import patterns
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import DTYPES, U8, U32, Section, Spec, UInts

NM = "nm"
WIDEST_GROUP = 32


@dataclass(frozen=True, slots=True)
class Groups:
    """How a mask divides: [outer, length, inner] with groups of m along the middle. kinds: patterns of a whole group."""

    kinds: int
    n: int
    m: int
    outer: int
    length: int
    inner: int

    @classmethod
    def of(cls, n: int, m: int, axis: int, shape: tuple[int, ...]) -> Groups:
        """Divide a shape. Patterns of short groups are the first of those of whole ones: where all are short, they need no more room."""
        its = (min(n, shape[axis]), shape[axis]) if 0 < shape[axis] < m else (n, m)
        return cls(comb(m, n), *its, prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))

    @property
    def groups(self) -> int:
        """Groups along the axis; the last one may be short."""
        return -(-self.length // self.m)

    @property
    def kept(self) -> int:
        """Elements kept along the axis."""
        return self.length // self.m * self.n + min(self.n, self.length % self.m)

    @property
    def short(self) -> int:
        """Patterns of a short last group."""
        rest = self.length % self.m
        return comb(rest, min(self.n, rest))

    @property
    def spec(self) -> Spec:
        """The spec of the part ``patterns``, without the dimensions that it shares with the mask."""
        return Spec(
            DTYPES["U8" if self.kinds <= 256 else "U16" if self.kinds <= 65536 else "U32"], (self.outer * self.groups * self.inner,)
        )

    def split(self, x: U8) -> U8:
        """Return the groups of a mask, [outer · groups · inner, m], short ones filled up with zeros."""
        if not x.size:
            return np.zeros((0, self.m), np.uint8)
        padded = np.zeros((x.size // (self.length * self.inner), self.groups * self.m, self.inner), np.uint8)
        padded[:, : self.length] = x.reshape(-1, self.length, self.inner)
        return padded.reshape(-1, self.groups, self.m, self.inner).swapaxes(2, 3).reshape(-1, self.m)

    def join(self, split: U8) -> U8:
        """Return the mask of groups, flat: the inverse of ``split``."""
        if not split.size:
            return np.zeros(0, np.uint8)
        padded = split.reshape(-1, self.groups, self.inner, self.m).swapaxes(2, 3).reshape(-1, self.groups * self.m, self.inner)
        return np.ascontiguousarray(padded[:, : self.length]).reshape(-1)


def groups_of(section: Section, spec: Spec) -> Groups:
    """Check the params. Raises Corrupt [NM-1]."""
    check_dtype(spec, "NM-1")
    m = uint(section.params, "m", 1, WIDEST_GROUP, "NM-1")
    n = uint(section.params, "n", 1, m, "NM-1")
    return Groups.of(n, m, uint(section.params, "axis", 0, len(spec.shape) - 1, "NM-1"), spec.shape)


class NofM(Mask):
    """Stores the pattern of every group. Options: n (2), m (4), axis (the last)."""

    name = NM
    params = frozenset({"n", "m", "axis"})
    options = frozenset({"n", "m", "axis"})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"n": 4, "m": 8, "axis": 0})

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        return {"patterns": groups_of(section, spec).spec}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        groups = groups_of(section, spec)
        return max(1, groups.length * groups.inner)

    def units(self, section: Section, spec: Spec, env: Env, first: int, last: int) -> tuple[int, U32]:
        groups = groups_of(section, spec)
        per_unit = groups.groups * groups.inner
        with base.decoded(section.parts["patterns"], groups.spec, env, first * per_unit, last * per_unit) as found:
            lasts = found.reshape(-1, groups.groups, groups.inner)[:, -1:] if found.size and groups.length % groups.m else found[:0]
            if int(found.max(initial=0)) >= comb(groups.m, groups.n) or int(lasts.max(initial=0)) >= groups.short:
                raise Corrupt(f"a pattern is not one of {groups.n} of {groups.m}", rule="NM-2")
            with env.borrow(found.size * groups.m, np.dtype(np.uint8)) as split:
                table = patterns.listed(groups.n, groups.m)
                if table is None:
                    split[:] = patterns.unrank(found, groups.n, groups.m).reshape(-1)
                else:
                    env.backend.gather(table, groups.m, found, split)
                return first * groups.kept * groups.inner, env.backend.byte_positions(groups.join(split))

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        kept_of(x, spec, env)
        if not spec.shape:
            raise EncodeError("nm takes masks with at least one dimension")
        n, m = options.get("n", 2), options.get("m", 4)
        axis = options.get("axis", len(spec.shape) - 1) % len(spec.shape)
        groups = Groups.of(n, m, axis, spec.shape)
        split = groups.split(x)
        if not fits(split, groups):
            raise EncodeError(f"the mask does not keep {n} of every {m} elements along axis {axis}")
        found = patterns.rank(split).astype(groups.spec.dtype.storage)
        return Section(NM, {"n": n, "m": m, "axis": axis}, {"patterns": smallest(found, groups.spec, env)})


def fits(split: U8, groups: Groups) -> bool:
    """Tell whether every group keeps as many elements as it must."""
    if not split.size:
        return True
    kept = split.sum(1, dtype=np.uint8).reshape(-1, groups.groups, groups.inner)
    wanted = np.full(groups.groups, groups.n)
    if groups.length % groups.m:
        wanted[-1] = min(groups.n, groups.length % groups.m)
    return bool((kept == wanted[:, None]).all())
