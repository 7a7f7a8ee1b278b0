"""gaps.md, bitmap.md, nm.md and gs.md."""

from __future__ import annotations

from math import comb, prod

import numpy as np

from ..rules import ceil_div, must
from ..sections import Node, codec


def gap_dtype(node: Node) -> str:
    bits = node.uint("bits", 8, 32, 8)
    must(bits in (8, 16, 32), node.rule, f"{node.name}: `bits` is {bits}")
    return f"U{bits}"


def places(gaps: np.ndarray) -> np.ndarray:
    """The places that gaps keep: g + 1 after the one before, the first at g."""
    return np.cumsum(gaps.astype(np.int64) + 1) - 1


@codec("gaps")
def decode_gaps(node: Node) -> np.ndarray:
    node.knows("kept", "block", "bits")
    node.takes("BOOL")
    kept = node.uint("kept", 0, node.count)
    block = node.uint("block", 1, 2**24)
    dtype = gap_dtype(node)
    node.has_parts("counts", "gaps")
    counts = node.array("counts", "U32", (ceil_div(node.count, block),)).tolist()
    gaps = node.array("gaps", dtype, (kept,))
    must(sum(counts) == kept, "GAPS-2", "`counts` does not sum to `kept`")
    mask, used = np.zeros(node.count, np.uint8), 0
    for b, n in enumerate(counts):
        at = places(gaps[used : used + n])
        here = mask[b * block : (b + 1) * block]
        must(bool((at < len(here)).all()), "GAPS-3", f"an element of block {b} lies beyond it")
        here[at] = 1
        used += n
    return mask


@codec("bitmap")
def decode_bitmap(node: Node) -> np.ndarray:
    node.knows("block")
    node.takes("BOOL")
    block = node.uint("block", 8, 2**24)
    must(block % 8 == 0, node.rule, f"bitmap: `block` is {block}")
    node.has_parts("bits", "counts")
    bits = np.unpackbits(node.array("bits", "U8", (ceil_div(node.count, 8),)), bitorder="little")
    counts = node.array("counts", "U32", (ceil_div(node.count, block),)).tolist()
    must(not bits[node.count :].any(), "BITMAP-3", "bits after the last element are not zero")
    mask = bits[: node.count]
    kept = [int(mask[b * block : (b + 1) * block].sum()) for b in range(len(counts))]
    must(kept == counts, "BITMAP-2", "a block keeps another number of elements")
    return mask


def keep_patterns(groups: np.ndarray, patterns: np.ndarray, n: int) -> None:
    """Set the places of `groups` [outer, G, L, inner] that `patterns` [outer, G, inner] keep."""
    length = groups.shape[2]
    k = min(n, length)
    must(bool((patterns < comb(length, k)).all()), "NM-2", "a pattern beyond the last one")
    left = patterns.astype(np.int64)
    for i in range(k, 0, -1):
        binomials = np.array([comb(j, i) for j in range(length)])
        j = np.searchsorted(binomials, left, side="right") - 1
        left -= binomials[j]
        np.put_along_axis(groups, j[:, :, None, :], 1, axis=2)


@codec("nm")
def decode_nm(node: Node) -> np.ndarray:
    node.knows("n", "m", "axis")
    node.takes("BOOL")
    m = node.uint("m", 1, 32)
    n = node.uint("n", 1, m)
    axis = node.uint("axis", 0, len(node.shape) - 1)
    node.has_parts("patterns")
    extent, outer, inner = node.shape[axis], prod(node.shape[:axis]), prod(node.shape[axis + 1 :])
    number, full = ceil_div(extent, m), extent // m
    dtype = "U8" if comb(m, n) <= 2**8 else "U16" if comb(m, n) <= 2**16 else "U32"
    patterns = node.array("patterns", dtype, (outer * number * inner,)).reshape(outer, number, inner)
    mask = np.zeros((outer, extent, inner), np.uint8)
    whole = np.zeros((outer, full, m, inner), np.uint8)
    keep_patterns(whole, patterns[:, :full], n)
    mask[:, : full * m] = whole.reshape(outer, full * m, inner)
    if full < number:
        keep_patterns(mask[:, None, full * m :], patterns[:, full:], n)
    return mask.reshape(-1)


@codec("gs")
def decode_gs(node: Node) -> np.ndarray:
    node.knows("banks", "per_row", "groups", "bits", "scatter")
    node.takes("BOOL")
    rows, cols = node.matrix
    banks = node.uint("banks", 1, 256)
    per_row = node.uint("per_row", 1, banks)
    must(banks % per_row == 0, node.rule, "gs: `per_row` does not divide `banks`")
    groups = node.uint("groups", 0, node.count // banks)
    dtype, scatter = gap_dtype(node), node.flag("scatter")
    high, wide = banks // per_row, ceil_div(cols, banks)  # R, Q
    must(rows % high == 0 and high * wide * banks < 2**31, node.rule, "gs: bundles do not divide the rows, or are too large")
    node.has_parts("counts", "gaps", *(["rows"] if scatter else []))
    counts = node.array("counts", "U32", (rows // high,)).tolist()
    gaps = node.array("gaps", dtype, (groups * banks,))
    must(sum(counts) == groups, "GS-2", "`counts` does not sum to `groups`")
    mask, used = np.zeros((rows, wide * banks), np.uint8), 0
    for b, n in enumerate(counts):
        bundle = mask[b * high : (b + 1) * high]
        for lane in range(banks):
            at = places(gaps[used : used + n])
            must(bool((at < high * wide).all()), "GS-3", f"an element of bundle {b} lies beyond it")
            bundle[at // wide, at % wide * banks + lane] = 1
            used += n
        must(not bundle[:, cols:].any(), "GS-3", f"an element of bundle {b} lies beyond its row")
        must(bool((bundle.sum(axis=1) == n * per_row).all()), "GS-3", f"a row of bundle {b} keeps another number of elements")
    mask = mask[:, :cols]
    if scatter:
        order = node.array("rows", "U32", (rows,))
        must(bool((np.sort(order) == np.arange(rows)).all()), "GS-4", "`rows` is no permutation")
        permuted, mask = mask, np.empty_like(mask)
        mask[order] = permuted
    return mask.reshape(-1)
