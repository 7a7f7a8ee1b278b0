"""raw.md, const.md, bitpack.md, zstd.md, planes.md and concat.md."""

from __future__ import annotations

import numpy as np

from ..manifest import zstd_frame
from ..records import BITS, storage_shape
from ..rules import ceil_div, must
from ..sections import Node, codec


@codec("raw")
def decode_raw(node: Node) -> np.ndarray:
    node.knows()
    node.has_parts("data")
    data = node.stream("data")
    must(len(data) == node.size, "RAW-1", f"{len(data)} bytes where {node.size} are expected")
    return np.frombuffer(data, node.numpy_dtype)


@codec("const")
def decode_const(node: Node) -> np.ndarray:
    node.knows("value")
    node.has_parts()
    value = node.params.get("value")
    must(isinstance(value, bytes), node.rule, "const: the param 'value' is absent or has another type")
    must(len(value) * 8 == node.storage_bits, node.rule, f"const: a value of {len(value)} bytes")
    return np.repeat(np.frombuffer(value, node.numpy_dtype), node.count)


@codec("bitpack")
def decode_bitpack(node: Node) -> np.ndarray:
    node.knows("bits", "base")
    node.has_parts("data")
    k = node.uint("bits", 1, node.storage_bits)
    base = node.uint("base", 0, 2**node.storage_bits - 1, 0)
    data = node.stream("data")
    must(len(data) == ceil_div(node.count * k, 8), "BITPACK-2", f"{len(data)} bytes")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    must(not bits[node.count * k :].any(), "BITPACK-3", "bits after the last value are not zero")
    value = np.full(node.count, base, np.uint64)
    for i in range(k):
        value += bits[i : node.count * k : k].astype(np.uint64) << np.uint64(i)
    return value.astype(node.numpy_dtype)


@codec("zstd")
def decode_zstd(node: Node) -> np.ndarray:
    node.knows()
    node.has_parts("data")
    return np.frombuffer(zstd_frame(node.stream("data"), node.size, node.size, "ZSTD-1"), node.numpy_dtype)


@codec("planes")
def decode_planes(node: Node) -> np.ndarray:
    node.knows("rest", "sign", "patches")
    must(BITS[node.dtype] >= 8, node.rule, f"planes: the dtype {node.dtype}")
    n = node.storage_bits
    r = node.uint("rest", max(n - 16, 0), n - 1)
    sign = node.uint("sign", 0, 2, 0)
    planes = ceil_div(r, 8)
    patches = node.uint("patches", 1, min(node.count, 2**32), 0)
    node.has_parts("symbol", *(f"rest{i}" for i in range(planes)), *(("at", "values") if patches else ()))
    symbol = node.array("symbol", "U8" if n - r <= 8 else "U16", storage_shape(node.dtype, node.shape))
    rest = np.zeros(node.count, np.uint64)
    for i in range(planes):
        rest |= node.array(f"rest{i}", "U8", (node.count,)).astype(np.uint64) << np.uint64(8 * i)
    symbol, rest = symbol.astype(np.uint64), rest & np.uint64((1 << r) - 1)
    if sign == 2:
        v = symbol >> np.uint64(1) << np.uint64(r) | rest | (symbol & np.uint64(1)) << np.uint64(n - 1)
    else:
        v = symbol << np.uint64(r) | rest
    v &= np.uint64((1 << n) - 1)
    if sign == 1:
        v = v >> np.uint64(1) | (v & np.uint64(1)) << np.uint64(n - 1)
    if patches:
        at = node.array("at", "U32", (patches,)).astype(np.int64)
        must(at[-1] < node.count and bool((np.diff(at) > 0).all()), "PLANES-2", "patches out of order or outside the array")
        v[at] = node.array("values", f"U{n}", (patches,)).astype(np.uint64)
    return v.astype(node.numpy_dtype)


@codec("concat", most_parts=65536)
def decode_concat(node: Node) -> np.ndarray:
    node.knows("lengths")
    lengths = node.uints("lengths", 1, 65536, 0, 2**64 - 1)
    must(len(node.shape) >= 1 and sum(lengths) == node.shape[0], node.rule, "`lengths` does not sum to the first dimension")
    node.has_parts(*map(str, range(len(lengths))))
    return np.concatenate([node.array(str(i), node.dtype, (length, *node.shape[1:])) for i, length in enumerate(lengths)])
