"""Masks in C."""

from __future__ import annotations

import numpy as np

from wcodec.backends.native.abi import Native
from wcodec.backends.native.arrays import address, fits
from wcodec.backends.numpy.masks import MaskVerbs
from wcodec.coding.layouts import Bundles
from wcodec.types import U8, U32, UInts


class NativeMasks(Native, MaskVerbs):
    """Positions and scattered values, by C."""

    def byte_positions(self, mask: U8, kept: int = 0) -> U32:
        """Return the ascending positions of the bytes that are not zero."""
        return super().byte_positions(mask) if not fits(mask, np.uint8, 0) else self._positions(mask, mask.size, False)

    def bit_positions(self, bits: U8, count: int, kept: int = 0) -> U32:
        """Return the ascending positions of the set bits among the first ``count``, lowest bit of byte 0 first."""
        return super().bit_positions(bits, count) if not fits(bits, np.uint8, -(-count // 8)) else self._positions(bits, count, True)

    def _positions(self, mask: U8, count: int, packed: bool) -> U32:
        kept = self._library.wcodec_count_kept(address(mask), count, packed)
        out = np.empty(kept + 80, np.uint32)  # room for whole registers
        self._library.wcodec_kept_positions(address(mask), count, packed, address(out), out.size)
        return out[:kept]

    def gap_positions(self, gaps: UInts, counts: U32, block: int, out: U32) -> bool:
        """Write positions from gaps; tell whether all lie in their blocks (``masks.from_gaps``)."""
        sound = fits(out, np.uint32, gaps.size) and fits(counts, np.uint32, 0) and gaps.flags.c_contiguous
        if not sound or gaps.itemsize > 4 or int(counts.sum(dtype=np.uint64)) != gaps.size:
            return super().gap_positions(gaps, counts, block, out)
        return bool(self._library.wcodec_gap_positions(address(gaps), gaps.itemsize, address(counts), counts.size, block, address(out)))

    def bundle_mask(self, gaps: UInts, counts: U32, bundles: Bundles, order: U32 | None) -> U8:
        """Return the mask, of 0 and 1, of bundles with these counts of groups. order: where their rows belong. Raises Corrupt [GS-3]."""
        whole = fits(counts, np.uint32, 0) and gaps.flags.c_contiguous and gaps.itemsize <= 4
        if not whole or int(counts.sum(dtype=np.uint64)) * bundles.banks != gaps.size:
            return super().bundle_mask(gaps, counts, bundles, order)
        mask, pointers = np.empty(counts.size * bundles.size, np.uint8), (address(gaps), gaps.itemsize, address(counts), counts.size)
        if not self._library.wcodec_bundle_mask(*pointers, bundles.banks, bundles.high, bundles.cols, address(mask)):
            return super().bundle_mask(gaps, counts, bundles, order)  # which says what is wrong
        return bundles.ordered(mask, order)

    def scatter(self, positions: U32, values: UInts, out: UInts, clear: bool) -> None:
        """Write values to ascending positions of out; ``clear``: and zeros everywhere else."""
        inside = positions.size == 0 or int(positions[-1]) < out.size
        if not (inside and fits(positions, np.uint32, 0) and fits(values, out.dtype, positions.size) and out.flags.c_contiguous):
            return super().scatter(positions, values, out, clear)
        self._library.wcodec_scatter(address(positions), positions.size, address(values), out.itemsize, address(out), out.size, clear)
