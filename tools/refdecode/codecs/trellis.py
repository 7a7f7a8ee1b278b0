"""trellis.md."""

from __future__ import annotations

import numpy as np

from ..entropy import next_trellis_state
from ..floats import SILENT, binary32, narrow
from ..rules import is_uint, must
from ..sections import FLOATS, Node, codec, part_kind
from .rans import order_of, read_params

T = np.array(
    [
        0x3F800000, 0x3F85AAC3, 0x3F8B95C2, 0x3F91C3D3, 0x3F9837F0, 0x3F9EF532, 0x3FA5FED7, 0x3FAD583F,
        0x3FB504F3, 0x3FBD08A4, 0x3FC5672A, 0x3FCE248C, 0x3FD744FD, 0x3FE0CCDF, 0x3FEAC0C7, 0x3FF5257D,
    ],
    np.uint32,
).view(np.float32)  # fmt: skip


def factor(code: int) -> np.float32:
    return T[code % 16] * np.float32(2.0 ** (code // 16 - 8))


def factors(node: Node, name: str, extent: int) -> np.ndarray:
    return np.array([factor(int(code)) for code in node.array(name, "U8", (extent,))], np.float32)


def steps_of(node: Node, given: list[str], step: np.float32) -> np.ndarray:
    """The step of every element: of the tensor, times those of its row and column."""
    rows, cols = node.matrix
    d = np.full((rows, cols), step)
    if "rows" in given:
        d = d * factors(node, "rows", rows)[:, None]
    if "columns" in given:
        d = d * factors(node, "columns", cols)
    return d


def branches(node: Node, symbols: np.ndarray) -> np.ndarray:
    """z0 of every symbol."""
    p = read_params(node)
    order = order_of(node, p)
    state = np.zeros(order.blocks * order.columns, np.int64)
    column = order.block * order.columns + order.position % order.columns
    row = order.position // order.columns
    z0 = np.zeros(len(symbols), np.int64)
    for here in (np.flatnonzero(row == y) for y in range(int(row.max(initial=-1)) + 1)):
        z0[here] = state[column[here]] % 2
        state[column[here]] = next_trellis_state(p.trellis, state[column[here]], symbols[here])
    return z0


@codec("trellis")
def decode_trellis(node: Node) -> np.ndarray:
    node.knows("zero", "step", "wide", "rows", "columns", "points")
    node.takes(*FLOATS)
    wide = node.flag("wide")
    zero = node.uint("zero", 0, 65534 if wide else 254)
    must(zero % 2 == 0, node.rule, "trellis: an odd `zero`")
    step = binary32(node.uint("step", 1, 0x767FFFFF))
    points = node.params.get("points", [0])
    good = isinstance(points, list) and 1 <= len(points) <= 64 and all(is_uint(point, 0, 65535) for point in points)
    must(good, node.rule, f"trellis: `points` is {points!r}")
    points = points if "points" in node.params else []
    given = [name for name in ("rows", "columns") if node.flag(name)]
    part = node.parts.get("symbols")
    if "symbols" in node.parts and part_kind(part) in ("section", "reference"):
        params = part.get("params", {})
        sound = part.get("codec") == "rans" and (not isinstance(params, dict) or "trellis" in params)
        must(sound, "TRELLIS-2", "trellis: the symbols are not a section of rans with a trellis")
    node.has_parts("symbols", *given)
    symbols = node.array("symbols", "U16" if wide else "U8", node.shape).astype(np.int64)
    k = 2 * (symbols - zero) + branches(node.children["symbols"], symbols)
    with np.errstate(**SILENT):
        d = steps_of(node, given, step)
        magnitude = np.array([points[m - 1] / 256 if 1 <= m <= len(points) else m for m in np.abs(k).tolist()], np.float32)
        return narrow(node.dtype, d.reshape(-1) * np.where(k < 0, -magnitude, magnitude))
