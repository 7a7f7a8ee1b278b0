"""gs: a mask whose gathers hit every memory bank once (spec/codecs/gs.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import Env, Expected
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.masks.common import Mask, check_dtype, encode_counts, kept_of, matrix, ranks
from wcodec.codecs.masks.gaps import encode_gaps, width_of
from wcodec.codecs.params import flag, uint
from wcodec.coding.masks import Bundle, to_gaps
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import U8, U32, Section, Spec, UInts

BANKS = 256


@dataclass(frozen=True, slots=True)
class Bundles:
    """GS(B, k) of a matrix: bundles of B / k rows."""

    per_row: int
    rows: int
    one: Bundle

    @classmethod
    def of(cls, banks: int, per_row: int, rows: int, cols: int) -> Bundles | None:
        """Cut a matrix; None where bundles do not divide it, or are too large."""
        if banks % per_row or rows % (banks // per_row):
            return None
        found = cls(per_row, rows, Bundle(banks, banks // per_row, cols))
        return found if found.one.rows * found.one.steps * banks < 2**31 else None

    @property
    def count(self) -> int:
        """Bundles."""
        return self.rows // self.one.rows


def bundles_of(section: Section, spec: Spec) -> Bundles:
    """Check the params. Raises Corrupt [GS-1]."""
    check_dtype(spec, "GS-1")
    rows, cols = matrix(spec)
    banks = uint(section.params, "banks", 1, BANKS, "GS-1")
    per_row = uint(section.params, "per_row", 1, banks, "GS-1")
    found = Bundles.of(banks, per_row, rows, cols)
    if found is None:
        raise Corrupt(f"GS({banks}, {per_row}) does not divide {rows} × {cols} elements", rule="GS-1")
    return found


class GatherScatter(Mask):
    """Stores where every lane of a bundle of rows keeps elements.

    Options: banks (B, 4), per_row (k, B), rows (the order in which rows are bundled; absent: as they are).
    """

    name = "gs"
    params = frozenset({"banks", "per_row", "groups", "bits", "scatter"})
    options = frozenset({"banks", "per_row", "rows"})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"banks": 8, "per_row": 4})

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        bundles = bundles_of(section, spec)
        groups = uint(section.params, "groups", 0, spec.count // bundles.one.banks, "GS-1")
        width = width_of(section, "GS-1")
        found = {"counts": Spec.of("U32", bundles.count), "gaps": Spec.of(f"U{width}", groups * bundles.one.banks)}
        return found | ({"rows": Spec.of("U32", bundles.rows)} if flag(section.params, "scatter", "GS-1") else {})

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return max(1, spec.count if "rows" in section.parts else bundles_of(section, spec).one.size)

    def units(self, section: Section, spec: Spec, env: Env, first: int, last: int) -> tuple[int, U32]:
        bundles = bundles_of(section, spec)
        if "rows" not in section.parts:
            before, mask = self._bundles(section, bundles, env, first, last)
            return before, env.backend.byte_positions(mask)
        order = base.decode_all(section.parts["rows"], Spec.of("U32", bundles.rows), env)
        if not np.array_equal(np.sort(order), np.arange(bundles.rows)):
            raise Corrupt("rows are not all there once", rule="GS-4")
        mask = np.empty((bundles.rows, bundles.one.cols), np.uint8)
        mask[order] = self._bundles(section, bundles, env, 0, bundles.count)[1].reshape(mask.shape)
        return 0, env.backend.byte_positions(mask.reshape(-1))

    def _bundles(self, section: Section, bundles: Bundles, env: Env, first: int, last: int) -> tuple[int, U8]:
        """Return the kept elements before bundle first, and the mask of bundles first … last − 1."""
        counts, before = ranks(section, bundles.count, env)
        if int(before[-1]) != section.params["groups"]:
            raise Corrupt(f"groups of the bundles sum to {int(before[-1])}, not {section.params['groups']}", rule="GS-2")
        low, high = int(before[first]) * bundles.one.banks, int(before[last]) * bundles.one.banks
        its = Spec.of(f"U{section.params.get('bits', 8)}", int(before[-1]) * bundles.one.banks)
        mask = np.empty((last - first) * bundles.one.size, np.uint8)
        with base.decoded(section.parts["gaps"], its, env, low, high) as gaps:
            if not env.backend.bundle_mask(gaps, counts[first:last], bundles.one, mask):
                raise Corrupt("a kept element lies beyond its bundle, or a row does not keep its share of the groups", rule="GS-3")
        return low, mask

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        kept = kept_of(x, spec, env)
        banks = options.get("banks", 4)
        per_row = options.get("per_row", banks)
        bundles = Bundles.of(banks, per_row, *matrix(spec)) if 0 < per_row <= banks <= BANKS else None
        if bundles is None or x.size >= 2**31:
            raise EncodeError(f"GS({banks}, {per_row}) does not divide {spec}")
        order, count, one = options.get("rows"), bundles.count, bundles.one
        mask = x.reshape(bundles.rows, one.cols) if order is None else x.reshape(bundles.rows, one.cols)[order]
        lanes = np.zeros((count, one.rows, one.steps * banks), np.uint8)
        lanes[..., : one.cols] = mask.reshape(count, one.rows, one.cols)
        lanes = lanes.reshape(count, one.rows * one.steps, banks).swapaxes(1, 2)
        each = lanes.sum(2, dtype=np.uint32)
        counts = each[:, 0]
        kept_per_row = mask.reshape(count, one.rows, one.cols).sum(2, dtype=np.uint32)
        if (each != counts[:, None]).any() or (kept_per_row != counts[:, None] * np.uint32(per_row)).any():
            raise EncodeError(f"the mask is not gather-scatter of {banks} banks, {per_row} elements to a row")
        where = env.backend.byte_positions(np.ascontiguousarray(lanes).reshape(-1))
        params, gaps = encode_gaps(to_gaps(where, each.reshape(-1), one.rows * one.steps), env)
        params = {"banks": banks, "per_row": per_row, "groups": kept.size // banks} | params
        parts = {"counts": encode_counts(counts.copy(), env), "gaps": gaps}
        if order is not None:
            rows = np.asarray(order, np.uint32)
            params, parts = params | {"scatter": True}, parts | {"rows": smallest(rows, Spec.of("U32", rows.size), env)}
        return Section("gs", params, parts)
