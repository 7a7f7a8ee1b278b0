"""The second decoder of the wcodec format, written from the pages under `spec/` alone.

It shares no code with the package, is laid out in the order of the pages, and prefers plainness to speed. A file on which this
decoder and the package disagree shows a page that is unclear.

    python tools/refdecode.py FILE.wcodec [-o OUT.safetensors]

The exit code is 0 for a good file and 1 for a refused one, which prints `RULE: message`. Three refusals are no rule of the
pages: DIGEST (decoded bytes differ from the record's digest), LIMIT (the bound of container.md section 5) and
MISSING (a file that is not there).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import blake3
import msgpack
import numpy as np
import xxhash
import zstandard


class Refused(Exception):
    """A file, or one tensor of it, breaks a rule of the pages."""

    def __init__(self, rule: str, message: str):
        super().__init__(f"{rule}: {message}")
        self.rule = rule


def must(condition: bool, rule: str, message: str) -> None:
    if not condition:
        raise Refused(rule, message)


def is_uint(value: object, low: int = 0, high: int = 2**64 - 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


# ---------------------------------------------------------------------------------------------------------- container.md

MAGIC = bytes.fromhex("d7574344430d0a1a")
ALIGN = 64
CHUNK = 2**20
MAX_MANIFEST = 100_000_000
MAX_WINDOW = 2**23
MAX_VALUES = 2**23

# -- 1. Prologue


def read_prologue(data: bytes) -> None:
    must(data[:8] == MAGIC, "C-1", "the file does not begin with the magic")
    must(len(data) >= 16, "C-4", "the file ends within its prologue")
    must(int.from_bytes(data[8:12], "little") == 1, "C-2", "unsupported major version")
    must(data[12:16] == bytes(4), "C-3", "the reserved field is not 0")


# -- 2. Trailer


def read_trailer(data: bytes) -> tuple[bytes, int, int]:
    """The stored manifest, its offset, and the trailer's flags."""
    must(len(data) >= 96 and data[-8:] == MAGIC, "C-4", "the file is truncated")
    trailer = data[-40:]
    offset = int.from_bytes(trailer[0:8], "little")
    length = int.from_bytes(trailer[8:16], "little")
    must(offset % ALIGN == 0 and offset >= ALIGN, "C-5", f"the manifest begins at {offset}")
    must(offset + length + 40 == len(data), "C-5", "the manifest does not end at the trailer")
    stored = data[offset : offset + length]
    checksum = xxhash.xxh3_64_intdigest(stored + trailer[:24], seed=0)
    must(checksum == int.from_bytes(trailer[24:32], "little"), "C-6", "the manifest's checksum differs")
    must(int.from_bytes(trailer[16:18], "little") == 1, "C-7", "unsupported required major version")
    flags = int.from_bytes(trailer[20:24], "little")
    must(flags <= 1, "C-7", "unknown flags")
    return stored, offset, flags


# -- 3. Manifest


def canonical(data: bytes, rule: str = "C-8") -> object:
    """The one value of canonical MessagePack: it must be what packing it again gives, with sorted keys."""
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True)
        must(check_value(value, rule, 1) <= MAX_VALUES, "LIMIT", "too many values")
        again = msgpack.packb(value, use_bin_type=True)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise Refused(rule, f"no MessagePack value: {error}") from error
    must(again == data, rule, "MessagePack that is not canonical")
    return value


def check_value(value: object, rule: str, level: int) -> int:
    """The number of values that `value` consists of."""
    if not isinstance(value, (dict, list)):
        must(isinstance(value, (bool, int, str, bytes)), rule, f"a value of the kind {type(value).__name__}")
        return 1
    must(level <= 32, rule, "more than 32 levels of arrays and maps")
    if isinstance(value, dict):
        keys = list(value)
        must(all(isinstance(key, str) for key in keys), rule, "a map key is not a string")
        must(keys == sorted(keys, key=lambda key: key.encode()), rule, "map keys are not in order")
    items = value.values() if isinstance(value, dict) else value
    return 1 + sum(check_value(item, rule, level + 1) for item in items)


def zstd_frame(data: bytes, size: int | None, limit: int, rule: str = "C-9") -> bytes:
    """The content of the single zstd frame `data`: `size` bytes where that is known, at most `limit` in any case."""
    must(data[:4] == bytes.fromhex("28b52ffd"), rule, "no zstd frame")
    try:
        frame = zstandard.get_frame_parameters(data)
        must(frame.content_size != zstandard.CONTENTSIZE_UNKNOWN, rule, "a frame that does not state its content size")
        must(frame.dict_id == 0, rule, "a frame with a dictionary")
        must(frame.window_size <= MAX_WINDOW, rule, f"a frame with a window of {frame.window_size} bytes")
        must(size in (None, frame.content_size), rule, f"a frame of {frame.content_size} bytes where {size} are expected")
        must(frame.content_size <= limit, rule, f"a frame of {frame.content_size} bytes")
        if frame.content_size:
            return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        empty = zstandard.ZstdDecompressor().decompressobj()
        must(empty.decompress(data) == b"" and empty.eof and not empty.unused_data, rule, "not one empty frame")
        return b""
    except zstandard.ZstdError as error:
        raise Refused(rule, f"a damaged zstd frame: {error}") from error


def check_requires(mapping: dict, known: set[str]) -> None:
    needed = mapping.get("requires", [])
    must(isinstance(needed, list) and all(isinstance(key, str) for key in needed), "C-10", "`requires` is no array of strings")
    for key in needed:
        must(key in known or key == "requires", "C-10", f"unsupported version: unknown required key {key!r}")


