"""The verb of codebooks (spec/codecs/codebook.md)."""

from __future__ import annotations

from wcodec.coding import codebook
from wcodec.types import UInts


class CodebookVerbs:
    """Looking centroids up."""

    def gather(self, centroids: UInts, width: int, indices: UInts, out: UInts) -> None:
        """Write the centroids, of ``width`` elements each, at the indices (U8 or U16) to out. Raises Corrupt [CODEBOOK-2]."""
        codebook.gather(centroids, width, indices, out)
