"""The search of encoders for the best path through a trellis."""

from __future__ import annotations

from collections.abc import Iterable

from wcodec.coding import trellis_search
from wcodec.coding.trellis_search import F32, Moments, Piece, Search
from wcodec.types import U8, UInts


class SearchVerbs:
    """The Viterbi search."""

    def trellis_search(
        self, how: Search, x: F32, weights: F32 | None, classes: U8 | None, out: UInts, moments: Moments | None = None
    ) -> None:
        """Write the symbols of the cheapest path of every column: ``wcodec.coding.trellis_search.search``."""
        trellis_search.search(how, x, weights, classes, out, moments)

    def trellis_search_pieces(self, how: Search, pieces: Iterable[Piece], moments: Moments) -> None:
        """Search many pieces, in memory of the host; each is asked for when its turn comes."""
        for its in pieces:
            self.trellis_search(how, its.x, its.weights, its.classes, its.out, moments)
