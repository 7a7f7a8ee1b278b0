"""The reject corpus, second half: sections that break a rule of their codec's page or of entropy.md. Written by make_fixtures.py."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

import numpy as np
from bad_cases import X, coded, flip, frame, raw, section, stream, wide_frame, with_data, with_params

from wcodec.coding.tables import Tables
from wcodec.types import Ref, Section, Spec

# the plain codecs

section("RAW-1", "short", raw(X[:-1]))
section("RAW-1", "long", raw(bytes(X) + b"\0"))
section("CONST-1", "size", Section("const", {"value": b"\0\0"}))
section("CONST-1", "absent", Section("const"))
section("CONST-1", "type", Section("const", {"value": 0}))
for _what, _params in {"zero": {"bits": 0}, "wide": {"bits": 9}, "base": {"base": 256}, "type": {"bits": True}}.items():
    section("BITPACK-1", _what, lambda p=_params: with_params(coded("bitpack"), **p))
section("BITPACK-2", "short", lambda: with_data(coded("bitpack"), lambda d: d[:-1]))
section("BITPACK-2", "long", lambda: with_data(coded("bitpack"), lambda d: d + b"\0"))
section("BITPACK-3", "high_bits", lambda: with_data(coded("bitpack"), lambda d: d.__setitem__(-1, d[-1] | 0x80)))


def _padded() -> Section:
    """Planes of which the top one's six bits end in a byte that is not filled, and not with zeros."""
    its = coded("planes", np.random.default_rng(1).integers(0x3E00, 0x3F80, 301).astype(np.uint16), Spec.of("BF16", 301), rest=6, sign=1)
    top = with_data(its.parts["rest0"], lambda d: d.__setitem__(-1, d[-1] | 0x80))
    return Section(its.codec, its.params, {**its.parts, "rest0": top})


section("BITPACK-3", "in_planes", _padded, Spec.of("BF16", 301), x=bytes(602))
section("ZSTD-1", "other_size", lambda: with_data(coded("zstd"), lambda d: frame(bytes(X[:-1]))))
section("ZSTD-1", "no_size", lambda: with_data(coded("zstd"), lambda d: frame(bytes(X), write_content_size=False)))
section("ZSTD-1", "more", lambda: with_data(coded("zstd"), lambda d: d + b"\0"))
section("ZSTD-1", "two_frames", lambda: with_data(coded("zstd"), lambda d: frame(bytes(X[:9])) + frame(bytes(X[9:]))))
section("ZSTD-1", "broken", lambda: with_data(coded("zstd"), lambda d: d.__setitem__(7, d[7] ^ 6)))
section("ZSTD-1", "not_zstd", lambda: with_data(coded("zstd"), lambda d: bytes(X)))
section("ZSTD-1", "checksum", lambda: with_data(coded("zstd"), lambda d: flip(f := frame(bytes(X), write_checksum=True), len(f) - 1)))
section("ZSTD-1", "window", lambda: with_data(coded("zstd"), lambda d: wide_frame(bytes(X))))
for _what, _params in {"wide": {"rest": 8}, "absent": {"rest": "1"}, "sign": {"sign": 3}, "patches": {"patches": 301}}.items():
    section("PLANES-1", _what, lambda p=_params: with_params(coded("planes"), **p))
section(
    "PLANES-1",
    "narrow",
    lambda: with_params(coded("planes", np.zeros(4, np.uint32), Spec.of("F32", 4)), rest=15),
    Spec.of("F32", 4),
    x=bytes(16),
)
for _what, _at in {"outside": (5, 300), "order": (7, 5), "twice": (5, 5)}.items():
    _parts = {"symbol": raw(), "at": Section("raw", {}, {"data": stream(pack("<2I", *_at))}), "values": raw(b"\1\2")}
    section("PLANES-2", _what, Section("planes", {"rest": 0, "patches": 2}, _parts))
section("PLANES-1", "dtype", lambda: Section("planes", {"rest": 0}, {"symbol": raw()}), Spec.of("F4", 600))
section("CONCAT-1", "sum", lambda: Section("concat", {"lengths": [299]}, {"0": raw(X[:-1])}))
section("CONCAT-1", "none", lambda: Section("concat", {"lengths": []}))
section("CONCAT-1", "absent", lambda: Section("concat", {}, {"0": raw()}))
section("CONCAT-1", "no_dimension", lambda: Section("concat", {"lengths": [1]}, {"0": raw(b"\1")}), Spec.of("U8"), x=b"\1")

# rans: 300 symbols, one block, four lanes, unless said otherwise; the stream is table, 4 states, words

RANS = coded("rans", lanes=2)
TABLE = Tables.fit(np.bincount(X, minlength=256).astype(np.uint64).reshape(1, -1), 12).pack()
_ESCAPED = coded(
    "rans", np.where(np.arange(300) % 50 == 0, 4000, X.astype(np.uint16) + 1000).astype(np.uint16), Spec.of("U16", 300), lanes=2, block=128
)
_CLASSES = coded("rans", X, Spec.of("U8", 30, 10), classes="halves", lanes=2)


def words(what: Callable[[bytearray, int], Any]) -> Callable[[], Section]:
    """Change the stream after its table."""
    return lambda: with_data(RANS, lambda d: what(d, len(TABLE)))


