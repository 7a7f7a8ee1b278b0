"""Frequency tables: integers that sum to a power of two, their wire form and decode look-up (spec/entropy.md section 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wcodec.errors import Corrupt
from wcodec.types import U32, U64

UNUSED = bytes(3)
"""Wire form of a table that no symbol uses."""


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """The tables of a section: precision P and frequencies [tables, 256], all zero for an unused table."""

    precision: int
    frequencies: npt.NDArray[np.uint16]

    def starts(self) -> npt.NDArray[np.uint16]:
        """Cumulative frequency below every token."""
        total = np.cumsum(self.frequencies, axis=1, dtype=np.uint16)
        return total - self.frequencies

    def lut(self) -> U32:
        """Return the decode look-up, [tables × 2^P]: frequency | (slot − start) « 12 | token « 24; 0 in unused tables."""
        found = np.zeros((len(self.frequencies), 1 << self.precision), np.uint32)
        slots = np.arange(1 << self.precision, dtype=np.uint32)
        for row, frequency, start in zip(found, self.frequencies, self.starts(), strict=True):
            if frequency.any():
                token = np.repeat(np.arange(256, dtype=np.uint32), frequency)
                row[:] = frequency[token] | (slots - start[token]) << np.uint32(12) | token << np.uint32(24)
        return found.reshape(-1)

    def pack(self) -> bytes:
        """Return the wire form of all tables."""
        return b"".join(_pack(frequency) for frequency in self.frequencies.tolist())

    @classmethod
    def unpack(cls, data: bytes, count: int, precision: int) -> tuple[Tables, int]:
        """Parse ``count`` tables. Returns them and the bytes used. Raises Corrupt [E-1, E-2]."""
        frequencies, at = np.zeros((count, 256), np.uint16), 0
        for row in frequencies:
            at += _unpack(data[at : at + 514], precision, row)
        return cls(precision, frequencies), at

    @classmethod
    def fit(cls, counts: U64, precision: int) -> Tables:
        """Make the tables for symbol counts [tables, 256]; every counted token gets a frequency of at least 1.

        Uses only correctly rounded arithmetic, so that every machine makes the same tables.
        """
        return cls(precision, np.stack([_fit(row, precision) for row in counts]))

    def cost(self, counts: U64) -> float:
        """Bits that symbols with these counts take."""
        used = counts > 0
        return float((counts[used] * (self.precision - np.log2(self.frequencies[used]))).sum())


def _pack(frequency: list[int]) -> bytes:
    present = [token for token, f in enumerate(frequency) if f]
    if not present:
        return UNUSED
    first, last = present[0], present[-1]
    bits = at = 0
    for f in frequency[first : last + 1]:
        bits |= f.bit_length() << at
        at += 4
    for token in present:
        width = frequency[token].bit_length() - 1
        bits |= (frequency[token] & ((1 << width) - 1)) << at
        at += width
    return bytes((first, last - first)) + bits.to_bytes(-(-at // 8), "little")


def _unpack(data: bytes, precision: int, row: npt.NDArray[np.uint16]) -> int:
    """Parse one table into row; return the bytes used."""
    if len(data) < 3 or data[0] + data[1] > 255:
        raise Corrupt("entropy table is cut off or reaches beyond token 255", rule="E-1")
    first, span = data[0], data[1] + 1
    bits, room = int.from_bytes(data[2:], "little"), 8 * (len(data) - 2)
    lengths = [bits >> 4 * i & 15 for i in range(span)]
    used = 4 * span + sum(max(length - 1, 0) for length in lengths)
    if used > room or max(lengths) > precision or ((not lengths[0] or not lengths[-1]) and data[:3] != UNUSED):
        raise Corrupt("entropy table has a bad length", rule="E-1")
    at = 4 * span
    for token, length in enumerate(lengths, first):
        if length:
            row[token] = 1 << (length - 1) | bits >> at & ((1 << (length - 1)) - 1)
            at += length - 1
    size = -(-used // 8)
    if bits >> at & ((1 << (8 * size - used)) - 1):
        raise Corrupt("entropy table has padding bits that are not zero", rule="E-1")
    if data[:3] != UNUSED and (int(row.sum(dtype=np.int64)) != 1 << precision or int(row.max()) >= 1 << precision):
        raise Corrupt(f"entropy table does not sum to 2^{precision}", rule="E-2")
    return 2 + size


def _fit(counts: U64, precision: int) -> npt.NDArray[np.uint16]:
    """Scale counts to frequencies that sum to 2^precision, close to the cheapest."""
    out = np.zeros(256, np.uint16)
    tokens = np.flatnonzero(counts)
    if tokens.size == 0:
        return out
    if tokens.size == 1:
        token = int(tokens[0])
        out[token], out[token + 1 if token < 255 else token - 1] = (1 << precision) - 1, 1
        return out
    weight = counts[tokens].astype(np.float64)
    f = np.maximum(1, np.floor(weight * (float(1 << precision) / weight.sum()))).astype(np.int64)
    # ln((f+1)/f) ≈ 2/(2f+1): divisions round alike everywhere, logarithms do not.
    while (missing := (1 << precision) - int(f.sum())) > 0:
        f[np.argsort(-weight / (2 * f + 1), kind="stable")[:missing]] += 1
    while int(f.sum()) > 1 << precision:
        f[np.argmin(np.where(f > 1, weight / (2 * f - 1), np.inf))] -= 1
    out[tokens] = f
    return out
