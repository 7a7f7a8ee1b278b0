"""The manifest: everything that a file says about itself (spec/container.md section 3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from wcodec.container import msgpack, zstdframe
from wcodec.container.fields import check_requires, needed, optional
from wcodec.container.layout import CHUNK, check_tiling
from wcodec.errors import Corrupt
from wcodec.types import U64

MAX_SIZE = 100_000_000
MAX_HEADER = MAX_SIZE + 8  # safetensors' own bound on a header, and the length before it
MAX_NAME = 1024

_KNOWN = frozenset(
    {"checksums", "encoder", "extents", "metadata", "requires", "resources", "source_header", "tensors", "voids"}
)  # fmt: skip
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_NO_EXTENTS: U64 = np.zeros((0, 2), np.uint64)


@dataclass(eq=False)
class Manifest:
    """A parsed manifest; records and resources stay packed until they are used.

    names, records: of the tensors, in stored order. extents, voids: [n, 2] of offset and length. checksums: XXH3-64 per chunk.
    metadata: None and {} differ. source_header: as stored, one zstd frame. encoder: how the file was made, informative.
    """

    names: Sequence[str] = ()
    records: Sequence[bytes] = ()
    extents: U64 = field(default_factory=_NO_EXTENTS.copy)
    checksums: U64 = field(default_factory=lambda: np.zeros(0, np.uint64))
    voids: U64 = field(default_factory=_NO_EXTENTS.copy)
    resources: Sequence[bytes] = ()
    metadata: dict[str, str] | None = None
    encoder: dict[str, Any] | None = None
    source_header: bytes | None = None

    @cached_property
    def index(self) -> dict[str, int]:
        """Tensor name → position."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def first_chunk(self) -> U64:
        """Position in checksums of every extent's first chunk, and their number at the end."""
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(_chunks(self.extents), dtype=np.uint64)])

    def kept_header(self) -> bytes | None:
        """Decompress the source's first bytes, None where the canonical header is theirs. Raises Corrupt [C-9]. Spec: section 7."""
        return None if self.source_header is None else zstdframe.decompress(self.source_header, MAX_HEADER)

    def pack(self) -> bytes:
        """Pack canonically, uncompressed. Raises Corrupt [C-9] beyond 100 MB."""
        fields: dict[str, Any] = {
            "checksums": self.checksums.astype("<u8").tobytes(),
            "extents": self.extents.astype("<u8").tobytes(),
            "tensors": [list(entry) for entry in zip(self.names, self.records, strict=True)],
        }
        for key, value in (("metadata", self.metadata), ("encoder", self.encoder), ("source_header", self.source_header)):
            if value is not None:
                fields[key] = value
        if self.resources:
            fields["resources"] = list(self.resources)
        if self.voids.size:
            fields["voids"] = self.voids.astype("<u8").tobytes()
        packed = msgpack.pack(fields)
        if len(packed) > MAX_SIZE:
            raise Corrupt(f"a manifest of {len(packed)} bytes", rule="C-9")
        return packed

    @classmethod
    def unpack(cls, stored: bytes, compressed: bool, end: int) -> Manifest:
        """Parse the stored manifest of a file whose streams end before byte end.

        Raises Corrupt [C-8 to C-13, C-15], UnsupportedVersion [C-10], LimitExceeded.
        """
        if not compressed and len(stored) > MAX_SIZE:
            raise Corrupt(f"a manifest of {len(stored)} bytes", rule="C-9")
        fields = msgpack.unpack(zstdframe.decompress(stored, MAX_SIZE) if compressed else stored)
        if type(fields) is not dict:
            raise Corrupt("the manifest is not a map", rule="C-10")
        check_requires(fields, _KNOWN)
        names, records = _tensors(needed(fields, "tensors", list, "C-10"))
        made = cls(
            names=names,
            records=records,
            extents=_numbers(fields, "extents").reshape(-1, 2),
            checksums=_numbers(fields, "checksums"),
            voids=_numbers(fields, "voids").reshape(-1, 2) if "voids" in fields else _NO_EXTENTS,
            resources=_resources(optional(fields, "resources", list, "C-10")),
            metadata=_metadata(optional(fields, "metadata", dict, "C-10")),
            encoder=_encoder(optional(fields, "encoder", dict, "C-10")),
            source_header=optional(fields, "source_header", bytes, "C-10"),
        )
        check_tiling(made.extents, made.voids, end)
        if made.checksums.size != int(made.first_chunk[-1]):
            raise Corrupt(f"{made.checksums.size} checksums for {made.first_chunk[-1]} chunks", rule="C-13")
        if len(made.index) != len(names):
            raise Corrupt("two tensors have the same name", rule="C-15")
        return made


def check_names(names: Sequence[str]) -> None:
    """Check names one by one, not that they differ. Raises Corrupt [C-15]."""
    text = "".join(names)
    bad = not text.isprintable() and _CONTROL.search(text)
    long = 4 * max(map(len, names), default=0) > MAX_NAME and max(len(name.encode()) for name in names) > MAX_NAME
    if bad or long or "" in names or "__metadata__" in names:
        raise Corrupt(f"a tensor's name is empty, reserved, longer than {MAX_NAME} bytes or has control characters", rule="C-15")


def _chunks(extents: U64) -> U64:
    return (extents[:, 1] + np.uint64(CHUNK - 1)) // np.uint64(CHUNK)


def _tensors(entries: list[Any]) -> tuple[Sequence[str], Sequence[bytes]]:
    # Sets instead of a loop: there can be 91,000 of them, and opening a file waits for this.
    if not entries:
        return (), ()
    if set(map(type, entries)) != {list} or set(map(len, entries)) != {2}:
        raise Corrupt("tensors are not pairs", rule="C-10")
    names, records = zip(*entries, strict=True)
    if set(map(type, names)) != {str} or set(map(type, records)) != {bytes}:
        raise Corrupt("tensors are not pairs of a name and a record", rule="C-10")
    check_names(names)
    return names, records


def _numbers(fields: dict[str, Any], key: str) -> U64:
    data = needed(fields, key, bytes, "C-10")
    width, rule = (8, "C-13") if key == "checksums" else (16, "C-11")
    if len(data) % width:
        raise Corrupt(f"{key} of {len(data)} bytes", rule=rule)
    return np.frombuffer(data, "<u8").astype(np.uint64, copy=False)


def _resources(resources: list[Any] | None) -> Sequence[bytes]:
    if resources and set(map(type, resources)) != {bytes}:
        raise Corrupt("resources are not byte strings", rule="C-10")
    return resources or ()


def _metadata(metadata: dict[str, Any] | None) -> dict[str, str] | None:
    if metadata and set(map(type, metadata.values())) != {str}:
        raise Corrupt("metadata are not strings", rule="C-10")
    return metadata


def _encoder(encoder: dict[str, Any] | None) -> dict[str, Any] | None:
    if encoder is not None:
        check_requires(encoder, frozenset({"version", "recipe", "requires"}))
        optional(encoder, "version", str, "C-10")
        optional(encoder, "recipe", str, "C-10")
    return encoder
