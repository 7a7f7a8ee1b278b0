"""Verbs on masks, and on the values that a mask keeps (spec/codecs/gaps.md, bitmap.md, nm.md, gs.md, draw.md, sparse.md)."""

from __future__ import annotations

from math import comb

import numpy as np

from wcodec.backends.numpy.codebook import CodebookVerbs
from wcodec.coding import masks, numbers, patterns
from wcodec.coding.layouts import Bundles, Groups
from wcodec.errors import Corrupt
from wcodec.types import U8, U32, DType, UInts


class MaskVerbs(CodebookVerbs):
    """Positions of what a mask keeps, and values written there.

    kept: how many positions there have to be. A device must know, and raises Corrupt when there are not; on the cpu codecs see by
    the array that they get.
    """

    def byte_positions(self, mask: U8, kept: int = 0) -> U32:
        """Return the ascending positions of the bytes that are not zero. A device raises Corrupt [SPARSE-2]."""
        return masks.from_bytes(mask)

    def bit_positions(self, bits: U8, count: int, kept: int = 0) -> U32:
        """Return the ascending positions of the set bits among the first ``count``, lowest bit of byte 0 first.

        A device raises Corrupt [BITMAP-2].
        """
        return masks.from_bits(bits, count)

    def check_counts(self, positions: U32, count: int, block: int, counts: U32) -> None:
        """Raise Corrupt [BITMAP-2] unless every block of the first ``count`` elements has its count of the positions."""
        if not np.array_equal(masks.count(positions, count, block), counts):
            raise Corrupt("a block does not keep the elements that its count states", rule="BITMAP-2")

    def check_ones(self, mask: U8, block: int, counts: U32) -> None:
        """Raise Corrupt [DRAW-2] unless every block of a mask of 0 and 1 has its count of ones."""
        found = [np.count_nonzero(mask[at : at + block]) for at in range(0, len(mask), block)]
        if not np.array_equal(found, counts):
            raise Corrupt("a block keeps another number of elements than its count states", rule="DRAW-2")

    def gap_positions(self, gaps: UInts, counts: U32, block: int, out: U32) -> bool:
        """Write positions from gaps; tell whether all lie in their blocks (``masks.from_gaps``). Not for devices: see place_gaps."""
        return masks.from_gaps(gaps, counts, block, out)

    def place_gaps(self, gaps: UInts, counts: U32, block: int, end: int) -> U32:
        """Return the positions that gaps stand for. Raises Corrupt [GAPS-3] for one beyond its block, or not below ``end``."""
        found = np.empty(len(gaps), np.uint32)
        if not self.gap_positions(gaps, counts, block, found) or (found.size and int(found[-1]) >= end):
            raise Corrupt("a kept element lies beyond its block", rule="GAPS-3")
        return found

    def group_mask(self, found: UInts, groups: Groups) -> U8:
        """Return the mask, of 0 and 1, of the patterns of whole units of groups. Raises Corrupt [NM-2]."""
        lasts = found.reshape(-1, groups.groups, groups.inner)[:, -1:] if found.size and groups.length % groups.m else found[:0]
        if int(found.max(initial=0)) >= comb(groups.m, groups.n) or int(lasts.max(initial=0)) >= groups.short:
            raise Corrupt(f"a pattern is not one of {groups.n} of {groups.m}", rule="NM-2")
        table = patterns.listed(groups.n, groups.m)
        if table is None:
            return groups.join(patterns.unrank(found, groups.n, groups.m))
        split = np.empty(len(found) * groups.m, np.uint8)
        self.gather(table, groups.m, found, split)
        return groups.join(split)

    def bundle_mask(self, gaps: UInts, counts: U32, bundles: Bundles, order: U32 | None) -> U8:
        """Return the mask, of 0 and 1, of bundles with these counts of groups. order: where their rows belong. Raises Corrupt [GS-3]."""
        each = np.repeat(counts, bundles.banks)
        which, row, column = bundles.places(masks.from_start(gaps, each), each)
        if bool((row >= bundles.high).any() or (column >= bundles.cols).any()):
            raise Corrupt("a kept element lies beyond its bundle", rule="GS-3")
        mask = np.zeros((len(counts), bundles.high, bundles.cols), np.uint8)
        mask[which, row, column] = 1
        if (mask.sum(2, dtype=np.uint32) != counts[:, None] * np.uint32(bundles.per_row)).any():
            raise Corrupt("a row does not keep its share of the groups", rule="GS-3")
        return bundles.ordered(mask.reshape(-1), order)

    def mark(self, positions: U32, out: U8) -> None:
        """Write 1 to ascending positions of out, and 0 everywhere else."""
        self.scatter(positions, np.ones(len(positions), np.uint8), out, True)

    def scatter(self, positions: U32, values: UInts, out: UInts, clear: bool) -> None:
        """Write values to ascending positions of out; ``clear``: and zeros everywhere else."""
        masks.scatter(positions, values, out, clear)

    def add_at(self, positions: U32, values: UInts, dtype: DType, out: UInts) -> None:
        """Add values to the floats at ascending positions of out (``numbers.add``)."""
        self.scatter(positions, numbers.add(out[positions], values, dtype), out, False)
