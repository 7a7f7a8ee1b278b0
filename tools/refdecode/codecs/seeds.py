"""philox.md, mt19937.md and draw.md."""

from __future__ import annotations

import numpy as np

from .. import rng
from ..floats import binary32, narrow
from ..rules import ceil_div, must
from ..sections import FLOATS, Node, codec


def words(node: Node) -> np.ndarray:
    """The words that the params of rng.md, section 1, give: one for every element."""
    seed, id, stream = (node.uint(name, 0, 2**bits - 1, rule="G-1") for name, bits in (("seed", 64), ("id", 32), ("stream", 32)))
    return rng.philox_words(seed, id, stream, node.count)


@codec("philox")
def decode_philox(node: Node) -> np.ndarray:
    node.knows("seed", "id", "stream", "kind", "scale", "decay")
    node.takes(*FLOATS)
    kind = node.params.get("kind")
    must(kind in ("uniform", "normal"), node.rule, f"philox: the kind {kind!r}")
    scale = binary32(node.uint("scale", 0x21800000, 0x5D800000))
    decay = binary32(node.uint("decay", 0x2B800000, 0x3F800000, 0x3F800000))
    node.has_parts()
    numbers = rng.uniform(words(node)) if kind == "uniform" else rng.normal(words(node))
    return narrow(node.dtype, decay * (scale * numbers))


def bound(node: Node, name: str) -> np.float32:
    """A param that is ±0 or of magnitude 2^-60 to 2^60."""
    bits = node.uint(name, 0, 2**32 - 1)
    magnitude = bits % 2**31
    must(magnitude == 0 or 0x21800000 <= magnitude <= 0x5D800000, node.rule, f"mt19937: {name!r} is {bits:#010x}")
    return binary32(bits)


@codec("mt19937")
def decode_mt19937(node: Node) -> np.ndarray:
    node.knows("seed", "offset", "low", "high")
    node.takes(*FLOATS)
    seed = node.uint("seed", 0, 2**32 - 1)
    offset = node.uint("offset", 0, 2**48, rule="MT19937-2")
    low, high = bound(node, "low"), bound(node, "high")
    must(bool(low < high), node.rule, "mt19937: `low` is not below `high`")
    node.has_parts()
    return narrow(node.dtype, rng.torch_uniform(rng.mt19937_words(seed, offset, node.count), low, high))


@codec("draw")
def decode_draw(node: Node) -> np.ndarray:
    node.knows("seed", "id", "stream", "threshold", "counts")
    node.takes("BOOL")
    threshold = node.uint("threshold", 0, 2**32 - 1)
    counted = node.flag("counts")
    node.has_parts(*(["counts"] if counted else []))
    mask = (words(node) < threshold).astype(np.uint8)
    if counted:
        counts = node.array("counts", "U32", (ceil_div(node.count, 2**20),))
        ones = [int(mask[i * 2**20 : (i + 1) * 2**20].sum()) for i in range(len(counts))]
        must(counts.tolist() == ones, "DRAW-2", "`counts` states other numbers of ones")
    return mask
