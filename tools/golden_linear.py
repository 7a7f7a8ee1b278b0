"""Golden cases of the approximating codecs of floats. What they decode to is computed here, element by element, or known to be exact."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from golden_cases import ENV, Builder, good, raw

from wcodec.codecs import CODECS, decode_all
from wcodec.codecs.base import decode
from wcodec.types import Resource, Section, Spec

KINDS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
SHAPES = (("F32", (20, 33)), ("BF16", (7, 5, 11)), ("F16", (130,)), ("F64", (9, 6)), ("F32", ()), ("BF16", (0, 4)), ("F32", (3, 0)))


def stored(values: Any, dtype: str) -> Any:
    """Round float32 to storage elements."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32).reshape(-1).astype(KINDS[dtype]).view(Spec.of(dtype).dtype.storage)


def uniform_values(section: Section, spec: Spec) -> Any:
    """Decode a uniform section by its page, one element after the other."""
    expected = CODECS["uniform"].parts(section, spec)
    symbols, steps = (decode_all(section.parts[key], expected[key], ENV) for key in ("symbols", "steps"))
    steps, p = steps.view(np.float32), section.params
    rows = spec.shape[0] if len(spec.shape) > 1 else 1
    cols = spec.count // rows if rows else 0
    found = np.empty(spec.count, np.float32)
    for e in range(spec.count):
        r, c = divmod(e, cols)
        at = {None: 0, "row": r, "column": c, "group": r * -(-cols // p.get("group", 1)) + c // p.get("group", 1)}[p.get("per")]
        with np.errstate(over="ignore"):
            found[e] = steps[at] * np.float32(int(symbols[e]) - p["zero"])
    return found


def _uniform(options: Any, seed: int) -> Any:
    b = Builder(seed=seed)
    for i, (dtype, shape) in enumerate(SHAPES):
        spec = Spec.of(dtype, *shape)
        section = CODECS["uniform"].encode(stored(b.rng.standard_normal(spec.count), dtype), spec, ENV, **options)
        b.add(f"{i}.{dtype}", dtype, shape, stored(uniform_values(section, spec), dtype), section)
    return b.done()


for _i, _options in enumerate(CODECS["uniform"].examples):
    good(f"uniform-{_i}", f"codec uniform with {_options or 'no options'}")(lambda o=_options, i=_i: _uniform(o, i))


@good("uniform-rounding", "every rounding to F16 and BF16: ties, subnormals, overflow; symbols of every width, steps of both signs and 0")
def _() -> Any:
    b = Builder()
    steps = np.array([1, -1, 2**-24, 3 * 2**-26, 65504 / 128, 1e-40, 0, 2.0**120, 1.0009765625, 1.00390625, 0.1], np.float32)
    for dtype in KINDS:
        for levels, kind, zero in ((256, np.uint8, 77), (2000, np.uint16, 1000), (2**24 + 9, np.uint32, 10)):
            spec = Spec.of(dtype, steps.size, 30)
            symbols = np.minimum(b.rng.integers(0, levels, spec.count), levels - 1).astype(kind)
            symbols[::7], symbols[1::7] = levels - 1, zero
            parts = {"symbols": raw(symbols), "steps": raw(steps)}
            section = Section("uniform", {"levels": levels, "zero": zero, "per": "row"}, parts)
            b.add(f"{dtype}.{levels}", dtype, spec.shape, stored(uniform_values(section, spec), dtype), section)
    return b.done()


def _sum(options: Any, seed: int) -> Any:
    b = Builder(seed=seed)
    for i, (dtype, shape) in enumerate(SHAPES):
        spec, layer = Spec.of(dtype, *shape), Spec.of("F32", *shape)
        section = CODECS["sum"].encode(stored(b.rng.standard_normal(spec.count), dtype), spec, ENV, **options)
        total = np.zeros(spec.count, np.float32)
        for key in range(section.params["layers"]):
            out = np.empty(spec.count, np.uint32)
            decode(section.parts[str(key)], layer, ENV, 0, spec.count, out)
            total = total + out.view(np.float32)
        b.add(f"{i}.{dtype}", dtype, shape, stored(total, dtype), section)
    return b.done()


for _i, _options in enumerate(CODECS["sum"].examples):
    good(f"sum-{_i}", f"codec sum with {_options or 'no options'}")(lambda o=_options, i=_i: _sum(o, i))


def _product(left: Any, right: Any, section: Section, b: Builder, name: str, dtype: str, shape: tuple[int, ...]) -> None:
    """Add a product of integers, which is exact in any order."""
    b.add(name, dtype, shape, stored(left.astype(np.int64) @ right.astype(np.int64), dtype), section)


def integers(b: Builder, *shape: int) -> Any:
    return b.rng.integers(-6, 7, shape).astype(np.float32)


def _coded(x: Any, quantised: bool) -> Section:
    """Integers as they are, or as multiples of 1."""
    if not quantised:
        return raw(x)
    return CODECS["uniform"].encode(x.reshape(-1).view(np.uint32), Spec.of("F32", *x.shape), ENV, step=1.0)


def _lowrank(quantised: bool) -> Any:
    b = Builder(seed=int(quantised))
    for i, (dtype, shape) in enumerate(SHAPES):
        rows = shape[0] if len(shape) > 1 else 1
        cols = int(np.prod(shape)) // rows if rows else 0
        rank = min(3, max(1, cols))
        left, right = integers(b, rows, rank), integers(b, rank, cols)
        section = Section("lowrank", {"rank": rank}, {"left": _coded(left, quantised), "right": _coded(right, quantised)})
        _product(left, right, section, b, f"{i}.{dtype}", dtype, shape)
    return b.done()


good("lowrank-0", "products of integer factors, stored as they are")(lambda: _lowrank(False))
good("lowrank-1", "products of integer factors, stored as multiples of 1")(lambda: _lowrank(True))


@good("lowrank-shared", "members of different heights that share a right factor; one cut into heads; products under sum and concat")
def _() -> Any:
    b = Builder()
    right = integers(b, 5, 24)
    shared = Resource(Spec.of("F32", 5, 24), raw(right))
    lefts = [integers(b, rows, 5) for rows in (24, 8, 3)]
    sections = [Section("lowrank", {"rank": 5}, {"left": raw(left), "right": shared}) for left in lefts]
    for name, left, section in zip(("q", "k", "tiny"), lefts, sections, strict=True):
        _product(left, right, section, b, name, "BF16", (left.shape[0], 24))
    value = integers(b, 8, 24)
    fused = Section("concat", {"lengths": [24, 8]}, {"0": sections[0], "1": raw(value)})
    b.add("fused", "F32", (32, 24), stored(np.vstack([lefts[0] @ right, value]), "F32"), fused)
    total = Section("sum", {"layers": 2, "tolerant": True}, {"0": sections[1], "1": raw(value)})
    b.add("sum", "F16", (8, 24), stored(lefts[1] @ right + value, "F16"), total)
    return b.done()


def _train(quantised: bool) -> Any:
    b = Builder(seed=int(quantised))
    for i, (dtype, shape, o, c, bonds) in enumerate((
        ("F32", (12, 10), (3, 2, 2), (2, 5, 1), (4, 2)), ("BF16", (7, 3, 3), (2, 4), (3, 3), (5,)), ("F16", (9,), (1, 1), (3, 4), (2,)),
        ("F64", (5, 6), (5,), (6,), ()), ("F32", (), (1, 1, 1), (1, 1, 1), (1, 1)), ("F32", (0, 3), (1, 2), (2, 1), (1,)),
    )):  # fmt: skip
        cores = [integers(b, *its) for its in zip((1, *bonds), o, c, (*bonds, 1), strict=True)]
        matrix = np.zeros((int(np.prod(o)), int(np.prod(c))), np.int64)
        for at, row in enumerate(np.ndindex(*o)):
            for to, column in enumerate(np.ndindex(*c)):
                product = np.ones((1, 1), np.int64)
                for core, r, k in zip(cores, row, column, strict=True):
                    product = product @ core[:, r, k, :].astype(np.int64)
                matrix[at, to] = product[0, 0]
        rows = shape[0] if len(shape) > 1 else 1
        cols = int(np.prod(shape)) // rows if rows else 0
        params = {"rows": list(o), "columns": list(c), "bonds": list(bonds)}
        section = Section("tensortrain", params, {str(n): _coded(core, quantised) for n, core in enumerate(cores)})
        b.add(f"{i}.{dtype}", dtype, shape, stored(matrix[:rows, :cols], dtype), section)
    return b.done()


good("tensortrain-0", "trains of integer cores, stored as they are")(lambda: _train(False))
good("tensortrain-1", "trains of integer cores, stored as multiples of 1")(lambda: _train(True))
