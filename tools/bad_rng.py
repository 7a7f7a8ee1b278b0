"""The reject corpus of random numbers. Written by make_fixtures.py."""

from __future__ import annotations

from struct import pack
from typing import Any

import numpy as np
from bad_cases import ENV, raw, section

from wcodec.codecs import CODECS, decode_all
from wcodec.types import Section, Spec

FLOATS, MASK = Spec.of("F32", 100), Spec.of("BOOL", 100)
GOOD = {
    "philox": (FLOATS, {"seed": 1, "id": 2, "stream": 3, "kind": "uniform", "scale": 0x3F000000}),
    "mt19937": (FLOATS, {"seed": 1, "offset": 0, "low": 0xBF000000, "high": 0x3F000000}),
    "draw": (MASK, {"seed": 1, "id": 2, "stream": 3, "threshold": 2**31}),
}
BYTES = {name: decode_all(Section(name, params), spec, ENV).tobytes() for name, (spec, params) in GOOD.items()}


def broken(rule: str, what: str, codec: str, spec: Spec | None = None, drop: str = "", **params: Any) -> None:
    its, good = GOOD[codec]
    kept = {key: value for key, value in {**good, **params}.items() if key != drop}
    section(rule, what, Section(codec, kept), spec or its, x=BYTES[codec])


for _codec in ("philox", "draw"):
    broken("G-1", f"{_codec}_seed", _codec, seed=-1)
    broken("G-1", f"{_codec}_seed_type", _codec, seed="1")
    broken("G-1", f"{_codec}_id", _codec, id=2**32)
    broken("G-1", f"{_codec}_no_stream", _codec, drop="stream")
broken("PHILOX-1", "kind", "philox", kind="cauchy")
broken("PHILOX-1", "no_kind", "philox", drop="kind")
broken("PHILOX-1", "zero", "philox", scale=0)
broken("PHILOX-1", "negative", "philox", scale=0xBF000000)
broken("PHILOX-1", "infinite", "philox", scale=0x7F800000)
broken("PHILOX-1", "small", "philox", scale=0x217FFFFF)
broken("PHILOX-1", "decay_above_1", "philox", decay=0x3F800001)
broken("PHILOX-1", "decay_small", "philox", decay=0x2B7FFFFF)
broken("PHILOX-1", "dtype", "philox", Spec.of("I32", 100))
broken("MT19937-1", "seed", "mt19937", seed=2**32)
broken("MT19937-1", "nan", "mt19937", high=0x7FC00000)
broken("MT19937-1", "subnormal", "mt19937", low=0x80000001)
broken("MT19937-1", "order", "mt19937", low=0x3F000000)
broken("MT19937-1", "no_high", "mt19937", drop="high")
broken("MT19937-1", "dtype", "mt19937", Spec.of("U32", 100))
broken("MT19937-2", "far", "mt19937", offset=2**48 + 1)
broken("MT19937-2", "type", "mt19937", offset=True)
broken("DRAW-1", "threshold", "draw", threshold=2**32)
broken("DRAW-1", "counts", "draw", counts=1)
broken("DRAW-1", "dtype", "draw", Spec.of("U8", 100))
_counts = {"counts": raw(pack("<I", 99))}
section("DRAW-2", "count", Section("draw", {**GOOD["draw"][1], "counts": True}, _counts), MASK, x=BYTES["draw"])
assert np.frombuffer(BYTES["draw"], np.uint8).sum() != 99 and set(GOOD) <= set(CODECS)
