"""How masks of a pattern lie over an array: groups along an axis (spec/codecs/nm.md), bundles of rows (spec/codecs/gs.md)."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, prod

import numpy as np

from wcodec.types import DTYPES, U8, U32, U64, Spec, UInts


@dataclass(frozen=True, slots=True)
class Groups:
    """How a mask divides: [outer, length, inner] with groups of m along the middle. kinds: patterns of a whole group."""

    kinds: int
    n: int
    m: int
    outer: int
    length: int
    inner: int

    @classmethod
    def of(cls, n: int, m: int, axis: int, shape: tuple[int, ...]) -> Groups:
        """Divide a shape. Patterns of short groups are the first of those of whole ones: where all are short, they need no more room."""
        its = (min(n, shape[axis]), shape[axis]) if 0 < shape[axis] < m else (n, m)
        return cls(comb(m, n), *its, prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))

    @property
    def groups(self) -> int:
        """Groups along the axis; the last one may be short."""
        return -(-self.length // self.m)

    @property
    def kept(self) -> int:
        """Elements kept along the axis."""
        return self.length // self.m * self.n + min(self.n, self.length % self.m)

    @property
    def short(self) -> int:
        """Patterns of a short last group."""
        rest = self.length % self.m
        return comb(rest, min(self.n, rest))

    @property
    def spec(self) -> Spec:
        """The spec of the part ``patterns``, without the dimensions that it shares with the mask."""
        return Spec(
            DTYPES["U8" if self.kinds <= 256 else "U16" if self.kinds <= 65536 else "U32"], (self.outer * self.groups * self.inner,)
        )

    def split(self, x: U8) -> U8:
        """Return the groups of a mask, [outer · groups · inner, m], short ones filled up with zeros."""
        if not x.size:
            return np.zeros((0, self.m), np.uint8)
        padded = np.zeros((x.size // (self.length * self.inner), self.groups * self.m, self.inner), np.uint8)
        padded[:, : self.length] = x.reshape(-1, self.length, self.inner)
        return padded.reshape(-1, self.groups, self.m, self.inner).swapaxes(2, 3).reshape(-1, self.m)

    def join(self, split: U8) -> U8:
        """Return the mask of groups, flat: the inverse of ``split``."""
        if not split.size:
            return np.zeros(0, np.uint8)
        padded = split.reshape(-1, self.groups, self.inner, self.m).swapaxes(2, 3).reshape(-1, self.groups * self.m, self.inner)
        return np.ascontiguousarray(padded[:, : self.length]).reshape(-1)


@dataclass(frozen=True, slots=True)
class Bundles:
    """GS(B, k) of a matrix: a bundle of B / k rows is cut into lanes, lane j being its columns with remainder j modulo B."""

    banks: int
    per_row: int
    rows: int
    cols: int

    @property
    def high(self) -> int:
        """Rows of a bundle."""
        return self.banks // self.per_row

    @property
    def count(self) -> int:
        """Bundles."""
        return self.rows // self.high

    @property
    def steps(self) -> int:
        """Columns of a lane, those beyond the matrix included."""
        return -(-self.cols // self.banks)

    @property
    def size(self) -> int:
        """Elements of a bundle."""
        return self.high * self.cols

    def places(self, inside: U64, each: U32) -> tuple[UInts, UInts, UInts]:
        """Return bundle, row and column of positions in lanes; each: how many there are in every lane, bundle by bundle."""
        bundle, lane = np.divmod(np.repeat(np.arange(each.size), each), self.banks)
        row, step = np.divmod(inside.astype(np.int64), max(1, self.steps))
        return bundle, row, step * self.banks + lane

    def ordered(self, mask: U8, order: U32 | None) -> U8:
        """Return a flat mask whose rows lie where they belong; None: where they are."""
        if order is None:
            return mask
        found = np.empty((self.rows, self.cols), np.uint8)
        found[order] = mask.reshape(found.shape)
        return found.reshape(-1)
