"""Golden cases of the trellis quantiser. What they decode to is computed here, column by column, by its page."""

from __future__ import annotations

from typing import Any

import numpy as np
from golden_cases import ENV, Builder, good
from golden_linear import SHAPES, stored

from wcodec.codecs import CODECS, decode_all
from wcodec.codecs.floats.trellis import assemble
from wcodec.coding.trellis import Quantised
from wcodec.types import Section, Spec

H0 = (0, 0, 0o5, 0o13, 0o23, 0o45, 0o103, 0o235, 0o515)
H1 = (0, 0, 0o2, 0o4, 0o4, 0o10, 0o24, 0o126, 0o362)


def branches(symbols: Any, rows: int, cols: int, params: Any) -> Any:
    """z0 of every symbol, one after the other, from the params of their section."""
    width, found = 4 << params.get("lanes", 5), np.zeros(symbols.size, np.int64)
    state: dict[tuple[int, ...], int] = {}
    for e, u in enumerate(symbols.tolist()):
        r, c = divmod(e, cols)
        key = (r // params["tile"][0], c) if "tile" in params else divmod(e, 128 * params["block"])
        key = key if "tile" in params else (key[0], key[1] % width)
        s, v = state.get(key, 0), params["trellis"]
        found[e] = s & 1
        state[key] = s >> 1 ^ (H0[v] >> 1 if s & 1 else 0) ^ (H1[v] >> 1 if u & 1 else 0)
    return found


def factor(code: int) -> Any:
    return np.float32(2.0 ** (code % 16 / 16)) * np.float32(2.0 ** (code // 16 - 8))


def trellis_values(section: Section, spec: Spec) -> Any:
    """Decode a section by its page, one element after the other."""
    expected, p = CODECS["trellis"].parts(section, spec), section.params
    part = {name: decode_all(section.parts[name], expected[name], ENV) for name in section.parts}
    rows = spec.shape[0] if len(spec.shape) > 1 else 1
    cols = spec.count // rows if rows else 0
    symbols, points, step = part["symbols"], p.get("points", []), np.array([p["step"]], np.uint32).view(np.float32)[0]
    z0 = branches(symbols, rows, cols, section.parts["symbols"].params)
    found = np.empty(spec.count, np.float32)
    with np.errstate(all="ignore"):
        for e in range(spec.count):
            d = step * factor(int(part["rows"][e // cols])) if "rows" in part else step
            d = d * factor(int(part["columns"][e % cols])) if "columns" in part else d
            k = 2 * (int(symbols[e]) - p["zero"]) + int(z0[e])
            m = np.float32(points[abs(k) - 1] / 256 if 1 <= abs(k) <= len(points) else abs(k))
            found[e] = d * (-m if k < 0 else m)
    return found


def add(b: Builder, name: str, dtype: str, shape: tuple[int, ...], section: Section) -> None:
    b.add(name, dtype, shape, stored(trellis_values(section, Spec.of(dtype, *shape)), dtype), section)


def _trellis(options: Any, seed: int) -> Any:
    b = Builder(seed=seed)
    for i, (dtype, shape) in enumerate(SHAPES):
        spec = Spec.of(dtype, *shape)
        x = stored(b.rng.standard_normal(spec.count), dtype)
        add(b, f"{i}.{dtype}", dtype, shape, CODECS["trellis"].encode(x, spec, ENV, **options))
    return b.done()


for _i, _options in enumerate(CODECS["trellis"].examples):
    good(f"trellis-{_i}", f"codec trellis with {_options or 'no options'}")(lambda o=_options, i=_i: _trellis(o, i))


def decided(b: Builder, shape: tuple[int, int], most: int = 9, **options: Any) -> Quantised:
    """Symbols that nobody searched for, a decision of every kind that the options name."""
    kind = np.uint8 if most < 256 else np.uint16
    symbols = np.minimum(b.rng.geometric(4 / most, shape[0] * shape[1]), most).astype(kind)
    its: dict[str, Any] = {"zero": most // 4 * 2, "step": np.float32(0.3), "v": 5, "precision": 9} | options
    for name, count in zip(("rows", "columns"), shape, strict=True):
        if name in its:
            its[name] = b.rng.integers(*its[name], count, np.uint8, endpoint=True)
    if its.get("classes") is not None:
        its["classes"] = (np.array(its["classes"], np.uint8), b.rng.integers(0, len(its["classes"]), shape[0]).astype(np.uint8))
    return Quantised(symbols, **its)


@good("trellis-states", "4 to 256 states, in tiles of any size and in linear order, 1, 4 and 32 lanes")
def _() -> Any:
    b = Builder()
    for v in range(2, 9):
        for i, tile in enumerate((None, (4, 128), (3, 256))):
            add(b, f"{v}.{i}", "BF16", (6, 131), assemble(decided(b, (6, 131), v=v, tile=tile), Spec.of("BF16", 6, 131), ENV))
        add(b, f"{v}.short", "F32", (v, 7), assemble(decided(b, (v, 7), v=v), Spec.of("F32", v, 7), ENV))
    return b.done()


@good("trellis-steps", "factors of rows, columns and both, all codes; steps from subnormal to huge; points; every dtype")
def _() -> Any:
    b, name = Builder(), 0
    for dtype in ("F64", "F32", "F16", "BF16"):
        for step in (2.0**-149, 3e-40, 1e-7, 0.3, 1e30, float(np.nextafter(np.float32(2.0**110), np.float32(0)))):
            for options in (
                {"rows": (0, 255)},
                {"columns": (0, 255)},
                {"rows": (100, 150), "columns": (100, 150), "points": (200, 530, 760)},
            ):
                its = decided(b, (5, 11), 60 if name % 2 else 9, step=np.float32(step), **options)
                add(b, f"{name}.{dtype}", dtype, (5, 11), assemble(its, Spec.of(dtype, 5, 11), ENV))
                name += 1
    return b.done()


@good("trellis-classes", "one to four classes of rows, several sharing their tables, with points and without")
def _() -> Any:
    b = Builder()
    for i, classes in enumerate(([0], [0, 1], [1, 0, 1], [0, 1, 2, 3], [3, 3])):
        its = decided(b, (13, 131), 20, classes=classes, tile=(5, 128), points=(250, 500) if i % 2 else ())
        add(b, str(i), "F16", (13, 131), assemble(its, Spec.of("F16", 13, 131), ENV))
    return b.done()


@good("trellis-wide", "symbols of 16 bits: raw bits, escapes and both, tiled and linear, with classes")
def _() -> Any:
    b = Builder()
    for i, (bits, most) in enumerate(((0, 300), (1, 900), (2, 3000), (5, 20_000), (8, 65_535))):
        for tile in (None, (4, 128)):
            its = decided(b, (7, 131), most, bits=bits, tile=tile, v=3 + i, points=(256, 511), classes=[0, 1] if tile else None)
            add(b, f"{bits}.{tile is None}", "F32", (7, 131), assemble(its, Spec.of("F32", 7, 131), ENV))
    return b.done()
