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
from damage import Pieces, changed, ordered, packed

from wcodec.backends import get_backend
from wcodec.codecs import CODECS, Env
from wcodec.container.writer import ContainerWriter
from wcodec.types import MemoryStream, Section, Spec

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
        writer.add("x", spec, section, blake3.blake3(bytes(x)).digest(), tolerant=_tolerant(section))
    return buffer.getvalue()


def _tolerant(section: Section) -> bool:
    """Whether a codec of the section is tolerant, unknown ones left out."""
    children = (part for part in section.parts.values() if isinstance(part, Section))
    return (section.codec in CODECS and not CODECS[section.codec].exact) or any(map(_tolerant, children))


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
for _key, _value in {
    "checksums": [],
    "encoder": [],
    "extents": "",
    "metadata": {"a": 1},
    "requires": "x",
    "resources": [1],
    "voids": 1,
}.items():
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
for _what, _name in {
    "empty": "",
    "control": "a\x1fb",
    "delete": "a\x7f",
    "reserved": "__metadata__",
    "long": "a" * 1025,
    "twice": "y",
}.items():
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
part(
    "C-21",
    "later_resource",
    {"ref": 0},
    (shared(9, section=CAT | {"parts": {"0": {"ref": 1}}}), shared(9)),
    "concat",
    params={"lengths": [9]},
)
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
    "metadata": lambda e: e.update(__metadata__={"a": "b"}),
    "more": lambda e: e.update(w=e["x"] | {"shape": [0], "data_offsets": [300, 300]}),
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
