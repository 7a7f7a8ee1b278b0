"""Prologue, trailer and the tiling of streams (spec/container.md sections 1 to 3)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, TypeAlias

import numpy as np
import xxhash

from wcodec.errors import Corrupt, NotAContainer, Truncated, UnsupportedVersion
from wcodec.types import U8, U64

MAGIC = bytes.fromhex("d7574344430d0a1a")
MAJOR = 1
MINOR = 0
ALIGN = 64
CHUNK = 1 << 20
SMALLEST = 96


BytesLike: TypeAlias = "bytes | bytearray | memoryview | U8"


def octets(data: BytesLike) -> memoryview:
    """View contiguous bytes as bytes."""
    view = data.data if isinstance(data, np.ndarray) else memoryview(data)
    return view.cast("B") if view.nbytes else memoryview(b"")


def align(at: int) -> int:
    """Round up to the next multiple of 64."""
    return -(-at // ALIGN) * ALIGN


@dataclass(frozen=True, slots=True)
class Prologue:
    """The first 16 bytes."""

    major: int = MAJOR

    LAYOUT: ClassVar[Struct] = Struct("<8sII")

    def pack(self) -> bytes:
        return self.LAYOUT.pack(MAGIC, self.major, 0)

    @classmethod
    def unpack(cls, data: bytes) -> Prologue:
        """Parse the first bytes of a file. Raises NotAContainer [C-1], UnsupportedVersion [C-2], Corrupt [C-3], Truncated [C-4]."""
        if not data or data[:8] != MAGIC[: len(data)]:
            raise NotAContainer("does not begin as a wcodec file", rule="C-1")
        if len(data) < cls.LAYOUT.size:
            raise Truncated(f"{len(data)} bytes are less than a prologue", rule="C-4")
        _, major, reserved = cls.LAYOUT.unpack_from(data)
        if major != MAJOR:
            raise UnsupportedVersion(f"container version {major}, this reader knows {MAJOR}", required=f"major {major}", rule="C-2")
        if reserved:
            raise Corrupt("reserved bytes of the prologue are not zero", rule="C-3")
        return cls(major)


@dataclass(frozen=True, slots=True)
class Trailer:
    """The last 40 bytes.

    offset, length: of the stored manifest. minor: lowest version whose readers know every codec. compressed: flag bit 0.
    checksum: XXH3-64 of the stored manifest and `head()`.
    """

    offset: int
    length: int
    minor: int
    compressed: bool
    checksum: int = 0
    major: int = MAJOR

    HEAD: ClassVar[Struct] = Struct("<QQHHI")
    SIZE: ClassVar[int] = 40

    def head(self) -> bytes:
        """Pack the 24 bytes that the checksum covers."""
        return self.HEAD.pack(self.offset, self.length, self.major, self.minor, int(self.compressed))

    def pack(self) -> bytes:
        return self.head() + self.checksum.to_bytes(8, "little") + MAGIC

    @classmethod
    def unpack(cls, data: bytes, size: int) -> Trailer:
        """Parse the last 40 bytes of a file of this size; the checksum is left to `check`.

        Raises Truncated [C-4], Corrupt [C-5].
        """
        if size < SMALLEST or len(data) != cls.SIZE or data[-8:] != MAGIC:
            raise Truncated("the end is missing: a cut-off download or an interrupted write", rule="C-4")
        offset, length, major, minor, flags = cls.HEAD.unpack_from(data)
        if offset % ALIGN or offset < ALIGN or offset + length + cls.SIZE != size:
            raise Corrupt(f"manifest of {length} bytes at {offset} in a file of {size}", rule="C-5")
        return cls(offset, length, minor, bool(flags & 1), int.from_bytes(data[24:32], "little"), major)

    def check(self, manifest: bytes, data: bytes) -> None:
        """Check the checksum, then what it protects. Raises Corrupt [C-6, C-7], UnsupportedVersion [C-7]."""
        if checksum(manifest, data[:24]) != self.checksum:
            raise Corrupt("the manifest's checksum does not match", rule="C-6")
        if self.major != MAJOR:
            required = f"{self.major}.{self.minor}"
            raise UnsupportedVersion(f"needs version {required}, this reader knows {MAJOR}.{MINOR}", required=required, rule="C-7")
        if int.from_bytes(data[20:24], "little") & ~1:
            raise Corrupt("unknown flags in the trailer", rule="C-7")


def checksum(*pieces: bytes) -> int:
    """XXH3-64 (seed 0) of the concatenation."""
    state = xxhash.xxh3_64()
    for piece in pieces:
        state.update(piece)
    return state.intdigest()


def check_tiling(extents: U64, voids: U64, end: int) -> None:
    """Check that extents and voids, both [n, 2] of offset and length, tile the file from byte 64 to end.

    Raises Corrupt [C-11, C-12].
    """
    if (extents[1:, 0] <= extents[:-1, 0]).any() or not extents[:, 1].all() or (voids[1:, 0] < voids[:-1, 0]).any():
        raise Corrupt("extents or voids are empty or not in order", rule="C-11")
    regions = extents
    if voids.size:
        regions = np.concatenate([extents, voids])
        regions = regions[np.lexsort((regions[:, 1], regions[:, 0]))]
    offset, length = regions[:, 0], regions[:, 1]
    limit = np.uint64(end)
    # Nothing lies beyond end once this holds, so that the sums below cannot wrap.
    if (offset > limit).any() or (length > limit - offset).any():
        raise Corrupt("a stream lies outside of the file's stream region", rule="C-12")
    mask = np.uint64(ALIGN - 1)
    wanted = np.concatenate([np.array([ALIGN], np.uint64), (offset + length + mask) & ~mask])
    actual = np.concatenate([offset, np.array([end], np.uint64)])
    wrong = np.flatnonzero(wanted != actual)
    if wrong.size:
        raise Corrupt(f"a stream or the manifest begins at {actual[wrong[0]]}, expected {wanted[wrong[0]]}", rule="C-12")
