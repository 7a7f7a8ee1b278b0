"""Masks as the ascending positions of the kept elements, and values put there (spec/codecs/sparse.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wcodec.types import U8, U32, U64, UInts


def from_bytes(mask: U8) -> U32:
    """Return the positions of the bytes that are not zero."""
    return np.flatnonzero(mask).astype(np.uint32)


def from_bits(bits: U8, count: int) -> U32:
    """Return the positions of the set bits among the first ``count``, least significant bit of byte 0 first."""
    return np.flatnonzero(np.unpackbits(bits, count=count, bitorder="little")).astype(np.uint32)


def from_gaps(gaps: UInts, counts: U32, block: int, out: U32) -> bool:
    """Write positions from the start of the first block on; tell whether all lie in their blocks of ``block`` elements.

    counts: gaps of every block. A gap is the position less the previous one of the block (−1 before the first) less 1.
    """
    inside = _from_start(gaps, counts)
    out[:] = (inside + np.repeat(np.arange(counts.size, dtype=np.uint64) * np.uint64(block), counts)).astype(np.uint32)
    return not bool((inside >= block).any())


def _from_start(gaps: UInts, counts: U32) -> U64:
    """Return positions from the start of the block of each."""
    total = np.cumsum(gaps.astype(np.uint64) + np.uint64(1))
    ends = np.cumsum(counts, dtype=np.int64)
    before = np.concatenate((np.zeros(1, np.uint64), total))[ends - counts]
    found: U64 = total - np.repeat(before, counts) - np.uint64(1)
    return found


def to_gaps(positions: U32, counts: U32, block: int) -> U32:
    """Return the gaps of ascending positions: the inverse of ``from_gaps``."""
    ends = np.cumsum(counts, dtype=np.int64)
    steps = np.diff(positions.astype(np.int64), prepend=-1) - 1
    first = (ends - counts)[counts > 0]
    steps[first] = positions[first] - np.flatnonzero(counts) * block
    return steps.astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Rows of a matrix cut into ``banks`` lanes: lane j has the columns of remainder j, row after row (spec/codecs/gs.md)."""

    banks: int
    rows: int
    cols: int

    @property
    def steps(self) -> int:
        """Columns of a lane, those beyond the matrix included."""
        return -(-self.cols // self.banks)

    @property
    def size(self) -> int:
        """Elements."""
        return self.rows * self.cols


def bundle_mask(gaps: UInts, counts: U32, bundle: Bundle, mask: U8) -> bool:
    """Write the mask of bundles of one shape from the gaps of their lanes, ``counts`` in every lane of each.

    Tells whether all lie in their bundles and every row of one keeps as many as the others; else the mask holds nothing of use.
    """
    each = np.repeat(counts, bundle.banks)
    row, step = np.divmod(_from_start(gaps, each).astype(np.int64), max(1, bundle.steps))
    which, lane = np.divmod(np.repeat(np.arange(each.size), each), bundle.banks)
    column = step * bundle.banks + lane
    if bool((row >= bundle.rows).any() or (column >= bundle.cols).any()):
        return False
    mask[:] = 0
    mask[which * bundle.size + row * bundle.cols + column] = 1
    kept = mask.reshape(counts.size, bundle.rows, bundle.cols).sum(2, dtype=np.uint32)
    return not bool((kept * bundle.rows != counts[:, None] * np.uint64(bundle.banks)).any())


def scatter(positions: U32, values: UInts, out: UInts, clear: bool) -> None:
    """Write values to ascending positions of out; ``clear``: and zeros everywhere else."""
    if clear:
        out[:] = 0
    out[positions] = values
