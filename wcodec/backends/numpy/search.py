"""The search of encoders for the best path through a trellis."""

from __future__ import annotations

from wcodec.coding import trellis_search
from wcodec.coding.trellis_search import F32, Moments, Search
from wcodec.types import U8, UInts


class SearchVerbs:
    """The Viterbi search."""

    def trellis_search(
        self, how: Search, x: F32, weights: F32 | None, classes: U8 | None, out: UInts, moments: Moments | None = None
    ) -> None:
        """Write the symbols of the cheapest path of every column: ``wcodec.coding.trellis_search.search``."""
        trellis_search.search(how, x, weights, classes, out, moments)
