"""container.md, sections 1, 2 and 5: prologue, trailer, and the tensors of a file."""

from __future__ import annotations

import blake3
import numpy as np
import xxhash

from .manifest import ALIGN, check_tiling, read_manifest, read_regions
from .records import Record, read_record, read_resource
from .rules import ceil_div, must
from .sections import Node, part_kind

MAGIC = bytes.fromhex("d7574344430d0a1a")
CHUNK = 2**20


def read_prologue(data: bytes) -> None:
    must(data[:8] == MAGIC, "C-1", "the file does not begin with the magic")
    must(len(data) >= 16, "C-4", "the file ends within its prologue")
    must(int.from_bytes(data[8:12], "little") == 1, "C-2", "unsupported major version")
    must(data[12:16] == bytes(4), "C-3", "the reserved field is not 0")


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


class Container:
    """A file whose prologue, trailer, manifest and layout are good.

    `side` chooses among the values that a tolerant codec may give: 0 the nearest to the exact one, -1 the least, 1 the greatest.
    """

    def __init__(self, data: bytes, side: int = 0):
        read_prologue(data)
        stored, offset, flags = read_trailer(data)
        self.data, self.stored_manifest, self.side = data, stored, side
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

    def targets(self) -> dict[str, Record]:
        return {name: self.records[self.target(index)] for index, name in enumerate(self.names)}

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
        """The decoded bytes of an entry; C-30 and C-31 are checked."""
        index = self.target(index)
        record = self.records[index]
        if index in self.decoded:
            self.spend(len(self.decoded[index]))
            return self.decoded[index]
        node = Node(self, record.section, record.dtype, record.shape, 1, len(self.resources))
        data = node.decode().tobytes()
        must(node.tolerant == record.tolerant, "C-31", f"{self.names[index]!r}: `tolerant` is {'present' if record.tolerant else 'absent'}")
        must(blake3.blake3(node.digested()).digest() == record.digest, "C-30", f"{self.names[index]!r}: decoded bytes of another digest")
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
