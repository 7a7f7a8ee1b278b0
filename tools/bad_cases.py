"""The reject corpus: for every rule that a file can break, files that break it and nothing else. Written by make_fixtures.py.

Each case is a good file in which one thing was changed below checksums that fit again. BAD: name → error class, rule, how it is made.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from struct import pack
from typing import Any

import blake3
import numpy as np
import zstandard
from damage import MAGIC, Pieces, changed, ordered, packed

from wcodec.backends import get_backend
from wcodec.codecs import CODECS, Env
from wcodec.coding.tables import Tables
from wcodec.container.writer import ContainerWriter
from wcodec.types import MemoryStream, Ref, Section, Spec

BAD: dict[str, tuple[str, str, Callable[[], Any]]] = {}
ENV = Env(get_backend("numpy"), CODECS)
U8S = Spec.of("U8", 300)
X = (np.random.default_rng(0).geometric(0.3, 300) % 20).astype(np.uint8)


def stream(data: Any) -> MemoryStream:
    return MemoryStream(np.frombuffer(bytes(data), np.uint8).copy())


def raw(x: Any = X) -> Section:
    return Section("raw", {}, {"data": stream(x)})


def file_of(section: Section, spec: Spec = U8S, x: Any = X, resources: tuple[tuple[Spec, Section], ...] = (), **options: Any) -> bytes:
    """A file of one tensor "x"."""
    buffer = io.BytesIO()
    with ContainerWriter(buffer, **options) as writer:
        for its, shared in resources:
            writer.add_resource(its, shared)
        writer.add("x", spec, section, blake3.blake3(bytes(x)).digest())
    return buffer.getvalue()


def base(**options: Any) -> bytes:
    """A good file: two tensors with a stream each, a small one, an alias."""
    buffer = io.BytesIO()
    with ContainerWriter(buffer, **options) as writer:
        for name, x in (("x", X), ("y", X[::-1].copy()), ("small", X[:9])):
            writer.add(name, Spec.of("U8", x.size), raw(x), blake3.blake3(x.tobytes()).digest())
        writer.add_alias("z", 0, tied=False)
    return buffer.getvalue()


def bad(rule: str, what: str, make: Callable[[], Any], error: str = "Corrupt") -> None:
    BAD[f"{rule}_{what}"] = (error, rule, make)


def pieces(rule: str, what: str, change: Callable[[Pieces], Any], error: str = "Corrupt") -> None:
    bad(rule, what, lambda: changed(base(), change), error)


def final(rule: str, what: str, error: str = "Corrupt", **keys: Callable[[Pieces], Any]) -> None:
    """Change keys of the finished manifest, given what they would be."""
    pieces(rule, what, lambda p: p.final.update({key: make(p) for key, make in keys.items()}), error)


def record(rule: str, what: str, error: str = "Corrupt", drop: str = "", **keys: Any) -> None:
    def change(p: Pieces) -> None:
        p.record("x").update(keys)
        p.record("x").pop(drop, None)

    pieces(rule, what, change, error)


def section(rule: str, what: str, its: Any, spec: Spec = U8S, error: str = "Corrupt", **options: Any) -> None:
    bad(rule, what, lambda: file_of(its() if callable(its) else its, spec, **options), error)


def coded(codec: str, x: Any = X, spec: Spec = U8S, **options: Any) -> Section:
    return CODECS[codec].encode(x, spec, ENV, **options)


def with_params(its: Section, **params: Any) -> Section:
    return Section(its.codec, {**its.params, **params}, its.parts)


def with_data(its: Section, change: Callable[[bytearray], Any]) -> Section:
    """Change the bytes of the part ``data``; a result that is not None replaces them."""
    with its.parts["data"].read(0, its.parts["data"].size) as view:
        data = bytearray(view.tobytes())
    found = change(data)
    return Section(its.codec, its.params, {**its.parts, "data": stream(data if found is None else found)})


def flip(data: bytes, at: int, bits: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


# container: prologue and trailer

bad("C-1", "magic", lambda: flip(base(), 0), "NotAContainer")
bad("C-1", "safetensors", lambda: pack("<Q", 2) + b"{}", "NotAContainer")
bad("C-2", "major", lambda: base()[:8] + pack("<I", 2) + base()[12:], "UnsupportedVersion")
bad("C-3", "reserved", lambda: flip(base(), 12))
bad("C-4", "cut", lambda: base()[:-1], "Truncated")
bad("C-4", "no_end", lambda: flip(base(), -1 % len(base())), "Truncated")
bad("C-4", "tiny", lambda: base()[:16] + base()[-40:], "Truncated")
bad("C-5", "longer", lambda: (b := base())[:-40] + bytes(8) + b[-40:])
pieces("C-5", "unaligned", lambda p: p.trailer.update(offset=len(p.pack()) - 40 - 60, length=60))
pieces("C-5", "early", lambda p: p.trailer.update(offset=0, length=len(p.pack()) - 40))
bad("C-6", "checksum", lambda: flip(base(), len(base()) - 16))
bad("C-6", "manifest", lambda: flip(base(), len(base()) - 60))
pieces("C-7", "major", lambda p: p.trailer.update(major=2), "UnsupportedVersion")
pieces("C-7", "flags", lambda p: p.trailer.update(flags=2))

# container: manifest


def stored(rule: str, what: str, make: Callable[[bytes, dict[str, Any]], bytes], flags: int = 0) -> None:
    """Store other bytes as the manifest, given its canonical ones and its map."""

    def change(p: Pieces) -> None:
        p.trailer["flags"] = flags
        p.stored = make(packed(p.manifest()), ordered(p.manifest()))

    pieces(rule, what, change)


def frame(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(level=3, **options).compress(data)


def wide_frame(data: bytes) -> bytes:
    """A frame of a window of 16 MiB that is not a single segment."""
    blocks = b"".join(pack("<I", len(data) << 3 | 1)[:3] + data for _ in (0,))
    return bytes.fromhex("28b52ffd") + bytes([0xA0 - 0x20, 14 << 3]) + pack("<I", len(data)) + blocks


SHUFFLED = lambda m: msgpack_pairs(list(m.items())[::-1])  # noqa: E731


def msgpack_pairs(items: list[tuple[str, Any]]) -> bytes:
    return bytes([0x80 | len(items)]) + b"".join(packed({key: value})[1:] for key, value in items)


stored("C-8", "order", lambda data, m: SHUFFLED(m))
stored("C-8", "twice", lambda data, m: msgpack_pairs([*list(m.items())[:1], *m.items()]))
stored("C-8", "long_form", lambda data, m: b"\xde" + pack(">H", len(m)) + data[1:])
stored("C-8", "more", lambda data, m: data + b"\xc0")
stored("C-8", "cut", lambda data, m: data[:-1])
stored("C-8", "nil", lambda data, m: packed(m | {"later": None}))
stored("C-8", "float", lambda data, m: packed(m | {"later": 1.5}))
stored("C-8", "extension", lambda data, m: bytes([data[0] + 1]) + data[1:] + packed({"zz": 0})[1:-1] + b"\xd4\x01\x00")
stored("C-8", "not_utf8", lambda data, m: bytes([data[0] + 1]) + data[1:] + packed({"zz": 0})[1:-1] + b"\xa2\xc3\x28")
stored("C-8", "key_is_a_number", lambda data, m: bytes([data[0] + 1, 0x05, 0x05]) + data[1:])
stored("C-8", "deep", lambda data, m: packed(m | {"later": json.loads("[" * 32 + "]" * 32)}))
stored("C-9", "bomb", lambda data, m: frame(bytes(100_000_001)), 1)
stored("C-9", "no_size", lambda data, m: frame(data, write_content_size=False), 1)
stored("C-9", "two_frames", lambda data, m: frame(data) + frame(b""), 1)
stored("C-9", "cut", lambda data, m: frame(data)[:-1], 1)
stored("C-9", "not_zstd", lambda data, m: data, 1)
stored("C-9", "window", lambda data, m: wide_frame(data), 1)
stored("C-10", "no_map", lambda data, m: packed([m]))
for _key in ("checksums", "extents", "tensors"):
    final("C-10", f"no_{_key}", **{_key: lambda p: None})
for _key, _value in {"checksums": [], "encoder": [], "extents": "", "metadata": {"a": 1}, "requires": "x", "resources": [1], "voids": 1}.items():
    final("C-10", f"type_{_key}", **{_key: lambda p, value=_value: value})
final("C-10", "type_tensors", tensors=lambda p: [["x"]])
final("C-10", "required", "UnsupportedVersion", requires=lambda p: ["later"], later=lambda p: 1)
final("C-10", "required_encoder", "UnsupportedVersion", encoder=lambda p: {"requires": ["later"]})
record("C-10", "required_record", "UnsupportedVersion", requires=["later"])
pieces("C-10", "required_section", lambda p: p.record("small")["section"].update(requires=["later"]), "UnsupportedVersion")
pieces("C-10", "required_params", lambda p: p.record("small")["section"].update(params={"requires": ["later"]}), "UnsupportedVersion")
final("C-11", "order", extents=lambda p: p.manifest()["extents"][16:] + p.manifest()["extents"][:16])
final("C-11", "empty", extents=lambda p: p.manifest()["extents"] + pack("<QQ", 2**32, 0))
final("C-11", "half_a_pair", extents=lambda p: p.manifest()["extents"][:-8])
final("C-12", "overlap", extents=lambda p: pack("<QQQQ", 64, 300, 128, 300))
final("C-12", "gap", extents=lambda p: pack("<QQQQ", 64, 30, 448, 300))
final("C-12", "late", extents=lambda p: pack("<QQQQ", 128, 236, 448, 300))
final("C-12", "outside", extents=lambda p: pack("<QQQQ", 64, 300, 448, 2**63))
final("C-12", "unaligned", extents=lambda p: pack("<QQQQ", 65, 299, 448, 300))
final("C-12", "void_on_stream", voids=lambda p: pack("<QQ", 64, 10))
final("C-13", "one_missing", checksums=lambda p: p.manifest()["checksums"][:-8])
final("C-13", "one_more", checksums=lambda p: p.manifest()["checksums"] + bytes(8))
bad("C-13", "stream", lambda: flip(base(), 70))
pieces("C-14", "padding", lambda p: setattr(p, "padding", b"\1"))
bad("C-14", "prologue", lambda: flip(base(), 20))
for _what, _name in {"empty": "", "control": "a\x1fb", "delete": "a\x7f", "reserved": "__metadata__", "long": "a" * 1025, "twice": "y"}.items():
    pieces("C-15", _what, lambda p, name=_name: p.tensors[0].__setitem__(0, name))

# container: records and sections

record("C-16", "both", alias=1)
record("C-16", "neither", drop="section")
record("C-16", "digest_size", digest=bytes(31))
record("C-16", "no_digest", drop="digest")
record("C-16", "source_size", source=bytes(31))
record("C-16", "tolerant", tolerant=False)
record("C-16", "shape_negative", shape=[-1])
record("C-16", "shape_type", shape="300")
record("C-16", "tied", tied=True)
record("C-16", "section_type", section=[])
pieces("C-16", "not_canonical", lambda p: p.tensors[0].__setitem__(1, packed(p.record("x")) + b"\0"))
pieces("C-16", "not_a_map", lambda p: p.tensors[0].__setitem__(1, b"\x01"))
pieces("C-16", "alias_type", lambda p: p.record("z").update(alias="x"))
pieces("C-16", "resource", lambda p: p.resources.append({"dtype": "U8", "shape": [1]}))
pieces("C-17", "alias_of_alias", lambda p: p.tensors.append(["w", {"alias": 3, "tied": True}]))
pieces("C-17", "itself", lambda p: p.record("z").update(alias=3))
pieces("C-17", "nobody", lambda p: p.record("z").update(alias=4))
record("C-18", "large", shape=[2**32, 2**31])
record("C-18", "large_and_empty", shape=[0, 2**32, 2**31])
record("C-18", "rank", shape=[1] * 65)
record("C-26", "dtype", dtype="F128")
record("C-26", "sub_byte", dtype="F4", shape=[3])


def part(rule: str, what: str, value: Any, resources: tuple[Any, ...] = (), codec: str = "raw", **options: Any) -> None:
    """Put a wire value in the place of the small tensor's only part."""

    def change(p: Pieces) -> None:
        p.resources = list(resources)
        p.record("small")["section"] = {"codec": codec, "parts": {"data" if codec == "raw" else "0": value}, **options}

    pieces(rule, what, change)


