"""concat: parts joined along axis 0 (spec/codecs/concat.md)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from itertools import accumulate
from math import lcm
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import F64, Codec, Env, Expected
from wcodec.codecs.lossless import encode_part
from wcodec.codecs.params import uints
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import Part, Section, Spec, UInts

MAX_PARTS = 65_536


class Concat(Codec):
    """Stores parts of an array each in a section of its own. Options: lengths (along axis 0), codec (of every part)."""

    name = "concat"
    params = frozenset({"lengths"})
    options = frozenset({"lengths", "encode"})
    max_parts = MAX_PARTS
    host_encode = ""
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({"codec": "raw"}, {"codec": "bitpack"})

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        lengths = uints(section.params, "lengths", 0, 2**63, "CONCAT-1", range(1, MAX_PARTS + 1))
        if not spec.shape or sum(lengths) != spec.shape[0]:
            raise Corrupt(f"parts of lengths {lengths[:8]} do not make {spec}", rule="CONCAT-1")
        return {str(i): Spec(spec.dtype, (length, *spec.shape[1:])) for i, length in enumerate(lengths)}

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        extents = _extents(section, spec)
        first = bisect_left(extents, start, key=lambda extent: extent[3])
        for part, its, begin, end in extents[first:]:
            low, high = max(start, begin), min(stop, end)
            if begin > stop:
                break
            if low < high:
                with env.backend.apart():
                    base.decode(part, its, env, low - begin, high - begin, out[low - start : high - start])
            elif begin == end:  # nothing to decode, but something to check
                base.decode(part, its, env, 0, 0, out[:0])

    def bound(self, section: Section, spec: Spec, env: Env, start: int, stop: int) -> F64:
        found = np.zeros(stop - start)
        for part, its, begin, end in _extents(section, spec):
            low, high = max(start, begin), min(stop, end)
            if low < high:
                found[low - start : high - start] = base.bound(part, its, env, low - begin, high - begin)
        return found

    def lend(self, section: Section, spec: Spec, env: Env, start: int, stop: int) -> AbstractContextManager[UInts]:
        extents = _extents(section, spec)
        part, its, begin, _ = extents[bisect_left(extents, stop, key=lambda extent: extent[3])]
        if begin <= start < stop:
            return base.decoded(part, its, env, start - begin, stop - begin)
        return super().lend(section, spec, env, start, stop)

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        # Windows cut where every large part may be cut; of small ones, two windows may decode the same.
        extents = _extents(section, spec)
        largest = max(end - begin for _, _, begin, end in extents)
        units = {base.unit(part, its, env) for part, its, begin, end in extents if 0 < largest <= 16 * (end - begin)}
        return min(lcm(*units), max(1, spec.count)) if units else 1

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        if not spec.shape:
            raise EncodeError("concat takes arrays with at least one dimension")
        half = spec.shape[0] // 2
        lengths = options.get("lengths") or [half, spec.shape[0] - half]
        at, parts = 0, {}
        encode = options["encode"] if "encode" in options else partial(encode_part, config={"codec": options["codec"]})
        for i, length in enumerate(lengths):
            its = Spec(spec.dtype, (length, *spec.shape[1:]))
            parts[str(i)] = encode(x[at : at + its.count], its, env)
            at += its.count
        return Section("concat", {"lengths": list(lengths)}, parts)


def _extents(section: Section, spec: Spec) -> list[tuple[Part, Spec, int, int]]:
    """Return every part with its spec and its flat range of storage elements, worked out once."""
    found: list[tuple[Part, Spec, int, int]] | None = section.memo.get("extents")
    if found is None:
        specs = [Spec(spec.dtype, (length, *spec.shape[1:])) for length in section.params["lengths"]]
        ends = accumulate(its.count for its in specs)
        found = [(section.parts[str(i)], its, end - its.count, end) for i, (its, end) in enumerate(zip(specs, ends, strict=True))]
        section.memo["extents"] = found
    return found
