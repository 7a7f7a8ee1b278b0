"""Look-up in a codebook (spec/codecs/codebook.md)."""

from __future__ import annotations

import numpy as np

from wcodec.errors import Corrupt
from wcodec.types import UInts


def gather(centroids: UInts, width: int, indices: UInts, out: UInts) -> None:
    """Write the centroids, of ``width`` elements each, at the indices to out. Raises Corrupt [CODEBOOK-2]."""
    count = centroids.size // width
    if int(indices.max(initial=0)) >= count and indices.size:
        raise Corrupt(f"index {int(indices.max())} into a codebook of {count}", rule="CODEBOOK-2")
    if width == 1:
        np.take(centroids, indices, out=out, mode="clip")  # clips nothing, and needs no buffer
    else:
        np.take(centroids.reshape(count, width), indices, axis=0, out=out.reshape(-1, width), mode="clip")
