"""codebook.md."""

from __future__ import annotations

import numpy as np

from ..records import BITS
from ..rules import ceil_div, must
from ..sections import Node, codec


@codec("codebook")
def decode_codebook(node: Node) -> np.ndarray:
    node.knows("centroids", "width")
    must(BITS[node.dtype] >= 8, node.rule, f"codebook: the dtype {node.dtype}")
    rows, cols = node.matrix
    number = node.uint("centroids", 1, 65536)
    width = node.uint("width", 2, min(65536, cols), 1)
    node.has_parts("centroids", "indices")
    each = BITS[node.dtype] // node.storage_bits  # storage elements of an element
    blocks = ceil_div(cols, width)
    centroids = node.array("centroids", node.dtype, (number,) if width == 1 else (number, width)).reshape(number, width * each)
    indices = node.array("indices", "U8" if number <= 256 else "U16", node.shape if width == 1 else (rows, blocks))
    must(bool((indices < number).all()), "CODEBOOK-2", "an index is not below `centroids`")
    return centroids[indices].reshape(rows, blocks * width * each)[:, : cols * each].reshape(-1)
