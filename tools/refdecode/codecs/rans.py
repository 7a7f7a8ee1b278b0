"""rans.md."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from ..entropy import Order, Tables, decode_blocks, linear_order, read_tables, tiled_order
from ..rules import must
from ..sections import Node, codec


@dataclass
class Params:
    """The params, checked."""

    precision: int
    lanes: int
    block: int
    tile: list[int]
    base: int
    zero: bool
    bits: int
    escape: int | None
    outliers: int
    trellis: int
    classes: list[int]
    map: bytes
    table_size: int | None


def read_params(node: Node) -> Params:
    node.takes("U8", "U16", "U32")
    node.knows(*Params.__dataclass_fields__)
    check_presence(node)
    given = node.params.keys()
    lanes = node.uint("lanes", 0, 5, 5)
    must(lanes in (0, 2, 5), node.rule, f"`lanes` is {lanes}")
    tile = node.uints("tile", 2, 2, 1, 2**17) if "tile" in given else [1, 128]
    must(tile[1] % (4 << lanes) == 0 and prod(tile) <= 2**17, node.rule, f"`tile` is {tile}")
    classes = node.uints("classes", 2, 2, 1, 256) if "classes" in given else [1, 1]
    table_map = node.params.get("map", b"\0")
    good = isinstance(table_map, bytes) and prod(classes) <= 4096 and len(table_map) == prod(classes)
    must(good, node.rule, "`map` has another type, or not the size of `classes`")
    p = Params(
        precision=node.uint("precision", 8, 12),
        lanes=1 << lanes,
        block=128 * node.uint("block", 1, 1024, 0),
        tile=tile,
        base=node.uint("base", 0, 2**32 - 1, 0),
        zero=node.flag("zero"),
        bits=node.uint("bits", 1, 16, 0),
        escape=node.uint("escape", 0, 255) if "escape" in given else None,
        outliers=node.uint("outliers", 0, 2**32 - 1, 0),
        trellis=node.uint("trellis", 2, 8, 0),
        classes=classes,
        map=table_map,
        table_size=node.uint("table_size", 0, 2**32 - 1) if "table_size" in given else None,
    )
    must(not p.trellis or p.classes[1] == 1, node.rule, "column classes with a trellis")
    must(not p.trellis or not p.escape or p.escape % 2 == 0, node.rule, "an odd `escape` with a trellis")
    return p


def check_presence(node: Node) -> None:
    """Which params stand together, and which exclude each other."""
    given = node.params.keys()
    must(("block" in given) != ("tile" in given), node.rule, "not exactly one of `block` and `tile`")
    must(("escape" in given) == ("outliers" in given), node.rule, "not both or none of `escape` and `outliers`")
    must(("classes" in given) == ("map" in given), node.rule, "not both or none of `classes` and `map`")
    must(not {"trellis", "classes"} <= given or "tile" in given, node.rule, "`trellis` and `classes` without `tile`")


def part_names(p: Params) -> list[str]:
    present = {
        "data": True,
        "tables": p.table_size is not None,
        "rest": p.bits > 0,
        "outliers": p.escape is not None,
        "counts": p.escape is not None,
        "rows": p.classes[0] > 1,
        "columns": p.classes[1] > 1,
    }
    return [name for name, here in present.items() if here]


def read_data(node: Node, p: Params) -> tuple[Tables, bytes]:
    """The tables, and the stream without them."""
    number = (1 + max(p.map)) * (2 if p.trellis else 1)
    stream = node.stream("data")
    if p.table_size is None:
        tables, used = read_tables(stream, number, p.precision)
        return tables, stream[used:]
    shared = node.array("tables", "U8", (p.table_size,)).tobytes()
    tables, used = read_tables(shared, number, p.precision)
    must(used == len(shared), "E-1", "the tables do not fill the part `tables`")
    return tables, stream


def mapped(node: Node, p: Params) -> np.ndarray:
    """What `map` says of every symbol."""
    classes = []
    for name, extent, number in zip(("rows", "columns"), node.matrix, p.classes, strict=True):
        its = node.array(name, "U8", (extent,)).astype(np.int64) if number > 1 else np.zeros(extent, np.int64)
        must(bool((its < number).all()), "RANS-2", f"an entry of `{name}` is not below the number of classes")
        classes.append(its)
    pair = classes[0][:, None] * p.classes[1] + classes[1][None, :]
    return np.frombuffer(p.map, np.uint8).astype(np.int64)[pair.reshape(-1)]


def put_outliers(node: Node, p: Params, order: Order, escaped: np.ndarray, h: np.ndarray) -> None:
    outliers = node.array("outliers", "U32", (p.outliers,))
    counts = node.array("counts", "U32", (order.blocks,))
    must(int(counts.astype(np.uint64).sum()) == p.outliers, "RANS-3", "`counts` does not sum to `outliers`")
    held = np.bincount(order.block[escaped], minlength=order.blocks)
    must(bool((held == counts).all()), "RANS-3", "a block holds another number of escapes")
    by_position = np.lexsort((order.position, order.block))
    h[by_position[escaped[by_position]]] = outliers


def order_of(node: Node, p: Params) -> Order:
    return linear_order(node.count, p.block, p.lanes) if p.block else tiled_order(*node.matrix, *p.tile, p.lanes)


@codec("rans")
def decode_rans(node: Node) -> np.ndarray:
    p = read_params(node)
    node.has_parts(*part_names(p))
    order = order_of(node, p)
    tables, stream = read_data(node, p)
    token = decode_blocks(stream, tables, order, mapped(node, p), p.trellis)
    # 1. h
    k = token // 2 if p.trellis else token
    h = (k + p.base).astype(np.uint64)
    if p.zero:
        h[k == 0] = 0
    if p.escape is not None:
        put_outliers(node, p, order, k == (p.escape // 2 if p.trellis else p.escape), h)
    # 2. and 3. the element
    element = h << np.uint64(p.bits)
    if p.bits:
        rest = node.array("rest", "U8" if p.bits <= 8 else "U16", (node.count,))
        element |= rest.astype(np.uint64) & np.uint64((1 << p.bits) - 1)
    if p.trellis:
        element = element << np.uint64(1) | (token % 2).astype(np.uint64)
    return element.astype(node.numpy_dtype)
