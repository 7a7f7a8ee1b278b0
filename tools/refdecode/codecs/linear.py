"""uniform.md, sum.md, lowrank.md and tensortrain.md."""

from __future__ import annotations

from math import prod

import numpy as np

from ..floats import SILENT, narrow
from ..rules import ceil_div, must
from ..sections import FLOATS, Node, codec

GREATEST = float(np.finfo(np.float32).max)
UNIT = 2.0**-24


@codec("uniform")
def decode_uniform(node: Node) -> np.ndarray:
    node.knows("levels", "zero", "per", "group")
    node.takes(*FLOATS)
    zero = node.uint("zero", 0, 2**24 - 1)
    levels = node.uint("levels", 1, zero + 2**24)
    per = node.params.get("per")
    must("per" not in node.params or per in ("row", "column", "group"), node.rule, f"uniform: `per` is {per!r}")
    must(("group" in node.params) == (per == "group"), node.rule, "uniform: `group` without its `per`, or the other way round")
    rows, cols = node.matrix
    group = node.uint("group", 1, 2**32 - 1, max(cols, 1))
    node.has_parts("symbols", "steps")
    row, column = np.divmod(np.arange(node.count), max(cols, 1))
    groups = ceil_div(cols, group)
    number, index = {
        None: (1, np.zeros_like(row)),
        "row": (rows, row),
        "column": (cols, column),
        "group": (rows * groups, row * groups + column // group),
    }[per]
    symbols = node.array("symbols", "U8" if levels <= 2**8 else "U16" if levels <= 2**16 else "U32", node.shape)
    must(bool((symbols < levels).all()), "UNIFORM-3", "a symbol is not below `levels`")
    steps = node.array("steps", "F32", (number,)).view(np.float32)[index]
    must(bool(np.isfinite(steps).all()), "UNIFORM-2", "a step is not finite")
    with np.errstate(**SILENT):
        return narrow(node.dtype, steps * (symbols.astype(np.int64) - zero).astype(np.float32))


def finite(node: Node, name: str, shape: tuple[int, ...], rule: str) -> np.ndarray:
    """The F32 part `name` as floats of the shape `shape`."""
    values = node.array(name, "F32", shape).view(np.float32).reshape(shape)
    must(bool(np.isfinite(values).all()), rule, f"{node.name}: the part {name!r} has an element that is not finite")
    return values


@codec("sum")
def decode_sum(node: Node) -> np.ndarray:
    node.knows("layers", "tolerant")
    node.takes(*FLOATS)
    layers = node.uint("layers", 1, 256)
    must(node.params.get("tolerant", True) is True, node.rule, "sum: `tolerant` is not true")
    node.has_parts(*map(str, range(layers)))
    total = np.zeros(node.count, np.float32)
    with np.errstate(**SILENT):
        for i in range(layers):
            total = total + finite(node, str(i), node.shape, "SUM-2").reshape(-1)
    must(("tolerant" in node.params) == node.tolerant, "SUM-3", "`tolerant` is not what the parts are")
    return narrow(node.dtype, total)


def within(node: Node, exact: np.ndarray, terms: int, magnitude: np.ndarray, tiny: float) -> np.ndarray:
    """A matrix that a tolerant codec may give, on the side that the container asks for, rounded and flat.

    `exact` and `magnitude` are computed in binary64, whose own error is 2^-29 of the bound.
    """
    with np.errstate(**SILENT):
        bound = terms * UNIT / (1 - terms * UNIT) * magnitude + tiny * 2.0**-149
        unbounded = (magnitude > GREATEST) | (terms * UNIT >= 1)
        values = exact + node.container.side * np.where(unbounded, np.inf, bound) if node.container.side else exact
        return narrow(node.dtype, values.astype(np.float32).reshape(-1))


@codec("lowrank", tolerant=True)
def decode_lowrank(node: Node) -> np.ndarray:
    node.knows("rank")
    node.takes(*FLOATS)
    rows, cols = node.matrix
    k = node.uint("rank", 1, max(1, cols))
    node.has_parts("left", "right")
    left = finite(node, "left", (rows, k), "LOWRANK-2").astype(np.float64)
    right = finite(node, "right", (k, cols), "LOWRANK-2").astype(np.float64)
    return within(node, left @ right, k, abs(left) @ abs(right), k)


def contract(cores: list[np.ndarray]) -> np.ndarray:
    """The product of neighbouring cores, [first bond, rows, columns, last bond]."""
    train = cores[0]
    for core in cores[1:]:
        a, rows, columns, _ = train.shape
        _, o, i, b = core.shape
        train = np.einsum("ARCx,xoib->ARoCib", train, core).reshape(a, rows * o, columns * i, b)
    return train


def check_bonds(node: Node, o: list[int], i: list[int], bonds: list[int]) -> None:
    for name, sizes, extent in zip(("rows", "columns"), (o, i), node.matrix, strict=True):
        good = extent <= prod(sizes) <= 2 * max(extent, 1)
        must(good, "TENSORTRAIN-2", f"the param {name!r} has the product {prod(sizes)} for {extent}")
    pairs = [a * b for a, b in zip(o, i, strict=True)]
    for cut, bond in enumerate(bonds, 1):
        must(bond <= min(prod(pairs[:cut]), prod(pairs[cut:])), "TENSORTRAIN-2", f"a bond of {bond}")


@codec("tensortrain", tolerant=True)
def decode_tensortrain(node: Node) -> np.ndarray:
    node.knows("rows", "columns", "bonds")
    node.takes(*FLOATS)
    o = node.uints("rows", 1, 256, 1, 2**32 - 1)
    n = len(o)
    i = node.uints("columns", n, n, 1, 2**32 - 1)
    bonds = node.uints("bonds", n - 1, n - 1, 1, 2**32 - 1)
    check_bonds(node, o, i, bonds)
    node.has_parts(*map(str, range(n)))
    shapes = zip([1, *bonds], o, i, [*bonds, 1], strict=True)
    cores = [finite(node, str(part), shape, "TENSORTRAIN-3").astype(np.float64) for part, shape in enumerate(shapes)]
    rows, cols = node.matrix
    exact, magnitude, tiny = contract(cores), contract([abs(core) for core in cores]), 0.0
    if node.container.side:
        absolute = [abs(core) for core in cores]
        tiny = sum(bonds) * max(1.0, *(float(contract(absolute[a : b + 1]).max()) for b in range(n) for a in range(b + 1)))
    return within(node, exact[0, :rows, :cols, 0], sum(bonds), magnitude[0, :rows, :cols, 0], tiny)
