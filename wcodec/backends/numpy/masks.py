"""Verbs on masks, and on the values that a mask keeps (spec/codecs/gaps.md, bitmap.md, sparse.md)."""

from __future__ import annotations

from wcodec.coding import masks
from wcodec.coding.masks import Bundle
from wcodec.types import U8, U32, UInts


class MaskVerbs:
    """Positions of what a mask keeps, and values written there."""

    def byte_positions(self, mask: U8) -> U32:
        """Return the ascending positions of the bytes that are not zero."""
        return masks.from_bytes(mask)

    def bit_positions(self, bits: U8, count: int) -> U32:
        """Return the ascending positions of the set bits among the first ``count``, lowest bit of byte 0 first."""
        return masks.from_bits(bits, count)

    def gap_positions(self, gaps: UInts, counts: U32, block: int, out: U32) -> bool:
        """Write positions from gaps; tell whether all lie in their blocks (``masks.from_gaps``)."""
        return masks.from_gaps(gaps, counts, block, out)

    def bundle_mask(self, gaps: UInts, counts: U32, bundle: Bundle, mask: U8) -> bool:
        """Write the mask of bundles from the gaps of their lanes; tell whether it is sound (``masks.bundle_mask``)."""
        return masks.bundle_mask(gaps, counts, bundle, mask)

    def scatter(self, positions: U32, values: UInts, out: UInts, clear: bool) -> None:
        """Write values to ascending positions of out; ``clear``: and zeros everywhere else."""
        masks.scatter(positions, values, out, clear)
