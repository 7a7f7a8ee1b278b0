"""Masks as the ascending positions of the kept elements, and values put there (spec/codecs/sparse.md)."""

from __future__ import annotations

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
    inside = from_start(gaps, counts)
    out[:] = (inside + np.repeat(np.arange(counts.size, dtype=np.uint64) * np.uint64(block), counts)).astype(np.uint32)
    return not bool((inside >= block).any())


def from_start(gaps: UInts, counts: U32) -> U64:
    """Return positions from the start of the block of each, however far beyond its end."""
    total = np.cumsum(gaps.astype(np.uint64) + np.uint64(1))
    ends = np.cumsum(counts, dtype=np.int64)
    before = np.concatenate((np.zeros(1, np.uint64), total))[ends - counts]
    found: U64 = total - np.repeat(before, counts) - np.uint64(1)
    return found


def count(positions: U32, count: int, block: int) -> U32:
    """Count the positions in every block of the first ``count`` elements."""
    edges = np.arange(-(-count // block) + 1, dtype=np.uint64) * np.uint64(block)
    edges = np.minimum(edges, 2**32 - 1).astype(np.uint32)  # of one dtype with positions, or numpy copies them
    counts: U32 = np.diff(np.searchsorted(positions, edges)).astype(np.uint32)
    return counts


def to_gaps(positions: U32, counts: U32, block: int) -> U32:
    """Return the gaps of ascending positions: the inverse of ``from_gaps``."""
    ends = np.cumsum(counts, dtype=np.int64)
    steps = np.diff(positions.astype(np.int64), prepend=-1) - 1
    first = (ends - counts)[counts > 0]
    steps[first] = positions[first] - np.flatnonzero(counts) * block
    return steps.astype(np.uint32)


def scatter(positions: U32, values: UInts, out: UInts, clear: bool) -> None:
    """Write values to ascending positions of out; ``clear``: and zeros everywhere else."""
    if clear:
        out[:] = 0
    out[positions] = values
