"""Codebooks in C."""

from __future__ import annotations

import numpy as np

from wcodec.backends.native.abi import Native
from wcodec.backends.native.arrays import address, fits
from wcodec.backends.numpy.codebook import CodebookVerbs
from wcodec.types import UInts


class NativeCodebook(Native, CodebookVerbs):
    """Centroids looked up by C."""

    def gather(self, centroids: UInts, width: int, indices: UInts, out: UInts) -> None:
        """Write the centroids, of ``width`` elements each, at the indices (U8 or U16) to out. Raises Corrupt [CODEBOOK-2]."""
        known = indices.dtype in (np.uint8, np.uint16) and indices.flags.c_contiguous
        if not known or not gathers(centroids, width, indices.size, out):
            return super().gather(centroids, width, indices, out)
        entries, size = centroids.size // width, width * out.itemsize
        inside = self._library.wcodec_gather(
            address(centroids), entries, size, address(indices), indices.itemsize, indices.size, address(out)
        )
        if not inside:  # numpy says which
            super().gather(centroids, width, indices, out)


def gathers(centroids: UInts, width: int, count: int, out: UInts) -> bool:
    """Whether C may write ``count`` centroids to out."""
    whole = centroids.size % width == 0 and centroids.size < 2**32 and width * out.itemsize < 2**32
    return whole and fits(centroids, out.dtype, 0) and fits(out, out.dtype, 0) and out.size == count * width