MANIFEST_KEYS = {
    "checksums": bytes,
    "encoder": dict,
    "extents": bytes,
    "metadata": dict,
    "requires": list,
    "resources": list,
    "source_header": bytes,
    "tensors": list,
    "voids": bytes,
}


def read_manifest(stored: bytes, flags: int) -> dict:
    must(len(stored) <= MAX_MANIFEST, "C-9", "the manifest is too long")
    manifest = canonical(zstd_frame(stored, None, MAX_MANIFEST) if flags & 1 else stored)
    must(isinstance(manifest, dict), "C-10", "the manifest is not a map")
    check_requires(manifest, set(MANIFEST_KEYS))
    for key in ("checksums", "extents", "tensors"):
        must(key in manifest, "C-10", f"the manifest lacks {key!r}")
    for key, kind in MANIFEST_KEYS.items():
        must(isinstance(manifest.get(key, kind()), kind), "C-10", f"{key!r} has another type")
    encoder = manifest.get("encoder", {})
    check_requires(encoder, {"version", "recipe"})
    must(all(isinstance(encoder.get(key, ""), str) for key in ("version", "recipe")), "C-10", "`encoder` has other types")
    must(all(isinstance(value, str) for value in manifest.get("metadata", {}).values()), "C-10", "`metadata` has other types")
    must(all(isinstance(item, bytes) for item in manifest.get("resources", [])), "C-10", "`resources` has other types")
    for entry in manifest["tensors"]:
        good = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], bytes)
        must(good, "C-10", "an entry of `tensors` is not [name, record]")
    names = [name for name, _ in manifest["tensors"]]
    for name in names:
        must(1 <= len(name.encode()) <= 1024 and name != "__metadata__", "C-15", f"the name {name[:80]!r}")
        must(not re.search("[\x00-\x1f\x7f]", name), "C-15", f"the name {name!r} has a control character")
    must(len(set(names)) == len(names), "C-15", "two tensors have one name")
    return manifest


def read_regions(manifest: dict, key: str, least: int) -> list[tuple[int, int]]:
    data = manifest.get(key, b"")
    must(len(data) % 16 == 0, "C-11", f"{key!r} is not a list of pairs")
    numbers = np.frombuffer(data, "<u8").tolist()
    regions = list(zip(numbers[0::2], numbers[1::2], strict=True))
    must(regions == sorted(regions), "C-11", f"{key!r} is not in order")
    must(all(length >= least for _, length in regions), "C-11", f"{key!r} has an empty region")
    return regions


def check_tiling(data: bytes, extents: list, voids: list, manifest_offset: int) -> None:
    end = 16  # prologue
    for offset, length in [*sorted([*extents, *voids]), (manifest_offset, 0)]:
        begin = ceil_div(end, ALIGN) * ALIGN
        must(offset == begin, "C-12", f"a region begins at {offset} where {begin} is expected")
        must(not any(data[end:begin]), "C-14", f"padding at {end} is not zero")
        end = offset + length
        must(end <= manifest_offset, "C-12", "a region reaches into the manifest")


# -- 4. Tensor records


@dataclass
class Record:
    dtype: str = ""
    shape: tuple[int, ...] = ()
    section: dict = field(default_factory=dict)
    digest: bytes = b""
    source: bytes | None = None
    alias: int | None = None
    tied: bool = False


def read_record(data: bytes, name: str) -> Record:
    record = canonical(data, "C-16")
    must(isinstance(record, dict), "C-16", f"{name!r}: the record is not a map")
    check_requires(record, {"dtype", "shape", "section", "digest", "source", "tolerant", "alias", "tied"})
    must(("section" in record) != ("alias" in record), "C-16", f"{name!r}: not exactly one of section and alias")
    if "alias" in record:
        must(not record.keys() & {"dtype", "shape", "digest", "source", "tolerant"}, "C-16", f"{name!r}: an alias with a tensor's keys")
        must(is_uint(record["alias"]) and isinstance(record.get("tied"), bool), "C-16", f"{name!r}: keys of another type")
        return Record(alias=record["alias"], tied=record["tied"])
    must("tied" not in record, "C-16", f"{name!r}: `tied` without `alias`")
    dtype, shape, digest = record.get("dtype"), record.get("shape"), record.get("digest")
    must(isinstance(dtype, str) and isinstance(record["section"], dict), "C-16", f"{name!r}: keys of another type")
    must(isinstance(shape, list) and all(is_uint(n) for n in shape), "C-16", f"{name!r}: keys of another type")
    must(isinstance(digest, bytes) and len(digest) == 32, "C-16", f"{name!r}: the digest has not 32 bytes")
    source = record.get("source")
    must("source" not in record or (isinstance(source, bytes) and len(source) in (0, 32)), "C-16", f"{name!r}: `source`")
    must(record.get("tolerant", True) is True, "C-16", f"{name!r}: `tolerant` is not true")
    check_shape(dtype, shape)
    return Record(dtype, tuple(shape), record["section"], digest, source)


def check_shape(dtype: str, shape: list[int]) -> None:
    must(dtype in BITS, "C-26", f"the dtype {dtype!r}")
    must(len(shape) <= 64, "C-18", f"{len(shape)} dimensions")
    must(prod(n for n in shape if n) * BITS[dtype] < 2**63 * 8, "C-18", "the shape is too large")
    must(prod(shape) * BITS[dtype] % 8 == 0, "C-26", "the tensor is not a whole number of bytes")


# -- 5. Sections