ONE = {"codec": "const", "params": {"value": b"\1"}}
CAT = {"codec": "concat", "params": {"lengths": [9]}}


def shared(*shape: int, section: Any = ONE) -> dict[str, Any]:
    return {"dtype": "U8", "shape": list(shape), "section": section}


def nested(levels: int) -> dict[str, Any]:
    return ONE if levels == 1 else CAT | {"parts": {"0": nested(levels - 1)}}


part("C-19", "kind", [1])
part("C-19", "string", "x")
part("C-19", "bool", True)
part("C-19", "long", bytes(257))
part("C-19", "no_stream", 2)
part("C-19", "negative", -1)
part("C-19", "no_resource", {"ref": 1}, (shared(9),), "concat", params={"lengths": [9]})
part("C-19", "section_and_reference", {"ref": 0, **ONE}, (shared(9),), "concat", params={"lengths": [9]})
part("C-20", "stream_for_section", bytes(9), (), "concat", params={"lengths": [9]})
part("C-20", "section_for_stream", ONE)
part("C-20", "params_type", bytes(9), params=[])
pieces("C-20", "more_parts", lambda p: p.record("small")["section"]["parts"].update(other=b""))
pieces("C-20", "fewer_parts", lambda p: p.record("small")["section"].pop("parts"))
record("C-21", "deep", section=nested(9))
part("C-21", "deep_resource", nested(8), (), "concat", params={"lengths": [9]})
part("C-21", "later_resource", {"ref": 0}, (shared(9, section=CAT | {"parts": {"0": {"ref": 1}}}), shared(9)), "concat", params={"lengths": [9]})
part("C-21", "own_resource", {"ref": 0}, (shared(9, section=CAT | {"parts": {"0": {"ref": 0}}}),), "concat", params={"lengths": [9]})
pieces("C-22", "parts", lambda p: p.record("small")["section"]["parts"].update({str(i): b"" for i in range(256)}))
part("C-23", "shape", {"ref": 0}, (shared(8),), "concat", params={"lengths": [9]})
part("C-23", "dtype", {"ref": 0}, (shared(9) | {"dtype": "I8"},), "concat", params={"lengths": [9]})
pieces("C-24", "unknown", lambda p: p.record("small")["section"].update(codec="later"), "UnknownCodec")
pieces("C-25", "twice", lambda p: p.record("y")["section"]["parts"].update(data=0))
pieces("C-25", "never", lambda p: p.streams.append(bytes(300)))


