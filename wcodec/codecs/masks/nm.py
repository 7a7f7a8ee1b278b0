"""nm: a mask that keeps n of every m neighbours (spec/codecs/nm.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import Env, Expected
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.masks.common import Mask, check_dtype, kept_of
from wcodec.codecs.params import uint
from wcodec.coding import patterns
from wcodec.coding.layouts import Groups
from wcodec.errors import EncodeError
from wcodec.types import U8, U32, Section, Spec, UInts

NM = "nm"
WIDEST_GROUP = 32


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
    whole: ClassVar[bool] = True
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
            mask = env.backend.group_mask(found, groups)
        kept = groups.kept * groups.inner
        return first * kept, env.backend.byte_positions(mask, (last - first) * kept)

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