def read_resource(data: bytes, index: int) -> Record:
    resource = canonical(data, "C-16")
    must(isinstance(resource, dict), "C-16", f"resource {index} is not a map")
    check_requires(resource, {"dtype", "shape", "section"})
    dtype, shape, section = (resource.get(key) for key in ("dtype", "shape", "section"))
    good = isinstance(dtype, str) and isinstance(section, dict) and isinstance(shape, list) and all(is_uint(n) for n in shape)
    must(good, "C-16", f"resource {index}: keys of another type")
    check_shape(dtype, shape)
    return Record(dtype, tuple(shape), section)


def part_kind(part: object) -> str:
    if is_uint(part):
        return "extent"
    if isinstance(part, bytes):
        must(len(part) <= 256, "C-19", f"an inline stream of {len(part)} bytes")
        return "inline"
    if isinstance(part, dict) and ("codec" in part) != ("ref" in part):
        must("ref" not in part or is_uint(part["ref"]), "C-19", "a reference that is no index")
        return "section" if "codec" in part else "reference"
    raise Refused("C-19", "a part of none of the four kinds")


class Node:
    """One section of a tree, with the dtype and shape that its parent derived."""

    def __init__(self, container: Container, section: dict, dtype: str, shape: tuple[int, ...], depth: int, resources: int):
        must(depth <= 8, "C-21", "sections nest too deep")
        check_requires(section, {"codec", "params", "parts"})
        codec = section.get("codec")
        must(isinstance(codec, str), "C-20", "a section without a codec")
        must(codec in CODECS, "C-24", f"unknown codec {codec!r}")
        self.params, self.parts = section.get("params", {}), section.get("parts", {})
        must(isinstance(self.params, dict) and isinstance(self.parts, dict), "C-20", f"{codec}: params or parts of another type")
        must(len(self.parts) <= (65536 if codec == "concat" else 256), "C-22", f"{len(self.parts)} parts")
        check_shape(dtype, list(shape))
        self.container, self.codec, self.dtype, self.shape = container, codec, dtype, shape
        self.depth, self.resources = depth, resources
        self.storage_bits = storage_bits(dtype)
        self.count = prod(shape) * BITS[dtype] // self.storage_bits  # storage elements
        self.size = self.count * self.storage_bits // 8  # bytes

    def decode(self) -> np.ndarray:
        """The storage elements, as one flat array."""
        self.container.spend(self.size)
        array = CODECS[self.codec](self)
        assert array.dtype == self.numpy_dtype and array.shape == (self.count,)
        return array

    @property
    def numpy_dtype(self) -> np.dtype:
        return np.dtype(f"<u{self.storage_bits // 8}")

    def knows(self, *names: str) -> None:
        """The params that the codec's page names; others are ignored, unless required."""
        check_requires(self.params, set(names))

    def uint(self, name: str, low: int, high: int, default: int | None, rule: str) -> int:
        must(name in self.params or default is not None, "C-20", f"{self.codec}: the param {name!r} is absent")
        if name not in self.params:
            return default
        must(is_uint(self.params[name]), "C-20", f"{self.codec}: the param {name!r} has another type")
        must(low <= self.params[name] <= high, rule, f"{self.codec}: the param {name!r} is {self.params[name]}")
        return self.params[name]

    def flag(self, name: str) -> bool:
        value = self.params.get(name, False)
        must(isinstance(value, bool), "C-20", f"{self.codec}: the param {name!r} has another type")
        return value

    def has_parts(self, *names: str) -> None:
        must(set(self.parts) == set(names), "C-20", f"{self.codec}: parts {sorted(self.parts)} where {sorted(names)} are expected")

    def stream(self, name: str) -> bytes:
        part = self.parts[name]
        kind = part_kind(part)
        must(kind in ("extent", "inline"), "C-20", f"{self.codec}: the part {name!r} is not a stream")
        return part if kind == "inline" else self.container.extent(part)

    def array(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        part = self.parts[name]
        kind = part_kind(part)
        must(kind in ("section", "reference"), "C-20", f"{self.codec}: the part {name!r} is not an array")
        if kind == "section":
            return Node(self.container, part, dtype, shape, self.depth + 1, self.resources).decode()
        check_requires(part, {"ref"})
        must(part["ref"] < len(self.container.resources), "C-19", f"no resource {part['ref']}")
        must(part["ref"] < self.resources, "C-21", "a resource refers to itself or a later one")
        resource = read_resource(self.container.resources[part["ref"]], part["ref"])
        must((resource.dtype, resource.shape) == (dtype, shape), "C-23", f"resource {part['ref']} has another dtype or shape")
        return Node(self.container, resource.section, dtype, shape, self.depth + 1, part["ref"]).decode()


class Container:
    """A file whose prologue, trailer, manifest and layout are good."""

    def __init__(self, data: bytes):
        read_prologue(data)
        stored, offset, flags = read_trailer(data)
        self.data, self.stored_manifest = data, stored
        self.manifest = read_manifest(stored, flags)
        self.extents = read_regions(self.manifest, "extents", 1)
        check_tiling(data, self.extents, read_regions(self.manifest, "voids", 0), offset)
        counts = [ceil_div(length, CHUNK) for _, length in self.extents]
        must(len(self.manifest["checksums"]) == 8 * sum(counts), "C-13", "another number of checksums")
        checksums = np.frombuffer(self.manifest["checksums"], "<u8").tolist()
        self.checksums = [checksums[end - n : end] for n, end in zip(counts, np.cumsum(counts).tolist(), strict=True)]
        self.resources = self.manifest.get("resources", [])
        self.names = [name for name, _ in self.manifest["tensors"]]
        self.records = [read_record(record, name) for name, record in self.manifest["tensors"]]
        for record in self.records:
            if record.alias is not None:
                must(record.alias < len(self.records), "C-17", "an alias of no entry")
                must(self.records[record.alias].alias is None, "C-17", "an alias of an alias")
        self.budget = 64 * len(data) + 2**30
        self.decoded: dict[int, bytes] = {}

    def target(self, index: int) -> int:
        alias = self.records[index].alias
        return index if alias is None else alias

    def spend(self, size: int) -> None:
        self.budget -= size
        must(self.budget >= 0, "LIMIT", "the decoded bytes exceed 64 times the file plus 1 GiB")

    def extent(self, index: int) -> bytes:
        must(index < len(self.extents), "C-19", f"no extent {index}")
        offset, length = self.extents[index]
        stream = self.data[offset : offset + length]
        for number, expected in enumerate(self.checksums[index]):
            chunk = stream[number * CHUNK : (number + 1) * CHUNK]
            must(xxhash.xxh3_64_intdigest(chunk, seed=0) == expected, "C-13", f"chunk {number} of extent {index} is corrupt")
        return stream

    def tensor(self, index: int) -> bytes:
        """The decoded bytes of an entry, checked against its digest."""
        index = self.target(index)
        record = self.records[index]
        if index in self.decoded:
            self.spend(len(self.decoded[index]))
            return self.decoded[index]
        data = Node(self, record.section, record.dtype, record.shape, 1, len(self.resources)).decode().tobytes()
        must(blake3.blake3(data).digest() == record.digest, "DIGEST", f"{self.names[index]!r}: decoded bytes of another digest")
        self.decoded[index] = data
        return data

    def check_extents_named_once(self) -> None:
        named: list[int] = []

        def walk(section: dict, depth: int) -> None:
            must(depth <= 8, "C-21", "sections nest too deep")
            parts = section.get("parts", {})
            must(isinstance(parts, dict), "C-20", "parts of another type")
            for part in parts.values():
                kind = part_kind(part)
                if kind == "extent":
                    named.append(part)
                elif kind == "section":
                    walk(part, depth + 1)

        trees = [read_resource(data, index).section for index, data in enumerate(self.resources)]
        for section in [*trees, *(record.section for record in self.records if record.alias is None)]:
            walk(section, 1)
        must(all(index < len(self.extents) for index in named), "C-19", "a part names no extent")
        must(sorted(named) == list(range(len(self.extents))), "C-25", "an extent is not named exactly once")


# -- 6. dtypes

NAMES = {
    64: "F64 I64 U64 C64",
    32: "F32 I32 U32",
    16: "F16 BF16 I16 U16",
    8: "I8 U8 BOOL F8_E4M3 F8_E5M2 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
    6: "F6_E2M3 F6_E3M2",
    4: "F4",
}
BITS = {name: bits for bits, names in NAMES.items() for name in names.split()}


def storage_bits(dtype: str) -> int:
    return 32 if dtype == "C64" else max(BITS[dtype], 8)


def storage_shape(dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """planes.md: the tensor's shape, with one more dimension of 2 for C64."""
    return (*shape, 2) if dtype == "C64" else shape


# -- 7. What rebuilds the source


def json_string(text: str) -> str:
    short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
    return '"' + "".join(short.get(c, f"\\u{ord(c):04x}" if c < " " else c) for c in text) + '"'


def expected_entries(container: Container) -> dict[str, tuple[str, list[int], list[int]]]:
    """name -> dtype, shape, offsets of every tensor, in stored order."""
    entries, end = {}, 0
    for index, name in enumerate(container.names):
        record = container.records[container.target(index)]
        begin, end = end, end + prod(record.shape) * BITS[record.dtype] // 8
        entries[name] = (record.dtype, list(record.shape), [begin, end])
    return entries


def canonical_header(container: Container) -> bytes:
    items = []
    if "metadata" in container.manifest:
        pairs = container.manifest["metadata"].items()  # in order already, by C-8
        items.append('"__metadata__":{' + ",".join(f"{json_string(key)}:{json_string(value)}" for key, value in pairs) + "}")
    for name, (dtype, shape, (begin, end)) in expected_entries(container).items():
        sizes = ",".join(map(str, shape))
        items.append(f'{json_string(name)}:{{"dtype":"{dtype}","shape":[{sizes}],"data_offsets":[{begin},{end}]}}')
    header = ("{" + ",".join(items) + "}").encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def kept_header(container: Container) -> bytes:
    kept = zstd_frame(container.manifest["source_header"], None, MAX_MANIFEST + 8)
    must(len(kept) >= 10 and int.from_bytes(kept[:8], "little") == len(kept) - 8, "C-27", "the kept header has another length")
    must(kept[8:9] == b"{", "C-27", "the kept header does not begin with a brace")
    try:
        header = json.loads(kept[8:].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused("C-27", f"the kept header does not parse: {error}") from error
    metadata = header.pop("__metadata__", None)
    must(metadata == container.manifest.get("metadata"), "C-27", "the kept header has other metadata")
    expected = expected_entries(container)
    must(header.keys() == expected.keys(), "C-27", "the kept header has other names")
    for name, entry in header.items():
        must(isinstance(entry, dict), "C-27", f"the kept header's {name!r}")
        shape, offsets = entry.get("shape"), entry.get("data_offsets")
        must(isinstance(shape, list) and isinstance(offsets, list) and all(map(is_uint, shape + offsets)), "C-27", f"{name!r}")
        must((entry.get("dtype"), shape, offsets) == expected[name], "C-27", f"the kept header states another {name!r}")
    in_order = sorted(header, key=lambda name: header[name]["data_offsets"])  # stable: then by position in the header
    must(in_order == list(expected), "C-27", "the kept header has another order")
    return kept


def rebuild_source(container: Container) -> bytes:
    header = kept_header(container) if "source_header" in container.manifest else canonical_header(container)
    return header + b"".join(container.tensor(index) for index in range(len(container.names)))


# -- 8. Digest of the content


def content_digest(entries: dict[str, Record]) -> str:
    digest = blake3.blake3()
    for name in sorted(entries, key=lambda name: name.encode()):
        record, text = entries[name], name.encode()
        digest.update(len(text).to_bytes(4, "little") + text + bytes([len(record.dtype)]) + record.dtype.encode())
        digest.update(bytes([len(record.shape)]) + b"".join(n.to_bytes(8, "little") for n in record.shape) + record.digest)
    return digest.hexdigest()


def targets(container: Container) -> dict[str, Record]:
    return {name: container.records[container.target(index)] for index, name in enumerate(container.names)}


# -- 9. Shards


def check_shards(path: Path) -> dict[str, Record]:
    """The records of every tensor of a sharded checkpoint whose index is `path`; the tensors are not decoded."""
    try:
        index = json.loads(path.read_text("utf-8"))
        shards, weight_map = dict(index["shards"]), dict(index["weight_map"])
    except (ValueError, TypeError, KeyError) as error:
        raise Refused("C-28", f"no index of shards: {error!r}") from error
    must(set(weight_map.values()) <= set(shards), "C-28", "`weight_map` names a shard that `shards` lacks")
    records: dict[str, Record] = {}
    for shard, digest in shards.items():
        must(shard not in ("", ".", "..") and not re.search(r"[/\\:\x00]", shard), "C-28", f"{shard!r} is not a plain file name")
        container = Container((path.parent / shard).read_bytes())
        must(blake3.blake3(container.stored_manifest).hexdigest() == digest, "C-29", f"{shard!r} has another manifest")
        mapped = {name for name, owner in weight_map.items() if owner == shard}
        must(set(container.names) == mapped, "C-29", f"{shard!r} holds other names")
        records |= targets(container)
    return records


# ------------------------------------------------------------------------------------------------------------ entropy.md

# -- 1. Tables


def read_table(data: bytes, at: int, precision: int) -> tuple[list[int] | None, int]:
    """The 256 frequencies of the table at `at`, or None for the unused one, and where the next table begins."""
    must(at + 3 <= len(data), "E-1", "a table reaches beyond its bytes")
    if data[at : at + 3] == bytes(3):
        return None, at + 3
    first, described = data[at], data[at + 1] + 1
    must(first + described <= 256, "E-1", "a table describes tokens above 255")
    bits = int.from_bytes(data[at + 2 : at + 2 + 1024], "little")  # more than any table has
    lengths = [bits >> 4 * i & 15 for i in range(described)]
    must(lengths[0] > 0 and lengths[-1] > 0, "E-1", "a table's first or last token is absent")
    must(max(lengths) <= precision, "E-1", "a table has a length above its precision")
    frequencies, used = [0] * 256, 4 * described
    for i, length in enumerate(lengths):
        if length:
            low = bits >> used & (1 << length - 1) - 1
            frequencies[first + i] = (1 << length - 1) + low
            used += length - 1
    end = at + 2 + ceil_div(used, 8)
    must(end <= len(data), "E-1", "a table reaches beyond its bytes")
    must(bits >> used & (1 << -used % 8) - 1 == 0, "E-1", "a table's padding is not zero")
    must(sum(frequencies) == 1 << precision, "E-2", "a table's frequencies have another sum")
    must(max(frequencies) < 1 << precision, "E-2", "a table gives one token everything")
    return frequencies, end


@dataclass
class Tables:
    """Every table of a section, as arrays that are indexed by [table, slot] and [table, token]."""

    precision: int
    used: np.ndarray
    token: np.ndarray
    frequency: np.ndarray
    cumulative: np.ndarray


def read_tables(data: bytes, number: int, precision: int) -> tuple[Tables, int]:
    size = 1 << precision
    must(number * size <= 2**16, "E-8", f"{number} tables of precision {precision}")
    tables = Tables(
        precision,
        np.zeros(number, bool),
        np.zeros((number, size), np.int64),
        np.zeros((number, 256), np.int64),
        np.zeros((number, 256), np.int64),
    )
    at = 0
    for i in range(number):
        frequencies, at = read_table(data, at, precision)
        if frequencies is not None:
            tables.used[i] = True
            tables.token[i] = np.repeat(np.arange(256), frequencies)
            tables.frequency[i] = frequencies
            tables.cumulative[i] = np.cumsum(frequencies) - frequencies
    return tables, at


# -- 2. Order of symbols


@dataclass
class Order:
    """Where every symbol, in the order of the section's elements, stands: its block, and its position there."""

    lanes: int
    blocks: int
    block: np.ndarray
    position: np.ndarray
    columns: int  # of a block, for section 5: C (tiled) or 4W (linear)

    @property
    def step(self) -> np.ndarray:
        return 4 * (self.position // (4 * self.lanes)) + self.position % 4

    @property
    def lane(self) -> np.ndarray:
        return self.position // 4 % self.lanes


def linear_order(count: int, size: int, lanes: int) -> Order:
    symbol = np.arange(count)
    return Order(lanes, ceil_div(count, size), symbol // size, symbol % size, 4 * lanes)


def tiled_order(rows: int, cols: int, tile_rows: int, tile_cols: int, lanes: int) -> Order:
    symbol = np.arange(rows * cols)
    y, x = symbol // max(cols, 1), symbol % max(cols, 1)
    across = ceil_div(cols, tile_cols)
    block = y // tile_rows * across + x // tile_cols
    return Order(lanes, ceil_div(rows, tile_rows) * across, block, y % tile_rows * tile_cols + x % tile_cols, tile_cols)


# -- 3. Bytes of a stream


def read_stream(data: bytes, order: Order) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The words, the word at which every block begins (and where the last one ends), and the states [block, lane]."""
    blocks, lanes = order.blocks, order.lanes
    offsets_size, states_size = 4 * max(blocks - 1, 0), 4 * blocks * lanes
    words_size = len(data) - offsets_size - states_size
    must(words_size >= 0 and words_size % 2 == 0 and words_size // 2 < 2**32, "E-3", "the stream has a wrong size")
    words = np.frombuffer(data, "<u2", offset=offsets_size + states_size).astype(np.int64)
    offsets = np.frombuffer(data, "<u4", count=offsets_size // 4).astype(np.int64)
    begin = np.concatenate([[0], offsets, [len(words)]]) if blocks else np.array([0])
    must(bool(np.all(np.diff(begin) >= 0)), "E-4", "offsets decrease, or exceed the words")
    must(bool(np.all(np.diff(begin) <= np.bincount(order.block, minlength=blocks))), "E-4", "a block with more words than symbols")
    must(blocks > 0 or not len(words), "E-4", "words without a block")
    states = np.frombuffer(data, "<u4", count=blocks * lanes, offset=offsets_size).astype(np.int64)
    must(bool(np.all(states >= 2**16)), "E-5", "a state below 2^16")
    return words, begin, states


# -- 4. Decoding a block


def decode_blocks(data: bytes, tables: Tables, order: Order, context: np.ndarray | int) -> np.ndarray:
    """The token of every symbol. All blocks go step by step together; those symbols of a step that share a block are in lane order.

    `context` is the table of every symbol, or v for `trellis(v)`.
    """
    words, begin, state = read_stream(data, order)
    cursor = begin[:-1].copy()
    tokens = np.zeros(len(order.block), np.int64)
    trellis = np.zeros(order.blocks * order.columns if isinstance(context, int) else 0, np.int64)
    step, lane = order.step, order.lane
    by_step = np.lexsort((lane, order.block, step))
    for symbols in np.split(by_step, np.flatnonzero(np.diff(step[by_step])) + 1):
        block = order.block[symbols]
        owner = block * order.lanes + lane[symbols]
        if isinstance(context, int):
            column = block * order.columns + order.position[symbols] % order.columns
            table = trellis[column] % 2
        else:
            table = context[symbols]
        must(bool(np.all(tables.used[table])), "E-7", "an unused table is chosen")
        x = state[owner]
        slot = x % (1 << tables.precision)
        token = tables.token[table, slot]
        x = tables.frequency[table, token] * (x >> tables.precision) + slot - tables.cumulative[table, token]
        takes = np.flatnonzero(x < 2**16)
        if len(takes):
            taker = block[takes]  # ascending; the words of a block go to its lanes in increasing order
            word = cursor[taker] + np.arange(len(takes)) - np.searchsorted(taker, taker)
            must(bool(np.all(word < begin[taker + 1])), "E-6", "a block has too few words")
            x[takes] = x[takes] << 16 | words[word]
            cursor += np.bincount(taker, minlength=order.blocks)
        state[owner] = x
        tokens[symbols] = token
        if isinstance(context, int):
            trellis[column] = next_trellis_state(context, trellis[column], token)
    must(bool(np.all(state == 2**16)), "E-6", "a lane does not end at 2^16")
    must(bool(np.all(cursor == begin[1:])), "E-6", "a block has words left")
    return tokens


# -- 5. Contexts

TRELLIS_H0 = {2: 0o5, 3: 0o13, 4: 0o23, 5: 0o45, 6: 0o103, 7: 0o235, 8: 0o515}
TRELLIS_H1 = {2: 0o2, 3: 0o04, 4: 0o04, 5: 0o10, 6: 0o024, 7: 0o126, 8: 0o362}


def next_trellis_state(v: int, state: np.ndarray, token: np.ndarray) -> np.ndarray:
    z0, z1 = state % 2, token % 2
    return (state // 2) ^ (z0 * (TRELLIS_H0[v] // 2)) ^ (z1 * (TRELLIS_H1[v] // 2))


# ---------------------------------------------------------------------------------------------------------------- codecs/


def decode_raw(node: Node) -> np.ndarray:
    node.knows()
    node.has_parts("data")
    data = node.stream("data")
    must(len(data) == node.size, "RAW-1", f"{len(data)} bytes where {node.size} are expected")
    return np.frombuffer(data, node.numpy_dtype)


def decode_const(node: Node) -> np.ndarray:
    node.knows("value")
    node.has_parts()
    value = node.params.get("value")
    must(isinstance(value, bytes), "C-20", "const: the param 'value' is absent or has another type")
    must(len(value) * 8 == node.storage_bits, "CONST-1", f"a value of {len(value)} bytes")
    return np.repeat(np.frombuffer(value, node.numpy_dtype), node.count)


def decode_bitpack(node: Node) -> np.ndarray:
    node.knows("bits", "base")
    node.has_parts("data")
    k = node.uint("bits", 1, node.storage_bits, None, "BITPACK-1")
    base = node.uint("base", 0, 2**node.storage_bits - 1, 0, "BITPACK-1")
    data = node.stream("data")
    must(len(data) == ceil_div(node.count * k, 8), "BITPACK-2", f"{len(data)} bytes")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    must(not bits[node.count * k :].any(), "BITPACK-3", "bits after the last value are not zero")
    value = np.full(node.count, base, np.uint64)
    for i in range(k):
        value += bits[i : node.count * k : k].astype(np.uint64) << np.uint64(i)
    return value.astype(node.numpy_dtype)


@dataclass
class RansParams:
    """The params of rans.md, checked."""

    precision: int
    lanes: int
    block: int
    tile: list[int]
    base: int
    zero: bool
    bits: int
    escape: int | None
    outliers: int
    trellis: int
    classes: list[int]
    map: bytes
    table_size: int | None


RANS_PARAMS = "precision lanes block tile base zero bits escape outliers trellis classes map table_size"


def read_rans_params(node: Node) -> RansParams:
    node.knows(*RANS_PARAMS.split())
    given = node.params.keys()
    must(("block" in given) != ("tile" in given), "RANS-1", "not exactly one of `block` and `tile`")
    must(("escape" in given) == ("outliers" in given), "RANS-1", "not both or none of `escape` and `outliers`")
    must(("classes" in given) == ("map" in given), "RANS-1", "not both or none of `classes` and `map`")
    must(not {"trellis", "classes"} <= given, "RANS-1", "both `trellis` and `classes`")
    lanes = node.uint("lanes", 0, 5, 5, "RANS-1")
    must(lanes in (0, 2, 5), "RANS-1", f"`lanes` is {lanes}")
    tile, classes, table_map = node.params.get("tile", [1, 128]), node.params.get("classes", [1, 1]), node.params.get("map", b"\0")
    for pair in (tile, classes):
        must(isinstance(pair, list) and len(pair) == 2 and all(map(is_uint, pair)), "C-20", "`tile` or `classes` is no pair")
    must(min(tile) >= 1 and tile[1] % (4 << lanes) == 0 and prod(tile) <= 2**17, "RANS-1", f"`tile` is {tile}")
    must(min(classes) >= 1 and max(classes) <= 256 and prod(classes) <= 4096, "RANS-1", f"`classes` is {classes}")
    must(isinstance(table_map, bytes), "C-20", "`map` has another type")
    must(len(table_map) == prod(classes), "RANS-1", "`map` has not the size of `classes`")
    p = RansParams(
        precision=node.uint("precision", 8, 12, None, "RANS-1"),
        lanes=1 << lanes,
        block=128 * node.uint("block", 1, 1024, 0, "RANS-1"),
        tile=tile,
        base=node.uint("base", 0, 2**32 - 1, 0, "RANS-1"),
        zero=node.flag("zero"),
        bits=node.uint("bits", 1, 16, 0, "RANS-1"),
        escape=node.uint("escape", 0, 255, 0, "RANS-1") if "escape" in given else None,
        outliers=node.uint("outliers", 0, 2**32 - 1, 0, "RANS-1"),
        trellis=node.uint("trellis", 2, 8, 0, "RANS-1"),
        classes=classes,
        map=table_map,
        table_size=node.uint("table_size", 0, 2**32 - 1, 0, "RANS-1") if "table_size" in given else None,
    )
    must(not p.trellis or not p.escape or p.escape % 2 == 0, "RANS-1", "an odd `escape` with a trellis")
    return p


def decode_rans(node: Node) -> np.ndarray:
    must(node.dtype in ("U8", "U16", "U32"), "RANS-1", f"the dtype {node.dtype}")
    p = read_rans_params(node)
    present = {
        "data": True,
        "tables": p.table_size is not None,
        "rest": p.bits > 0,
        "outliers": p.escape is not None,
        "counts": p.escape is not None,
        "rows": p.classes[0] > 1,
        "columns": p.classes[1] > 1,
    }
    node.has_parts(*(name for name, here in present.items() if here))
    rows = node.shape[0] if len(node.shape) >= 2 else 1
    cols = node.count // rows if rows else 0
    order = linear_order(node.count, p.block, p.lanes) if "block" in node.params else tiled_order(rows, cols, *p.tile, p.lanes)

    # tables and tokens
    number = 2 if p.trellis else 1 + max(p.map)
    stream = node.stream("data")
    if p.table_size is None:
        tables, used = read_tables(stream, number, p.precision)
        stream = stream[used:]
    else:
        shared = node.array("tables", "U8", (p.table_size,)).tobytes()
        tables, used = read_tables(shared, number, p.precision)
        must(used == len(shared), "E-1", "the tables do not fill the part `tables`")
    if p.trellis:
        context: np.ndarray | int = p.trellis
    else:
        row_class = node.array("rows", "U8", (rows,)).astype(np.int64) if present["rows"] else np.zeros(rows, np.int64)
        column_class = node.array("columns", "U8", (cols,)).astype(np.int64) if present["columns"] else np.zeros(cols, np.int64)
        good = bool(np.all(row_class < p.classes[0])) and bool(np.all(column_class < p.classes[1]))
        must(good, "RANS-2", "a class is not below the number of classes")
        pair = row_class[:, None] * p.classes[1] + column_class[None, :]
        context = np.frombuffer(p.map, np.uint8).astype(np.int64)[pair.reshape(-1)]
    token = decode_blocks(stream, tables, order, context)

    # 1. h
    k = token // 2 if p.trellis else token
    h = (k + p.base).astype(np.uint64)
    if p.zero:
        h[k == 0] = 0
    if p.escape is not None:
        outliers = node.array("outliers", "U32", (p.outliers,))
        counts = node.array("counts", "U32", (order.blocks,))
        must(int(counts.astype(np.uint64).sum()) == p.outliers, "RANS-3", "`counts` does not sum to `outliers`")
        escaped = k == (p.escape // 2 if p.trellis else p.escape)
        held = np.bincount(order.block[escaped], minlength=order.blocks)
        must(bool(np.all(held == counts)), "RANS-3", "a block holds another number of escapes")
        by_position = np.lexsort((order.position, order.block))
        h[by_position[escaped[by_position]]] = outliers

    # 2. and 3. the element; `rest` is taken to stand in the order of the elements
    element = h << np.uint64(p.bits)
    if p.bits:
        rest = node.array("rest", "U8" if p.bits <= 8 else "U16", (node.count,))
        element |= rest.astype(np.uint64) & np.uint64((1 << p.bits) - 1)
    if p.trellis:
        element = element << np.uint64(1) | (token % 2).astype(np.uint64)
    return element.astype(node.numpy_dtype)


def decode_zstd(node: Node) -> np.ndarray:
    node.knows()
    node.has_parts("data")
    return np.frombuffer(zstd_frame(node.stream("data"), node.size, node.size, "ZSTD-1"), node.numpy_dtype)


def decode_planes(node: Node) -> np.ndarray:
    node.knows("rest", "sign", "patches")
    must(BITS[node.dtype] >= 8, "PLANES-1", f"the dtype {node.dtype}")
    n = node.storage_bits
    r = node.uint("rest", max(n - 16, 0), n - 1, None, "PLANES-1")
    sign = node.uint("sign", 0, 2, 0, "PLANES-1")
    planes = ceil_div(r, 8)
    patches = node.uint("patches", 1, min(node.count, 1 << 32), None, "PLANES-1") if "patches" in node.params else 0
    node.has_parts("symbol", *(f"rest{i}" for i in range(planes)), *(("at", "values") if patches else ()))
    symbol = node.array("symbol", "U8" if n - r <= 8 else "U16", storage_shape(node.dtype, node.shape))
    rest = np.zeros(node.count, np.uint64)
    for i in range(planes):
        rest |= node.array(f"rest{i}", "U8", (node.count,)).astype(np.uint64) << np.uint64(8 * i)
    symbol, rest = symbol.astype(np.uint64), rest & np.uint64((1 << r) - 1)
    if sign == 2:
        v = symbol >> np.uint64(1) << np.uint64(r) | rest | (symbol & np.uint64(1)) << np.uint64(n - 1)
    else:
        v = symbol << np.uint64(r) | rest
    v &= np.uint64((1 << n) - 1)
    if sign == 1:
        v = v >> np.uint64(1) | (v & np.uint64(1)) << np.uint64(n - 1)
    if patches:
        at = node.array("at", "U32", (patches,)).astype(np.int64)
        must(at[-1] < node.count and bool((np.diff(at) > 0).all()), "PLANES-2", "patches out of order or outside the array")
        v[at] = node.array("values", f"U{n}", (patches,)).astype(np.uint64)
    return v.astype(node.numpy_dtype)


def decode_concat(node: Node) -> np.ndarray:
    node.knows("lengths")
    lengths = node.params.get("lengths")
    must(isinstance(lengths, list) and all(map(is_uint, lengths)), "C-20", "concat: the param 'lengths' is absent or has another type")
    must(1 <= len(lengths) <= 65536, "C-20", f"concat: {len(lengths)} lengths")
    must(len(node.shape) >= 1 and sum(lengths) == node.shape[0], "CONCAT-1", "`lengths` does not sum to the first dimension")
    node.has_parts(*map(str, range(len(lengths))))
    return np.concatenate([node.array(str(i), node.dtype, (length, *node.shape[1:])) for i, length in enumerate(lengths)])


CODECS = {
    "raw": decode_raw,
    "const": decode_const,
    "bitpack": decode_bitpack,
    "rans": decode_rans,
    "zstd": decode_zstd,
    "planes": decode_planes,
    "concat": decode_concat,
}

# ------------------------------------------------------------------------------------------------------------------ usage


def open_file(path: str | Path) -> Container:
    container = Container(Path(path).read_bytes())
    container.check_extents_named_once()
    return container


def decode_file(path: str | Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """name -> (dtype, shape, bytes) of every tensor, in stored order. One unreadable tensor (C-24) refuses the whole file here."""
    return decode_all(open_file(path))


def decode_all(container: Container) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    found = {}
    for index, (name, record) in enumerate(targets(container).items()):
        found[name] = (record.dtype, record.shape, container.tensor(index))
    if "source_header" in container.manifest:
        kept_header(container)
    return found


def source_bytes(path: str | Path) -> bytes:
    """The safetensors file that `path` was made of (its decoded copy, where a tensor is not lossless)."""
    return rebuild_source(open_file(path))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Decode a .wcodec file with the decoder written from the specification.")
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="where to write the source, a safetensors file")
    options = parser.parse_args(arguments)
    try:
        if options.file.name.endswith(".index.json"):
            records = check_shards(options.file)
        else:
            container = open_file(options.file)
            decode_all(container)
            records = targets(container)
            if options.output:
                options.output.write_bytes(rebuild_source(open_file(options.file)))
    except Refused as refused:
        print(refused)
        return 1
    except FileNotFoundError as error:
        print(f"MISSING: {error.filename}")
        return 1
    for name, record in records.items():
        print(f"{name}\t{record.dtype}\t{list(record.shape)}\t{record.digest.hex()}")
    print(f"content digest {content_digest(records)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