def header(change: Callable[[dict[str, Any]], Any]) -> bytes:
    entries: dict[str, Any] = {"x": {"dtype": "U8", "shape": [300], "data_offsets": [0, 300]}}
    text = json.dumps(change(entries) or entries).encode()
    return len(text).to_bytes(8, "little") + text


for _what, _change in {
    "name": lambda e: {"w": e["x"]}, "dtype": lambda e: e["x"].update(dtype="I8"), "shape": lambda e: e["x"].update(shape=[3, 100]),
    "metadata": lambda e: e.update(__metadata__={"a": "b"}), "more": lambda e: e.update(w=e["x"] | {"shape": [0], "data_offsets": [300, 300]}),
    "not_an_object": lambda e: [e],
}.items():  # fmt: skip
    bad("C-27", _what, lambda change=_change: file_of(raw(), source_header=header(change)))
bad("C-27", "length", lambda: file_of(raw(), source_header=header(lambda e: None)[:-1]))


def index(weight_map: dict[str, str] | None = None, **shards: str) -> dict[str, bytes]:
    """A folder of one shard and an index."""
    data, at = base(), 16
    found = blake3.blake3(data[int.from_bytes(data[-40:-32], "little") : -40]).hexdigest()
    names = dict.fromkeys(("x", "y", "small", "z"), "case.wcodec") if weight_map is None else weight_map
    fields = {"metadata": {}, "shards": {"case.wcodec": found, **shards}, "weight_map": names}
    assert at < len(data)
    return {"case.wcodec": data, "case.wcodec.index.json": (json.dumps(fields, indent=1) + "\n").encode()}


