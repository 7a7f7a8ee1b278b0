"""Planes, bits and comparison in C."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import byref, c_uint32

import numpy as np

from wcodec.backends.native.abi import Native, Split
from wcodec.backends.native.arrays import address, fits, pointers
from wcodec.backends.numpy.planes import Planes, PlaneVerbs
from wcodec.types import U8, U64, UInts


class NativePlanes(Native, PlaneVerbs):
    """Storage elements as bits, by C."""

    def choose_split(self, x: UInts, widest: int) -> tuple[int, int, int]:
        """Choose by a sample how floats split. Returns rest bits, place of the sign and the highest symbol seen."""
        if not x.flags.c_contiguous or not 0 < widest <= min(8 * x.itemsize - 1, 11) or not x.size:
            return super().choose_split(x, widest)
        found = (c_uint32 * 3)()
        self._library.wcodec_choose_split(address(x), x.itemsize, x.size, widest, byref(found))
        return found[0], found[1], found[2]

    def is_noise(self, plane: U8) -> bool:
        """Tell by a sample whether bytes look as if they had 8 bits of entropy each."""
        if not fits(plane, np.uint8, 0):
            return super().is_noise(plane)
        return bool(self._library.wcodec_is_noise(address(plane), plane.size))

    def split_tokens(self, split: Planes, x: UInts, base: int, every: int, tokens: U8, rest: Sequence[U8]) -> tuple[U64, U8, int, int]:
        """Split elements into tokens max(symbol − base, 0) mod 256 and rest planes, written to the arrays given."""
        if not splits(split, rest, x, packed=True) or not fits(tokens, np.uint8, x.size):
            return super().split_tokens(split, x, base, every, tokens, rest)
        counts, seen = np.zeros(256, np.uint64), np.zeros(256, np.uint8)
        found = (c_uint32 * 2)(1 << (8 if split.bits - split.rest <= 8 else 16), 0)
        planes = Split(x.itemsize, split.rest, split.sign, base)
        self._library.wcodec_split_tokens(
            byref(planes), address(x), x.size, every, address(tokens), pointers(rest), address(counts), address(seen), byref(found)
        )
        return counts, seen, found[0], found[1]

    def split_planes(self, split: Planes, x: UInts) -> tuple[UInts, list[U8]]:
        """Split elements into symbols (U8, or U16 above 8 bits) and rest planes, lowest first."""
        rest = [np.empty(x.size, np.uint8) for _ in range(split.count)]
        if not splits(split, rest, x):
            return super().split_planes(split, x)
        symbol: UInts = np.empty(x.size, np.uint8 if split.bits - split.rest <= 8 else np.uint16)
        planes = Split(x.itemsize, split.rest, split.sign, 0)
        self._library.wcodec_split_planes(byref(planes), address(x), x.size, address(symbol), pointers(rest))
        return symbol, rest

    def join_planes(self, split: Planes, symbol: UInts, rest: Sequence[U8], out: UInts) -> None:
        """Join symbols and rest planes into out."""
        if not splits(split, rest, out) or symbol.itemsize > 2 or not fits(symbol, symbol.dtype, out.size):
            return super().join_planes(split, symbol, rest, out)
        planes = Split(out.itemsize, split.rest, split.sign, 0)
        self._library.wcodec_join_planes(byref(planes), address(symbol), symbol.itemsize, pointers(rest), out.size, address(out))

    def pack_bits(self, x: UInts, width: int, base: int) -> U8:
        """Pack (x − base) mod 2^n, which fit ``width`` bits, without gaps."""
        if not x.flags.c_contiguous:
            return super().pack_bits(x, width, base)
        out = np.empty(-(-x.size * width // 8), np.uint8)
        self._library.wcodec_pack_bits(address(x), x.itemsize, x.size, width, base, address(out))
        return out

    def unpack_bits(self, data: U8, width: int, base: int, out: UInts) -> None:
        """Unpack values of ``width`` bits, the first at bit 0 of data, add base and store them in out."""
        if not out.flags.c_contiguous or not fits(data, np.uint8, -(-out.size * width // 8)):
            return super().unpack_bits(data, width, base, out)
        self._library.wcodec_unpack_bits(address(data), out.itemsize, out.size, width, base, address(out))

    def same(self, a: UInts, b: UInts) -> bool:
        """Compare two arrays of one dtype and size bit for bit."""
        if a.dtype != b.dtype or a.shape != b.shape or not (a.flags.c_contiguous and b.flags.c_contiguous):
            return super().same(a, b)
        return bool(self._library.wcodec_same(address(a), address(b), a.nbytes))


def splits(split: Planes, rest: Sequence[U8], x: UInts, packed: bool = False) -> bool:
    """Whether C may split or join x like this. packed: a top plane of fewer than 8 bits is."""
    if x.itemsize * 8 != split.bits or split.bits > split.rest + 16 or not x.flags.c_contiguous or len(rest) != split.count:
        return False
    top = -(-x.size * (split.rest % 8) // 8) if packed and split.rest % 8 else x.size
    return all(fits(plane, np.uint8, top if i == split.count else x.size) for i, plane in enumerate(rest, 1))
