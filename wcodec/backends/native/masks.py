"""Masks in C."""

from __future__ import annotations

import numpy as np

from wcodec.backends.native.abi import Native
from wcodec.backends.native.arrays import address, fits
from wcodec.backends.numpy.masks import MaskVerbs
from wcodec.coding.masks import Bundle
from wcodec.types import U8, U32, UInts


class NativeMasks(Native, MaskVerbs):
    """Positions and scattered values, by C."""

    def byte_positions(self, mask: U8) -> U32:
        """Return the ascending positions of the bytes that are not zero."""
        return super().byte_positions(mask) if not fits(mask, np.uint8, 0) else self._positions(mask, mask.size, False)

    def bit_positions(self, bits: U8, count: int) -> U32:
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

    def bundle_mask(self, gaps: UInts, counts: U32, bundle: Bundle, mask: U8) -> bool:
        """Write the mask of bundles from the gaps of their lanes; tell whether it is sound (``masks.bundle_mask``)."""
        whole = fits(counts, np.uint32, 0) and fits(mask, np.uint8, 0) and gaps.flags.c_contiguous and gaps.itemsize <= 4
        sums = int(counts.sum(dtype=np.uint64)) * bundle.banks == gaps.size and mask.size == counts.size * bundle.size
        if not whole or not sums:
            return super().bundle_mask(gaps, counts, bundle, mask)
        pointers = address(gaps), gaps.itemsize, address(counts), counts.size
        return bool(self._library.wcodec_bundle_mask(*pointers, bundle.banks, bundle.rows, bundle.cols, address(mask)))

    def scatter(self, positions: U32, values: UInts, out: UInts, clear: bool) -> None:
        """Write values to ascending positions of out; ``clear``: and zeros everywhere else."""
        inside = positions.size == 0 or int(positions[-1]) < out.size
        if not (inside and fits(positions, np.uint32, 0) and fits(values, out.dtype, positions.size) and out.flags.c_contiguous):
            return super().scatter(positions, values, out, clear)
        self._library.wcodec_scatter(address(positions), positions.size, address(values), out.itemsize, address(out), out.size, clear)