bad("C-28", "path", lambda: index(**{"../case.wcodec": "00"}))
bad("C-28", "not_in_shards", lambda: index({"x": "other.wcodec"}))
bad("C-28", "not_json", lambda: index() | {"case.wcodec.index.json": b"{"})
bad("C-29", "digest", lambda: index() | {"case.wcodec": base(metadata={})})
bad("C-29", "names", lambda: index({"x": "case.wcodec"}))
record("C-30", "digest", digest=bytes(32))

# codecs

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
section("PLANES-1", "narrow", lambda: with_params(coded("planes", np.zeros(4, np.uint32), Spec.of("F32", 4)), rest=15), Spec.of("F32", 4), x=bytes(16))
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
_ESCAPED = coded("rans", np.where(np.arange(300) % 50 == 0, 4000, X.astype(np.uint16) + 1000).astype(np.uint16), Spec.of("U16", 300), lanes=2, block=128)
_CLASSES = coded("rans", X, Spec.of("U8", 30, 10), classes="halves", lanes=2)


def words(what: Callable[[bytearray, int], Any]) -> Callable[[], Section]:
    """Change the stream after its table."""
    return lambda: with_data(RANS, lambda d: what(d, len(TABLE)))


def table(*frequencies: int, precision: int = 12, first: int = 0) -> bytes:
    row = np.zeros((1, 256), np.uint16)
    row[0, first : first + len(frequencies)] = frequencies
    return Tables(precision, row).pack()


