"""The verbs that codecs call, each defined by numpy; a faster backend overrides one and must give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wcodec.coding import bits, floats, rans
from wcodec.types import U8, U32, U64, UInts


@dataclass(frozen=True, slots=True)
class Planes:
    """How storage elements split (spec/codecs/planes.md). bits: n. rest: r. rotate: sign moved below the mantissa."""

    bits: int
    rest: int
    rotate: bool

    @property
    def count(self) -> int:
        """Number of rest planes."""
        return -(-self.rest // 8)


class Backend:
    """The numpy backend: reference for all others.

    Arrays are one-dimensional and contiguous; callers have checked sizes and ranges, so only damaged entropy-coded words can fail.
    """

    name = "numpy"

    def rans_histogram(self, job: rans.Job, tokens: U8) -> U64:
        """Count the tokens of a window per table, [tables, 256]; job.tables is not looked at."""
        return rans.histogram(job, tokens)

    def rans_encode(self, job: rans.Job, tokens: U8) -> tuple[U32, U32, U8]:
        """Encode a window's tokens. Returns states [blocks, W], words per block, bytes of the words."""
        return rans.encode(job, tokens)

    def rans_decode(self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, out: U8) -> None:
        """Decode a window's tokens into out. lut: ``job.tables.lut()``. Raises Corrupt [E-6, E-7]."""
        del lut
        rans.decode(job, states, offsets, words, out)

    def rans_join(
        self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, base: int, split: Planes, rest: Sequence[U8], out: UInts
    ) -> None:
        """Decode a window's tokens, add base, and join them with rest planes into out: rans_decode and join_planes in one pass."""
        tokens = np.empty(out.size, np.uint8)
        self.rans_decode(job, lut, states, offsets, words, tokens)
        symbol = tokens.astype(np.uint32) + np.uint32(base)
        self.join_planes(split, symbol.astype(np.uint8 if split.bits - split.rest <= 8 else np.uint16), rest, out)

    def split_planes(self, split: Planes, x: UInts) -> tuple[UInts, list[U8]]:
        """Split elements into symbols (U8, or U16 above 8 bits) and rest planes, lowest first."""
        return floats.split(x, split.bits, split.rest, split.rotate)

    def join_planes(self, split: Planes, symbol: UInts, rest: Sequence[U8], out: UInts) -> None:
        """Join symbols and rest planes into out."""
        floats.join(symbol, rest, split.bits, split.rest, split.rotate, out)

    def pack_bits(self, x: UInts, width: int, base: int) -> U8:
        """Pack (x − base) mod 2^n, which fit ``width`` bits, without gaps."""
        return bits.pack(x, width, base)

    def unpack_bits(self, data: U8, width: int, base: int, out: UInts) -> None:
        """Unpack values of ``width`` bits, the first at bit 0 of data, add base and store them in out."""
        bits.unpack(data, width, base, out)

    def same(self, a: UInts, b: UInts) -> bool:
        """Compare two arrays of one dtype and size bit for bit."""
        return bool(np.array_equal(a, b))
