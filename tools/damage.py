"""Take a ``.wcodec`` file apart, change anything, and put it together again with fitting checksums: damage below the checksums.

It shares no code with the package, so that it can write what the package refuses to.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from struct import pack, unpack_from
from typing import Any

import msgpack
import xxhash
import zstandard

MAGIC = bytes.fromhex("d7574344430d0a1a")
CHUNK = 1 << 20


def align(size: int) -> int:
    return -(-size // 64) * 64


def ordered(value: Any) -> Any:
    """Maps with sorted keys, whatever else is in them."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value, key=lambda key: str(key).encode("utf-8", "surrogatepass"))}
    return [ordered(item) for item in value] if isinstance(value, list | tuple) else value


def packed(value: Any) -> bytes:
    """Canonical MessagePack; bytes are taken to be packed already."""
    return value if isinstance(value, bytes) else msgpack.packb(ordered(value), use_bin_type=True)


def unpacked(data: bytes) -> Any:
    return msgpack.unpackb(data, strict_map_key=False)


@dataclass
class Pieces:
    """A file in pieces.

    fields: the manifest without extents, checksums, tensors and resources. tensors: [name, record] pairs and resources: maps (or bytes that
    are stored as they are). streams: bytes of every extent. final: manifest keys that win over computed ones; None takes one away.
    stored: the whole manifest instead. trailer: values that win over computed ones. padding: what fills the gaps.
    """

    fields: dict[str, Any]
    tensors: list[list[Any]]
    resources: list[Any]
    streams: list[bytes]
    final: dict[str, Any] = field(default_factory=dict)
    stored: bytes | None = None
    trailer: dict[str, int] = field(default_factory=dict)
    padding: bytes = b"\0"
    prologue: bytes = MAGIC + pack("<II", 1, 0)

    @classmethod
    def of(cls, data: bytes) -> Pieces:
        offset, length = unpack_from("<QQ", data, len(data) - 40)
        stored = data[offset : offset + length]
        fields = unpacked(zstandard.ZstdDecompressor().decompress(stored) if data[-20] & 1 else stored)
        extents = fields.pop("extents")
        fields.pop("checksums")
        pairs = [unpack_from("<QQ", extents, at) for at in range(0, len(extents), 16)]
        tensors = [[name, unpacked(record)] for name, record in fields.pop("tensors")]
        resources = [unpacked(item) for item in fields.pop("resources", [])]
        return cls(fields, tensors, resources, [data[at : at + size] for at, size in pairs])

    def record(self, name: str) -> dict[str, Any]:
        return next(record for its, record in self.tensors if its == name)

    def manifest(self) -> dict[str, Any]:
        at, extents, sums = 64, b"", b""
        for stream in self.streams:
            extents += pack("<QQ", at, len(stream))
            sums += b"".join(pack("<Q", xxhash.xxh3_64_intdigest(stream[i : i + CHUNK])) for i in range(0, len(stream), CHUNK))
            at = align(at + len(stream))
        fields = self.fields | {"extents": extents, "checksums": sums}
        fields["tensors"] = [[name, packed(record)] for name, record in self.tensors]
        if self.resources:
            fields["resources"] = [packed(item) for item in self.resources]
        return {key: value for key, value in (fields | self.final).items() if value is not None}

    def pack(self) -> bytes:
        body = self.prologue
        for stream in [b"", *self.streams]:
            body += stream
            body += self.padding * (align(len(body)) - len(body))
        stored = packed(self.manifest()) if self.stored is None else self.stored
        values = {"offset": len(body), "length": len(stored), "major": 1, "minor": 0, "flags": 0} | self.trailer
        head = pack("<QQHHI", *(values[key] for key in ("offset", "length", "major", "minor", "flags")))
        checksum = values.get("checksum", xxhash.xxh3_64_intdigest(stored + head))
        return body + stored + head + pack("<Q", checksum) + MAGIC


def changed(data: bytes, change: Callable[[Pieces], Any]) -> bytes:
    """Take a file apart, let ``change`` work on the pieces, and put it together again."""
    pieces = deepcopy(Pieces.of(data))
    change(pieces)
    return pieces.pack()
