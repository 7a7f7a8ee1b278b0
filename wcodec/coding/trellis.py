"""The trellis quantiser in numpy (spec/codecs/trellis.md): what symbols stand for: the oracle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.coding.tokens import Alphabet
from wcodec.types import U8, UInts

F32: TypeAlias = npt.NDArray[np.float32]

SIXTEENTHS: F32 = np.array(
    [
        0x3F800000, 0x3F85AAC3, 0x3F8B95C2, 0x3F91C3D3, 0x3F9837F0, 0x3F9EF532, 0x3FA5FED7, 0x3FAD583F,
        0x3FB504F3, 0x3FBD08A4, 0x3FC5672A, 0x3FCE248C, 0x3FD744FD, 0x3FE0CCDF, 0x3FEAC0C7, 0x3FF5257D,
    ],
    np.uint32,
).view(np.float32)  # fmt: skip
"""2^(j / 16), rounded."""

UNITY = 128
"""The code of the factor 1."""

NOTHING: F32 = np.empty(0, np.float32)


def factors(codes: U8) -> F32:
    """Return what the codes of rows or columns multiply steps by: 2^((code − 128) / 16) by the table, exact in float32."""
    found: F32 = np.ldexp(SIXTEENTHS[codes & np.uint8(15)], (codes >> np.uint8(4)).astype(np.int32) - 8)
    return found


def code(factor: npt.NDArray[Any]) -> U8:
    """Return the codes of the nearest factors, on a logarithmic scale; those of 0 and of infinity are the first and the last."""
    with np.errstate(divide="ignore"):
        nearest = np.rint(16 * np.log2(factor)) + UNITY
    codes: U8 = np.clip(nearest, 0, 255).astype(np.uint8)
    return codes


@dataclass(frozen=True, slots=True)
class Lattice:
    """What the symbols of a window stand for: k = 2 · (symbol − zero) + z0 steps, or a point in place of a small k.

    v: 2^v states. zero: even. rows: the step of every row of the window, or one for all. columns: the factor of every column, or none.
    points: magnitudes in place of |k| = 1, 2, … Steps are finite and not negative.
    """

    v: int
    zero: int
    rows: F32
    columns: F32 | None = None
    points: F32 = field(default_factory=NOTHING.copy)

    def steps(self, start: int, count: int, cols: int) -> F32:
        """Return the step of each of ``count`` elements from ``start`` on, flat in the matrix; the window begins in row start // cols."""
        row, column = np.divmod(np.arange(start, start + count), max(cols, 1))
        steps = self.rows[0 if self.rows.size == 1 else row - start // max(cols, 1)]
        with np.errstate(under="ignore"):
            found: F32 = steps * (np.float32(1) if self.columns is None else self.columns[column])
        return np.broadcast_to(found, (count,))

    def values(self, symbols: UInts, z0: U8) -> F32:
        """Return k, or the point in its place, as float32; 0 is +0."""
        k = 2 * (symbols.astype(np.int64) - self.zero) + z0
        size = np.abs(k)
        found = size.astype(np.float32)
        small = (size > 0) & (size <= self.points.size)
        found[small] = self.points[size[small] - 1]
        signed: F32 = np.where(k < 0, -found, found)
        return signed


def dequantise(lattice: Lattice, start: int, cols: int, symbols: UInts, z0: U8, out: F32) -> None:
    """Write the values of symbols, from flat element ``start`` of the matrix on."""
    with np.errstate(over="ignore", under="ignore"):
        np.multiply(lattice.values(symbols, z0), lattice.steps(start, symbols.size, cols), out=out)


@dataclass(frozen=True, slots=True)
class Quantised:
    """What an encoder decided for a tensor: all that a section of ``trellis`` holds.

    symbols: flat, parities follow the trellis. tile: (R, C), or None for linear order. rows, columns: codes of factors.
    points: in 256ths of a lattice step. classes: (pair of tables of every class, class of every row). alphabet: tokens of the symbols.
    """

    symbols: UInts
    zero: int
    step: np.float32
    v: int
    tile: tuple[int, int] | None = None
    rows: U8 | None = None
    columns: U8 | None = None
    points: tuple[int, ...] = ()
    classes: tuple[U8, U8] | None = None
    alphabet: Alphabet = field(default_factory=lambda: Alphabet(trellis=True))
