"""gs: a mask whose gathers hit every memory bank once (spec/codecs/gs.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import Env, Expected
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.masks.common import Mask, check_dtype, encode_counts, kept_of, matrix, ranks
from wcodec.codecs.masks.gaps import encode_gaps, width_of
from wcodec.codecs.params import flag, uint
from wcodec.coding.layouts import Bundles
from wcodec.coding.masks import to_gaps
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import U32, Section, Spec, UInts

BANKS = 256


def bundles_of(section: Section, spec: Spec) -> Bundles:
    """Check the params. Raises Corrupt [GS-1]."""
    check_dtype(spec, "GS-1")
    rows, cols = matrix(spec)
    banks = uint(section.params, "banks", 1, BANKS, "GS-1")
    found = Bundles(banks, uint(section.params, "per_row", 1, banks, "GS-1"), rows, cols)
    if banks % found.per_row or rows % found.high or found.high * found.steps * banks >= 2**31:
        raise Corrupt(f"GS({banks}, {found.per_row}) does not divide {rows} × {cols} elements", rule="GS-1")
    return found


class GatherScatter(Mask):
    """Stores where every lane of a bundle of rows keeps elements.

    Options: banks (B, 4), per_row (k, B), rows (the order in which rows are bundled; absent: as they are).
    """

    name = "gs"
    params = frozenset({"banks", "per_row", "groups", "bits", "scatter"})
    options = frozenset({"banks", "per_row", "rows"})
    whole: ClassVar[bool] = True
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"banks": 8, "per_row": 4})

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        bundles = bundles_of(section, spec)
        groups = uint(section.params, "groups", 0, spec.count // bundles.banks, "GS-1")
        width = width_of(section, "GS-1")
        found = {"counts": Spec.of("U32", bundles.count), "gaps": Spec.of(f"U{width}", groups * bundles.banks)}
        return found | ({"rows": Spec.of("U32", bundles.rows)} if flag(section.params, "scatter", "GS-1") else {})

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return max(1, spec.count if "rows" in section.parts else bundles_of(section, spec).size)

    def units(self, section: Section, spec: Spec, env: Env, first: int, last: int) -> tuple[int, U32]:
        bundles = bundles_of(section, spec)
        if "rows" not in section.parts:
            return self._bundles(section, bundles, env, first, last, None)
        order = base.decode_all(section.parts["rows"], Spec.of("U32", bundles.rows), env.host)
        if not np.array_equal(np.sort(order), np.arange(bundles.rows)):
            raise Corrupt("rows are not all there once", rule="GS-4")
        return self._bundles(section, bundles, env, 0, bundles.count, order)

    def _bundles(self, section: Section, bundles: Bundles, env: Env, first: int, last: int, order: U32 | None) -> tuple[int, U32]:
        """Return the kept elements before bundle first, and the positions of those in bundles first … last − 1; order: of all rows."""
        counts, before = ranks(section, bundles.count, env)
        if int(before[-1]) != section.params["groups"]:
            raise Corrupt(f"groups of the bundles sum to {int(before[-1])}, not {section.params['groups']}", rule="GS-2")
        low, high = int(before[first]) * bundles.banks, int(before[last]) * bundles.banks
        its = Spec.of(f"U{section.params.get('bits', 8)}", int(before[-1]) * bundles.banks)
        with base.decoded(section.parts["gaps"], its, env, low, high) as gaps:
            mask = env.backend.bundle_mask(gaps, counts[first:last], bundles, order)
        return low, env.backend.byte_positions(mask, high - low)

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        kept = kept_of(x, spec, env)
        banks = options.get("banks", 4)
        bundles = Bundles(banks, options.get("per_row", banks), *matrix(spec))
        if not 0 < banks <= BANKS or banks % bundles.per_row or bundles.rows % bundles.high or x.size >= 2**31:
            raise EncodeError(f"GS({banks}, {bundles.per_row}) does not divide {spec}")
        order = options.get("rows")
        mask = x.reshape(bundles.rows, bundles.cols) if order is None else x.reshape(bundles.rows, bundles.cols)[order]
        lanes = np.zeros((bundles.count, bundles.high, bundles.steps * banks), np.uint8)
        lanes[..., : bundles.cols] = mask.reshape(bundles.count, bundles.high, bundles.cols)
        lanes = lanes.reshape(bundles.count, bundles.high * bundles.steps, banks).swapaxes(1, 2)
        each = lanes.sum(2, dtype=np.uint32)
        counts = each[:, 0] if banks else each
        per_row = mask.reshape(bundles.count, bundles.high, bundles.cols).sum(2, dtype=np.uint32)
        if (each != counts[:, None]).any() or (per_row != counts[:, None] * np.uint32(bundles.per_row)).any():
            raise EncodeError(f"the mask is not gather-scatter of {banks} banks, {bundles.per_row} elements to a row")
        where = env.backend.byte_positions(np.ascontiguousarray(lanes).reshape(-1))
        params, gaps = encode_gaps(to_gaps(where, each.reshape(-1), bundles.high * bundles.steps), env)
        params = {"banks": banks, "per_row": bundles.per_row, "groups": kept.size // banks} | params
        parts = {"counts": encode_counts(counts.copy(), env), "gaps": gaps}
        if order is not None:
            rows = np.asarray(order, np.uint32)
            params, parts = params | {"scatter": True}, parts | {"rows": smallest(rows, Spec.of("U32", rows.size), env)}
        return Section("gs", params, parts)
