"""container.md, section 3: canonical MessagePack, zstd frames, the manifest and the regions it lists."""

from __future__ import annotations

import re

import msgpack
import numpy as np
import zstandard

from .rules import Refused, ceil_div, must

ALIGN = 64
MAX_MANIFEST = 100_000_000
MAX_WINDOW = 2**23
MAX_VALUES = 2**23


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