for _what, _params in {
    "precision": {"precision": 7}, "lanes": {"lanes": 3}, "block": {"block": 1025}, "both_orders": {"tile": [1, 128]}, "base": {"base": 2**32},
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
section("E-1", "padding", lambda: with_data(RANS, lambda d: table(4094, 1, 1)[:-1] + bytes([table(4094, 1, 1)[-1] | 0x80]) + d[len(TABLE) :]))
section("E-1", "cut_off", lambda: with_data(RANS, lambda d: b"\0\xff" + b"\1" * 20))
section("E-2", "sum", lambda: with_data(RANS, lambda d: table(2048, 2047) + d[len(TABLE) :]))
section("E-2", "alone", lambda: with_data(RANS, lambda d: table(4095) + d[len(TABLE) :]))
section("E-3", "odd", words(lambda d, at: d + b"\0"))
section("E-3", "short", words(lambda d, at: d[: at + 15]))
section("E-4", "empty", lambda: Section("rans", RANS.params, {"data": stream(TABLE + b"\0\0")}), Spec.of("U8", 0), x=b"")
section("E-4", "more_words_than_symbols", words(lambda d, at: d + bytes(600)))
section("E-4", "decreasing", lambda: with_data(coded("rans", lanes=2, block=128), lambda d: d.__setitem__(slice(len(TABLE) + 4, len(TABLE) + 8), bytes(4))))
section("E-4", "outside", lambda: with_data(coded("rans", lanes=2, block=256), lambda d: d.__setitem__(len(TABLE) + 1, d[len(TABLE) + 1] + 1)))
section("E-5", "state", words(lambda d, at: d.__setitem__(slice(at + 2, at + 4), bytes(2))))
section("E-6", "one_more", words(lambda d, at: d + b"\0\0"))
section("E-6", "one_fewer", words(lambda d, at: d[:-2]))
section("E-6", "other_state", words(lambda d, at: d.__setitem__(at, d[at] ^ 1)))
section("E-7", "unused", lambda: Section("rans", {**RANS.params, "classes": [1, 1], "map": b"\1"}, {"data": with_data(
    RANS, lambda d: d[: len(TABLE)] + bytes(3) + d[len(TABLE) :]).parts["data"]}))  # fmt: skip
section("E-8", "tables", Section("rans", {**RANS.params, "classes": [1, 17], "map": bytes(range(17))}, {**RANS.parts, "columns": raw(bytes(300))}))
_SHARED = (Spec.of("U8", len(TABLE) + 1), raw(TABLE + b"\0"))
section("E-1", "shared_not_filled", lambda: Section("rans", {**RANS.params, "table_size": len(TABLE) + 1}, {
    "data": with_data(RANS, lambda d: d[len(TABLE) :]).parts["data"], "tables": Ref(0)}), resources=(_SHARED,))  # fmt: skip
assert MAGIC and len(BAD) > 100
