"""bitmap: a mask as one bit per element (spec/codecs/bitmap.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import Env, Expected
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.masks.common import WIDEST, Mask, check_dtype, encode_counts, kept_of, ranks
from wcodec.codecs.params import uint
from wcodec.coding.masks import count
from wcodec.errors import Corrupt
from wcodec.types import U32, Section, Spec, UInts

BLOCK = 1 << 16


class Bitmap(Mask):
    """Stores bits. Options: block (elements, a multiple of 8)."""

    name = "bitmap"
    params = frozenset({"block"})
    options = frozenset({"block"})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"block": 80})

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        check_dtype(spec, "BITMAP-1")
        block = uint(section.params, "block", 8, WIDEST, "BITMAP-1")
        if block % 8:
            raise Corrupt(f"blocks of {block} elements are not whole bytes", rule="BITMAP-1")
        return {"bits": Spec.of("U8", -(-spec.count // 8)), "counts": Spec.of("U32", -(-spec.count // block))}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return int(section.params["block"])

    def units(self, section: Section, spec: Spec, env: Env, first: int, last: int) -> tuple[int, U32]:
        block = section.params["block"]
        counts, before = ranks(section, -(-spec.count // block), env)
        low, high = first * block, min(last * block, spec.count)
        with base.decoded(section.parts["bits"], Spec.of("U8", -(-spec.count // 8)), env, low // 8, -(-high // 8)) as bits:
            if high == spec.count and (used := high % 8):
                env.backend.check_padding(bits, used, "BITMAP-3")
            found = env.backend.bit_positions(bits, high - low, int(before[last]) - int(before[first]))
        env.backend.check_counts(found, high - low, block, counts[first:last])
        return int(before[first]), found

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        positions, block = kept_of(x, spec, env), options.get("block", BLOCK)
        bits = np.packbits(x, bitorder="little")
        counts = count(positions, x.size, block)
        parts = {"bits": smallest(bits, Spec.of("U8", bits.size), env), "counts": encode_counts(counts, env)}
        return Section("bitmap", {"block": block}, parts)
