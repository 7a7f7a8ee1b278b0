"""Values as tokens of at most 256 kinds, raw low bits and escapes (spec/codecs/rans.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wcodec.types import U8, U32, U64, UInts


@dataclass(frozen=True, slots=True)
class Alphabet:
    """How tokens map to values.

    bits: raw low bits b. base, zero, escape: as on the wire; escape −1 when there is none. trellis: tokens carry the parity.
    """

    bits: int = 0
    base: int = 0
    zero: bool = False
    escape: int = -1
    trellis: bool = False

    @property
    def plain(self) -> bool:
        """Tokens are the values."""
        return self == Alphabet()

    @property
    def shift(self) -> int:
        """Bits below ``h``."""
        return self.bits + self.trellis

    def split(self, x: UInts) -> tuple[U8, UInts, U32, U8]:
        """Split values. Returns tokens, raw bits, values of the escaped and where they are, in element order."""
        kinds = 1 << 8 * min(x.itemsize, 2)
        if x.itemsize > 2 or x.size <= kinds:
            return self._split(x)
        tokens, raw, _, escaped = self._split(np.arange(kinds).astype(x.dtype))  # once for every value that there may be
        marked = escaped[x]
        outliers = (x[marked.view(bool)] >> x.dtype.type(self.shift)).astype(np.uint32)
        return tokens[x], raw[x] if self.bits else raw[:0], outliers, marked

    def _split(self, x: UInts) -> tuple[U8, UInts, U32, U8]:
        h = x >> x.dtype.type(self.shift)
        wide = h.astype(np.int64) - self.base
        inside = (wide >= self.zero) & (wide < (self.escape >> self.trellis if self.escape >= 0 else 256 >> self.trellis))
        if self.zero:
            wide[h == 0] = 0
            inside |= h == 0
        escaped = ~inside
        wide[escaped] = self.escape >> self.trellis
        tokens = (wide << 1 | (x & x.dtype.type(1)).astype(np.int64) if self.trellis else wide).astype(np.uint8)
        raw = (x >> x.dtype.type(self.trellis)) & x.dtype.type((1 << self.bits) - 1)
        return tokens, raw.astype(np.uint8 if self.bits <= 8 else np.uint16), h[escaped].astype(np.uint32), escaped.view(np.uint8)

    def escapes(self, tokens: U8) -> U8:
        """Mark the escape tokens, as 0 and 1."""
        kinds = tokens >> np.uint8(1) if self.trellis else tokens
        marked: U8 = (kinds == np.uint8(self.escape >> self.trellis)).view(np.uint8)
        return marked

    def join(self, tokens: U8, raw: UInts | None, outliers: U32, out: UInts) -> None:
        """Write the values to out; outliers are those of the escaped symbols in element order."""
        k = tokens.astype(np.uint64) >> np.uint64(self.trellis)
        h = np.where(k == 0, np.uint64(0), k + np.uint64(self.base)) if self.zero else k + np.uint64(self.base)
        if self.escape >= 0:
            h[self.escapes(tokens).view(bool)] = outliers
        value = h << np.uint64(self.shift)
        if raw is not None:
            value |= (raw.astype(np.uint64) & np.uint64((1 << self.bits) - 1)) << np.uint64(self.trellis)
        if self.trellis:
            value |= tokens.astype(np.uint64) & np.uint64(1)
        out[:] = value.astype(out.dtype)


NONE: U32 = np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Beside:
    """What the tokens of a window stand for, and what stands beside them: raw bits and escaped values.

    bytes: of a value, 1 or 2. raw: raw bits in the order of elements, as integers, or as bytes without gaps when ``packed``.
    outliers: escaped values, block after block, by position in a block. counts: of every block.
    """

    alphabet: Alphabet
    bytes: int
    raw: UInts | None = None
    packed: bool = False
    outliers: U32 = field(default_factory=NONE.copy)
    counts: U32 = field(default_factory=NONE.copy)


def fit(counts: U64, trellis: bool = False) -> tuple[int, bool, int]:
    """Choose (base, zero, escape) for values h with these counts: no escapes where the tokens suffice, else as few as can be."""
    room = 256 >> trellis
    used = np.flatnonzero(counts)
    if not used.size or used[-1] < room:
        return 0, False, -1
    zero = bool(counts[0])
    low, high = int(used[1 if zero and used.size > 1 else 0]), int(used[-1])
    if high - low + 1 + zero <= room:
        return low - zero, zero, -1
    size = room - 1 - zero
    total = np.concatenate(([0], np.cumsum(counts)))
    start = int(np.argmax(total[size + 1 :] - total[1 : total.size - size])) + 1
    return start - zero, zero, (room - 1) << trellis
