"""The reject corpus of uniform, sum, lowrank and tensortrain, and of tolerant records. Written by make_fixtures.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from bad_cases import bad as case
from bad_cases import file_of, record, section
from damage import changed
from golden_linear import raw

from wcodec.types import Ref, Section, Spec

SPEC = Spec.of("F32", 6, 7)
ONES = np.ones(42, np.float32)
SYMBOLS = (np.arange(42) % 5).astype(np.uint8)


def bad(rule: str, what: str, its: Section, spec: Spec = SPEC, **options: Any) -> None:
    section(rule, what, its, spec, x=bytes(spec.size), **options)


def spoilt(x: Any, value: float) -> Section:
    return raw(np.append(x[:-1], np.float32(value)))


def uniform(drop: str = "", steps: Section | None = None, **params: Any) -> Section:
    its = {key: value for key, value in ({"levels": 5, "zero": 2} | params).items() if key != drop}
    return Section("uniform", its, {"symbols": raw(SYMBOLS), "steps": steps or raw(ONES[:1])})


for _what, _params in {
    "levels": {"levels": 0}, "levels_far": {"levels": 2**24 + 3}, "zero": {"zero": 2**24}, "type": {"zero": True}, "per": {"per": "tensor"},
    "group_alone": {"group": 7}, "no_group": {"per": "group"}, "group": {"per": "group", "group": 0},
}.items():  # fmt: skip
    bad("UNIFORM-1", _what, uniform(**_params))
bad("UNIFORM-1", "absent", uniform(drop="levels"))
bad("UNIFORM-1", "dtype", uniform(), Spec.of("I32", 6, 7))
bad("UNIFORM-2", "infinite", uniform(steps=spoilt(ONES[:1], np.inf)))
bad("UNIFORM-2", "nan", uniform(per="row", steps=spoilt(ONES[:6], np.nan)))
bad("UNIFORM-3", "symbol", uniform(levels=4))


def total(*parts: Section, **params: Any) -> Section:
    return Section("sum", {"layers": len(parts)} | params, {str(i): part for i, part in enumerate(parts)})


bad("SUM-1", "none", total())
bad("SUM-1", "many", total(raw(ONES), layers=257))
bad("SUM-1", "tolerant", total(raw(ONES), tolerant=False))
bad("SUM-1", "dtype", total(raw(ONES)), Spec.of("U32", 6, 7))
bad("SUM-2", "first", total(spoilt(ONES, -np.inf), raw(ONES)))
bad("SUM-2", "last", total(raw(ONES), spoilt(ONES, np.nan)))
bad("SUM-3", "exact", total(raw(ONES), raw(ONES), tolerant=True))


def product(left: Section = raw(ONES[:6]), right: Section = raw(ONES[:7]), rank: Any = 1) -> Section:
    return Section("lowrank", {"rank": rank}, {"left": left, "right": right})


bad("SUM-3", "tolerant", total(product(), raw(ONES)))
bad("LOWRANK-1", "none", product(rank=0))
bad("LOWRANK-1", "large", product(rank=8))
bad("LOWRANK-1", "type", product(rank=True))
bad("LOWRANK-1", "dtype", product(), Spec.of("F8_E4M3", 6, 7))
bad("LOWRANK-2", "left", product(left=spoilt(ONES[:6], np.inf)))
bad("LOWRANK-2", "right", product(right=spoilt(ONES[:7], np.nan)))


def train(cores: tuple[Section, ...] = (raw(ONES[:6]), raw(ONES[:8])), **params: Any) -> Section:
    its = {"rows": [3, 2], "columns": [2, 4], "bonds": [1]} | params
    return Section("tensortrain", its, {str(i): core for i, core in enumerate(cores)})


for _what, _params in {
    "none": {"rows": [], "columns": [], "bonds": []}, "lengths": {"columns": [8]}, "bonds": {"bonds": []}, "zero": {"rows": [6, 0]},
    "type": {"rows": 6},
}.items():  # fmt: skip
    bad("TENSORTRAIN-1", _what, train(**_params))
bad("TENSORTRAIN-1", "dtype", train(), Spec.of("F4", 6, 8))
bad("TENSORTRAIN-2", "small", train(rows=[2, 2]))
bad("TENSORTRAIN-2", "large", train(rows=[3, 5]))
bad("TENSORTRAIN-2", "columns", train(columns=[2, 2]))
bad("TENSORTRAIN-2", "bond", train(bonds=[7]))
bad("TENSORTRAIN-3", "first", train((spoilt(ONES[:6], np.nan), raw(ONES[:8]))))
bad("TENSORTRAIN-3", "last", train((raw(ONES[:6]), spoilt(ONES[:8], np.inf))))

# tolerant records: the digest is that of the parts, so that nothing else is wrong
PARTS = ONES[:13].tobytes()


def unmarked(its: Section, **options: Any) -> bytes:
    return changed(file_of(its, SPEC, PARTS, **options), lambda p: p.record("x").pop("tolerant", None))


section("C-30", "tolerant", product(), SPEC, x=PARTS[4:])
record("C-31", "exact", tolerant=True)
case("C-31", "absent", lambda: unmarked(product()))
case("C-31", "absent_below", lambda: unmarked(Section("concat", {"lengths": [6]}, {"0": product()})))
case("C-31", "absent_in_a_resource", lambda: unmarked(Section("concat", {"lengths": [6]}, {"0": Ref(0)}), resources=((SPEC, product()),)))
