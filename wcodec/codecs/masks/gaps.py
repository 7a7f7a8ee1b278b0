"""gaps: a mask as the distances between its kept elements (spec/codecs/gaps.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from wcodec.codecs import base
from wcodec.codecs.base import Env, Expected
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.integers.wide import fit_wide
from wcodec.codecs.masks.common import WIDEST, Mask, block_of, check_dtype, encode_counts, kept_of, ranks
from wcodec.codecs.params import uint
from wcodec.coding.masks import count, to_gaps
from wcodec.errors import Corrupt
from wcodec.types import DTYPES, U32, Section, Spec, UInts

WIDTHS = (8, 16, 32)


def width_of(section: Section, rule: str) -> int:
    """Read the bits of a gap. Raises Corrupt with the page's rule."""
    bits = uint(section.params, "bits", 8, 32, rule, default=8)
    if bits not in WIDTHS:
        raise Corrupt(f"gaps of {bits} bits", rule=rule)
    return bits


def encode_gaps(gaps: U32, env: Env) -> tuple[dict[str, int], Section]:
    """Encode gaps in the narrowest integers; returns the param that says which, and the part."""
    highest = int(gaps.max(initial=0))
    bits = next(width for width in WIDTHS if highest < 1 << width)
    spec, x = Spec.of(f"U{bits}", gaps.size), gaps.astype(DTYPES[f"U{bits}"].storage)
    found = [smallest(x, spec, env, zstd=False)]
    if x.size and (wide := fit_wide(x)):
        found.append(env.codecs["rans"].encode(x, spec, env, **wide[1]))
    return {"bits": bits} if bits > 8 else {}, min(found, key=base.stored_size)


class Gaps(Mask):
    """Stores the numbers of dropped elements between kept ones. Options: block (elements; by the number kept)."""

    name = "gaps"
    params = frozenset({"kept", "block", "bits"})
    options = frozenset({"block"})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"block": 100})

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        check_dtype(spec, "GAPS-1")
        kept = uint(section.params, "kept", 0, spec.count, "GAPS-1")
        block = uint(section.params, "block", 1, WIDEST, "GAPS-1")
        return {"counts": Spec.of("U32", -(-spec.count // block)), "gaps": Spec.of(f"U{width_of(section, 'GAPS-1')}", kept)}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return int(section.params["block"])

    def units(self, section: Section, spec: Spec, env: Env, first: int, last: int) -> tuple[int, U32]:
        block, kept = section.params["block"], section.params["kept"]
        counts, before = ranks(section, -(-spec.count // block), env)
        if int(before[-1]) != kept:
            raise Corrupt(f"counts of the blocks sum to {int(before[-1])}, not {kept}", rule="GAPS-2")
        low, high = int(before[first]), int(before[last])
        its = Spec.of(f"U{section.params.get('bits', 8)}", kept)
        with base.decoded(section.parts["gaps"], its, env, low, high) as gaps:
            return low, env.backend.place_gaps(gaps, counts[first:last], block, spec.count - first * block)

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        positions = kept_of(x, spec, env)
        block = options.get("block") or block_of(x.size, positions.size)
        counts = count(positions, x.size, block)
        params, gaps = encode_gaps(to_gaps(positions, counts, block), env)
        return Section("gaps", {"kept": positions.size, "block": block} | params, {"counts": encode_counts(counts, env), "gaps": gaps})
