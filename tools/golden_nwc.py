"""Golden cases of nwc. What they decode to is computed here, one chunk after the other, by its page and that of nets."""

from __future__ import annotations

from typing import Any

import numpy as np
from golden_cases import ENV, Builder, good
from golden_linear import SHAPES, raw, stored
from golden_trellis import branches, factor

from wcodec import nets
from wcodec.codecs import CODECS, decode_all
from wcodec.codecs.floats.nwc import assemble
from wcodec.codecs.floats.nwc_encoder import Coded
from wcodec.coding.net import Gate, Linear, Net, Requantise, Residual, Save, pack
from wcodec.types import Resource, Section, Spec


def small_net(rng: Any, hidden: int = 5, levels: int = 3) -> Net:
    """A net with every operation, made by hand and chance."""

    def weights(*shape: int) -> Any:
        return rng.integers(-127, 128, shape).astype(np.int8)

    def shifts(count: int, low: int, high: int) -> Any:
        return rng.integers(low, high, count, np.uint8, endpoint=True)

    return Net(
        int(rng.integers(3, 128)),
        int(rng.integers(7)),
        levels,
        (
            Gate(weights(levels, 16)),
            Requantise(127, 120, shifts(16, 3, 7)),
            Linear(weights(hidden, 16), rng.integers(-5000, 5000, hidden).astype(np.int32)),
            Requantise(0, 127, shifts(hidden, 4, 8)),
            Save(),
            Linear(weights(hidden, hidden), rng.integers(-5000, 5000, hidden).astype(np.int32)),
            Residual(shifts(hidden, 0, 5)),
            Requantise(100, 127, shifts(hidden, 5, 8)),
            Gate(weights(levels, hidden)),
            Requantise(90, 127, shifts(hidden, 5, 8)),
            Linear(weights(16, hidden), rng.integers(-5000, 5000, 16).astype(np.int32)),
            Requantise(32767, 500, shifts(16, 2, 9)),
        ),
    ).check()


def output(net: Net, k: Any, level: int) -> list[int]:
    """What a net makes of the latents of one chunk."""
    x, kept = [max(-net.clip, min(net.clip, int(value))) for value in k], []
    for op in net.ops:
        if isinstance(op, Linear):
            x = [sum(int(w) * v for w, v in zip(row, x, strict=True)) + int(b) for row, b in zip(op.weights, op.bias, strict=True)]
        elif isinstance(op, Requantise):
            x = [max(-op.low, min(op.high, (v + 2 ** int(s) // 2) // 2 ** int(s))) for v, s in zip(x, op.shifts, strict=True)]
        elif isinstance(op, Gate):
            x = [v * int(e) for v, e in zip(x, op.factors[level], strict=True)]
        elif isinstance(op, Save):
            kept = list(x)
        else:
            x = [v + y * 2 ** int(s) for v, y, s in zip(x, kept, op.shifts, strict=True)]
    return [int(value) * 2**net.shift + v for value, v in zip(k, x, strict=True)]


def nwc_values(section: Section, spec: Spec, net: Net) -> Any:
    """Decode a section by its page."""
    p, expected = section.params, CODECS["nwc"].parts(section, spec)
    part = {name: decode_all(section.parts[name], expected[name], ENV) for name in section.parts}
    rows = spec.shape[0] if len(spec.shape) > 1 else 1
    cols = spec.count // rows if rows else 0
    symbols = part["latents"].astype(np.int64)
    z0 = branches(symbols, symbols.size // max(cols, 1), cols, section.parts["latents"].params) if p.get("trellis") else None
    k = (symbols - p["zero"] if z0 is None else 2 * (symbols - p["zero"]) + z0).reshape(expected["latents"].shape)
    step = np.array([p["step"]], np.uint32).view(np.float32)[0]
    found = np.empty((rows, cols), np.float32)
    with np.errstate(all="ignore"):
        for band in range(0, rows, 16):
            for c in range(cols):
                y = output(net, k[band : band + 16, c], int(part["levels"][c]) if "levels" in part else p.get("level", 0))
                for r in range(band, min(rows, band + 16)):
                    d = step * factor(int(part["rows"][r])) if "rows" in part else step
                    d = d * factor(int(part["columns"][c])) if "columns" in part else d
                    found[r, c] = d * np.float32(y[r - band])
    return found.reshape(-1)


def add(b: Builder, name: str, dtype: str, shape: tuple[int, ...], section: Section, net: Net) -> None:
    b.add(name, dtype, shape, stored(nwc_values(section, Spec.of(dtype, *shape), net), dtype), section)


def _nwc(options: Any, seed: int) -> Any:
    b = Builder(seed=seed)
    from wcodec.coding.net import parse

    net = parse(nets.load(nets.IDENTITY))
    for i, (dtype, shape) in enumerate(SHAPES):
        spec = Spec.of(dtype, *shape)
        section = CODECS["nwc"].encode(stored(b.rng.standard_normal(spec.count), dtype), spec, ENV, **options)
        add(b, f"{i}.{dtype}", dtype, shape, section, net)
    return b.done()


for _i, _options in enumerate(CODECS["nwc"].examples):
    good(f"nwc-{_i}", f"codec nwc with {_options}")(lambda o=_options, i=_i: _nwc(o, i))


def decided(b: Builder, shape: tuple[int, int], net: Net, most: int = 30, **options: Any) -> Coded:
    """Latents that nobody searched for, a decision of every kind that the options name."""
    rows, cols = shape
    count = -(-rows // 16) * 16 * cols
    symbols = np.minimum(b.rng.geometric(4 / most, count), most).astype(np.uint8 if most < 256 else np.uint16)
    coding = {key: options[key] for key in ("trellis", "tile", "bits") if key in options}
    codes = dict.fromkeys(("rows", "columns"))
    codes |= {name: b.rng.integers(110, 150, n).astype(np.uint8) for name, n in (("rows", rows), ("columns", cols)) if name in options}
    levels = b.rng.integers(0, net.levels, cols).astype(np.uint8) if options.get("levels") else options.get("level", 0)
    step = np.float32(options.get("step", 0.02))
    return Coded(symbols, most // 4 * 2, step, {"precision": 9} | coding, codes["rows"], codes["columns"], levels)


@good(
    "nwc-nets",
    "nets with every operation, shared by tensors; trellis, levels, factors, wide latents",
)
def _() -> Any:
    b, number = Builder(), 0
    for levels, hidden in ((1, 1), (3, 5), (4, 8)):
        net = small_net(b.rng, hidden, levels)
        data = pack(net)
        shared = Resource(Spec.of("U8", data.size), raw(data))
        for dtype, options in (
            ("F32", {}),
            ("BF16", {"trellis": 5, "levels": True}),
            ("F16", {"trellis": 3, "tile": (32, 128), "rows": True, "level": levels - 1}),
            ("F64", {"columns": True, "rows": True, "levels": True}),
            ("F32", {"most": 3000, "bits": 5, "trellis": 4, "columns": True}),
            ("BF16", {"most": 700, "bits": 3, "step": 3e-40}),
            ("F16", {"most": 200, "step": 1e30}),
        ):
            shape = ((33, 7), (5, 40))[number % 2]
            section = assemble(decided(b, shape, net, **options), Spec.of(dtype, *shape), ENV, shared)
            add(b, f"{number}.{dtype}", dtype, shape, section, net)
            number += 1
    return b.done()
