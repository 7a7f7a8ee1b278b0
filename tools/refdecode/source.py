"""container.md, sections 7 to 9: what rebuilds the source, the digest of the content, shards."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path

import blake3

from .container import Container
from .manifest import MAX_MANIFEST, zstd_frame
from .records import BITS, Record
from .rules import Refused, is_uint, must

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
        records |= container.targets()
    return records
