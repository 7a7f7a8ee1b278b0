"""sparse.md."""

from __future__ import annotations

import numpy as np

from ..floats import SILENT, narrow, widen
from ..records import BITS
from ..rules import must
from ..sections import FLOATS, Node, codec

NAN = {"F32": 0x7FC00000, "F16": 0x7E00, "BF16": 0x7FC0, "F64": 0x7FF8000000000000}


@codec("sparse")
def decode_sparse(node: Node) -> np.ndarray:
    node.knows("kept", "delta")
    must(BITS[node.dtype] >= 8 and node.dtype != "C64", node.rule, f"sparse: the dtype {node.dtype}")
    kept = node.uint("kept", 0, node.count)
    delta, filled = node.flag("delta"), "fill" in node.parts
    must(not delta or (filled and node.dtype in FLOATS), node.rule, "sparse: `delta` without a fill of floats")
    node.has_parts("mask", "values", *(["fill"] if filled else []))
    at = np.flatnonzero(node.array("mask", "BOOL", node.shape))
    must(len(at) == kept, "SPARSE-2", f"the mask keeps {len(at)} elements where {kept} are expected")
    values = node.array("values", node.dtype, (kept,))
    elements = node.array("fill", node.dtype, node.shape).copy() if filled else np.zeros(node.count, node.numpy_dtype)
    elements[at] = add(node.dtype, elements[at], values) if delta else values
    return elements


def add(dtype: str, fill: np.ndarray, values: np.ndarray) -> np.ndarray:
    with np.errstate(**SILENT):
        total = widen(dtype, fill) + widen(dtype, values)
    absent = np.isnan(total)
    total[absent] = 0
    elements = total.view("<u8") if dtype == "F64" else narrow(dtype, total)
    elements[absent] = NAN[dtype]
    return elements
