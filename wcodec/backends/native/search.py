"""The Viterbi search in C."""

from __future__ import annotations

from ctypes import byref

import numpy as np

from wcodec.backends.native.abi import Native
from wcodec.backends.native.abi import Search as NativeSearch
from wcodec.backends.native.arrays import address, fits
from wcodec.backends.numpy.search import SearchVerbs
from wcodec.coding.trellis_search import F32, Moments, Search
from wcodec.types import U8, UInts


class NativeSearchVerbs(Native, SearchVerbs):
    """The Viterbi search, by C."""

    def trellis_search(
        self, how: Search, x: F32, weights: F32 | None, classes: U8 | None, out: UInts, moments: Moments | None = None
    ) -> None:
        """Write the symbols of the cheapest path of every column: ``wcodec.coding.trellis_search.search``."""
        arrays = [a for a in (x, weights, how.costs, how.shifts) if a is not None]
        if out.itemsize > 2 or out.strides[1] != out.itemsize or not all(fits(a, np.float32, a.size) for a in arrays):
            return super().trellis_search(how, x, weights, classes, out, moments)
        rows, cols = x.shape
        low, high = how.limits(8 * out.itemsize)
        job = NativeSearch(
            rows, cols, out.strides[0] // out.itemsize, how.v, how.costs.shape[1], how.first, how.zero, out.itemsize, low, high,
            address(how.costs), None if how.shifts is None else address(how.shifts), None if classes is None else address(classes),
        )  # fmt: skip
        scratch = np.empty(self._library.wcodec_search_scratch(byref(job)), np.uint8)
        found = (None, None) if moments is None else (address(moments.counts), address(moments.sums))
        weighed = None if weights is None else address(weights)
        self._library.wcodec_trellis_search(byref(job), address(x), weighed, out.ctypes.data, *found, address(scratch))