def table(*frequencies: int, precision: int = 12, first: int = 0) -> bytes:
    row = np.zeros((1, 256), np.uint16)
    row[0, first : first + len(frequencies)] = frequencies
    return Tables(precision, row).pack()


for _what, _params in {
    "precision": {"precision": 7}, "lanes": {"lanes": 3}, "block": {"block": 1025}, "both_orders": {"tile": [1, 128]},
    "base": {"base": 2**32},
    "zero": {"zero": 1}, "bits": {"bits": 0}, "escape_alone": {"escape": 3}, "outliers_alone": {"outliers": 0}, "trellis": {"trellis": 9},
    "classes_alone": {"classes": [1, 1]}, "map_alone": {"map": b"\0"}, "table_size": {"table_size": -1},
    "two_contexts": {"trellis": 2, "classes": [1, 1], "map": b"\0"}, "odd_escape": {"trellis": 2, "escape": 1, "outliers": 0},
}.items():  # fmt: skip
    section("RANS-1", _what, with_params(RANS, **_params))
section("RANS-1", "no_order", Section("rans", {k: v for k, v in RANS.params.items() if k != "block"}, RANS.parts))
section("RANS-1", "tile", Section("rans", {k: v for k, v in RANS.params.items() if k != "block"} | {"tile": [4, 24]}, RANS.parts))
section("RANS-1", "dtype", RANS, Spec.of("I8", 300))
for _name in ("rows", "columns"):
    _count = 30 if _name == "rows" else 10
    _parts = {**_CLASSES.parts, _name: Section("const", {"value": b"\2"})}
    section("RANS-2", _name, Section("rans", _CLASSES.params, _parts), Spec.of("U8", 30, 10))
_U16 = (np.where(np.arange(300) % 50 == 0, 4000, X.astype(np.uint16) + 1000)).astype("<u2").tobytes()
for _what, _counts in {"sum": (3, 2, 2), "moved": (2, 3, 1)}.items():
    _parts = {**_ESCAPED.parts, "counts": Section("raw", {}, {"data": stream(pack("<3I", *_counts))})}
    section("RANS-3", _what, Section("rans", _ESCAPED.params, _parts), Spec.of("U16", 300), x=_U16)

section("E-1", "beyond_255", lambda: with_data(RANS, lambda d: d.__setitem__(0, 250)))
section("E-1", "first_absent", lambda: with_data(RANS, lambda d: d.__setitem__(2, d[2] & 0xF0)))
section("E-1", "last_absent", lambda: with_data(RANS, lambda d: table(2048, 2048, 0)[:1] + b"\2" + b"\xcc\0" + bytes(3) + d[len(TABLE) :]))
section("E-1", "length", lambda: with_data(RANS, lambda d: d.__setitem__(2, d[2] | 0x0F)))
section(
    "E-1", "padding", lambda: with_data(RANS, lambda d: table(4094, 1, 1)[:-1] + bytes([table(4094, 1, 1)[-1] | 0x80]) + d[len(TABLE) :])
)
section("E-1", "cut_off", lambda: with_data(RANS, lambda d: b"\0\xff" + b"\1" * 20))
section("E-2", "sum", lambda: with_data(RANS, lambda d: table(2048, 2047) + d[len(TABLE) :]))
section("E-2", "alone", lambda: with_data(RANS, lambda d: table(4095) + d[len(TABLE) :]))
section("E-3", "odd", words(lambda d, at: d + b"\0"))
section("E-3", "short", words(lambda d, at: d[: at + 15]))
section("E-4", "empty", lambda: Section("rans", RANS.params, {"data": stream(TABLE + b"\0\0")}), Spec.of("U8", 0), x=b"")
section("E-4", "more_words_than_symbols", words(lambda d, at: d + bytes(600)))
section(
    "E-4",
    "decreasing",
    lambda: with_data(coded("rans", lanes=2, block=128), lambda d: d.__setitem__(slice(len(TABLE) + 4, len(TABLE) + 8), bytes(4))),
)
section(
    "E-4", "outside", lambda: with_data(coded("rans", lanes=2, block=256), lambda d: d.__setitem__(len(TABLE) + 1, d[len(TABLE) + 1] + 1))
)
section("E-5", "state", words(lambda d, at: d.__setitem__(slice(at + 2, at + 4), bytes(2))))
section("E-6", "one_more", words(lambda d, at: d + b"\0\0"))
section("E-6", "one_fewer", words(lambda d, at: d[:-2]))
section("E-6", "other_state", words(lambda d, at: d.__setitem__(at, d[at] ^ 1)))
section("E-7", "unused", lambda: Section("rans", {**RANS.params, "classes": [1, 1], "map": b"\1"}, {"data": with_data(
    RANS, lambda d: d[: len(TABLE)] + bytes(3) + d[len(TABLE) :]).parts["data"]}))  # fmt: skip
section(
    "E-8",
    "tables",
    Section("rans", {**RANS.params, "classes": [1, 17], "map": bytes(range(17))}, {**RANS.parts, "columns": raw(bytes(300))}),
)
_SHARED = (Spec.of("U8", len(TABLE) + 1), raw(TABLE + b"\0"))
section("E-1", "shared_not_filled", lambda: Section("rans", {**RANS.params, "table_size": len(TABLE) + 1}, {
    "data": with_data(RANS, lambda d: d[len(TABLE) :]).parts["data"], "tables": Ref(0)}), resources=(_SHARED,))  # fmt: skip
