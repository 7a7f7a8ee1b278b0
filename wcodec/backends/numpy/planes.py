"""Verbs on the bits of storage elements: planes of floats, numbers of few bits, comparison (spec/codecs/planes.md, bitpack.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wcodec.coding import bits, floats, sampling
from wcodec.types import U8, U64, UInts

COUNTED = 4096
"""Tokens of a run, of which ``split_tokens`` counts the first."""


@dataclass(frozen=True, slots=True)
class Planes:
    """How storage elements split (spec/codecs/planes.md). bits: n. rest: r. sign: where the top bit went."""

    bits: int
    rest: int
    sign: int

    @property
    def count(self) -> int:
        """Number of rest planes."""
        return -(-self.rest // 8)


@dataclass(frozen=True, slots=True)
class Symbols:
    """How tokens stand for symbols: token + base, but 0 for token 0 when ``zero``; packed: the top rest plane is packed bits."""

    base: int = 0
    zero: bool = False
    packed: bool = False


class PlaneVerbs:
    """Splitting, joining, packing and comparing storage elements."""

    def choose_split(self, x: UInts, widest: int) -> tuple[int, int, int]:
        """Choose by a sample how floats split. Returns rest bits, place of the sign and the highest symbol seen.

        widest: bits of the widest symbol considered, without the sign.
        """
        return sampling.choose_split(x, widest)

    def is_noise(self, plane: U8) -> bool:
        """Tell by a sample whether bytes look as if they had 8 bits of entropy each."""
        return sampling.is_noise(plane)

    def split_tokens(self, split: Planes, x: UInts, base: int, every: int, tokens: U8, rest: Sequence[U8]) -> tuple[U64, U8, int, int]:
        """Split elements into tokens max(symbol − base, 0) mod 256 and rest planes, written to the arrays given.

        A top plane of fewer than 8 bits is written packed. Returns counts [256] of the first 4,096 / every of every 4,096 tokens,
        1 for each of the 256 that the others hold and 0 for the rest, lowest symbol above 0 (2^8, or 2^16 for wide ones, without
        one) and highest symbol: do tokens stand for the symbols?
        """
        symbol, planes = self.split_planes(split, x)
        low = symbol.dtype.type(base) if base <= np.iinfo(symbol.dtype).max else symbol.dtype.type(np.iinfo(symbol.dtype).max)
        tokens[:] = (np.maximum(symbol, low) - low).astype(np.uint8)
        if split.rest % 8:
            planes[-1] = self.pack_bits(planes[-1], split.rest % 8, 0)
        for plane, out in zip(planes, rest, strict=True):
            out[:] = plane
        lowest = int((symbol - symbol.dtype.type(1)).min(initial=np.iinfo(symbol.dtype).max)) + 1
        counted = np.arange(x.size) % COUNTED < COUNTED // every
        counts = np.bincount(tokens[counted], minlength=256).astype(np.uint64)
        seen = (np.bincount(tokens[~counted], minlength=256) > 0).astype(np.uint8)
        return counts, seen, lowest, int(symbol.max(initial=0))

    def split_planes(self, split: Planes, x: UInts) -> tuple[UInts, list[U8]]:
        """Split elements into symbols (U8, or U16 above 8 bits) and rest planes, lowest first."""
        return floats.split(x, split.bits, split.rest, split.sign)

    def strays(self, split: Planes, x: UInts, base: int) -> npt.NDArray[np.intp]:
        """Return where symbols are neither 0 nor within 255 above base, in numpy's memory."""
        found = [np.empty(0, np.intp)]
        for at in range(0, x.size, 1 << 20):
            symbol, _ = self.split_planes(split, x[at : at + (1 << 20)])
            offset = symbol.astype(np.int32) - base
            found.append(np.flatnonzero(((offset <= 0) & (symbol > 0)) | (offset > 255)) + at)
        return np.concatenate(found)

    def join_planes(self, split: Planes, symbol: UInts, rest: Sequence[U8], out: UInts) -> None:
        """Join symbols and rest planes into out."""
        floats.join(symbol, rest, split.bits, split.rest, split.sign, out)

    def pack_bits(self, x: UInts, width: int, base: int) -> U8:
        """Pack (x − base) mod 2^n, which fit ``width`` bits, without gaps."""
        return bits.pack(x, width, base)

    def unpack_bits(self, data: U8, width: int, base: int, out: UInts) -> None:
        """Unpack values of ``width`` bits, the first at bit 0 of data, add base and store them in out."""
        bits.unpack(data, width, base, out)

    def same(self, a: UInts, b: UInts) -> bool:
        """Compare two arrays of one dtype and size bit for bit."""
        return bool(np.array_equal(a, b))
