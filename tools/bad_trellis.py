"""The reject corpus of trellis. Written by make_fixtures.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from bad_linear import SPEC, bad
from golden_linear import raw

from wcodec.codecs import CODECS
from wcodec.types import Ref, Section, Spec

U8S = Spec.of("U8", *SPEC.shape)


def coded(**options: Any) -> Section:
    from golden_cases import ENV

    return CODECS["rans"].encode((np.arange(42) % 5).astype(np.uint8), U8S, ENV, lanes=0, precision=8, **options)


SYMBOLS = coded(trellis=3)


def trellis(drop: str = "", symbols: Any = SYMBOLS, parts: Any = None, **params: Any) -> Section:
    its = {key: value for key, value in ({"zero": 2, "step": 0x3F800000} | params).items() if key != drop}
    return Section("trellis", its, {"symbols": symbols} | (parts or {}))


for _what, _params in {
    "odd": {"zero": 3}, "zero": {"zero": 256}, "zero_wide": {"zero": 65536, "wide": True}, "step": {"step": 0},
    "step_huge": {"step": 0x76800000},
    "step_negative": {"step": 0xBF800000}, "type": {"wide": 1}, "rows": {"rows": "x"}, "points_none": {"points": []},
    "points_many": {"points": [1] * 65},
    "points_large": {"points": [65536]}, "points_type": {"points": 3},
}.items():  # fmt: skip
    bad("TRELLIS-1", _what, trellis(**_params))
bad("TRELLIS-1", "absent", trellis("step"))
bad("TRELLIS-1", "dtype", trellis(), Spec.of("U32", 6, 7))
bad("TRELLIS-2", "codec", trellis(symbols=raw(np.zeros(42, np.uint8))))
bad("TRELLIS-2", "context", trellis(symbols=coded()))
bad("TRELLIS-2", "reference", trellis(symbols=Ref(0)), resources=((U8S, SYMBOLS),))
bad("C-20", "no_codes", trellis(rows=True))
bad("C-20", "symbols_for_stream", trellis(symbols=SYMBOLS.parts["data"]))
bad("E-6", "trellis", trellis(symbols=Section("rans", {**SYMBOLS.params, "trellis": 4}, SYMBOLS.parts)))
_CLASSES = {"trellis": 3, "block": None, "tile": [2, 128], "classes": [1, 2], "map": b"\0\0"}
_CODED = {key: value for key, value in (SYMBOLS.params | _CLASSES).items() if value is not None}
bad(
    "RANS-1",
    "column_classes_and_trellis",
    trellis(symbols=Section("rans", _CODED, SYMBOLS.parts | {"columns": raw(np.zeros(7, np.uint8))})),
)
