"""Golden cases of random numbers (spec/rng.md), computed here once more in Python's own integers. Written by make_fixtures.py."""

from __future__ import annotations

from pathlib import Path
from struct import pack, unpack
from typing import Any

import numpy as np
from golden_cases import Builder, good

from wcodec.types import Spec

NORMAL = np.frombuffer((Path(__file__).parents[1] / "wcodec" / "coding" / "normal.bin").read_bytes(), "<u4")
LOW = 0xFFFFFFFF


def block(counter: int, id: int, stream: int, seed: int) -> list[int]:
    """Four words of Philox."""
    x, key = [counter & LOW, counter >> 32, id, stream], [seed & LOW, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [b >> 32 ^ x[1] ^ key[0], b & LOW, a >> 32 ^ x[3] ^ key[1], a & LOW]
        key = [key[0] + 0x9E3779B9 & LOW, key[1] + 0xBB67AE85 & LOW]
    return x


def single(x: float) -> float:
    """Round a double to binary32."""
    return float(unpack("<f", pack("<f", x))[0])


def number(word: int, kind: str = "uniform", scale: float = 1.0, decay: float = 1.0, **_: Any) -> float:
    if kind == "uniform":
        unit = (2 * (word >> 9) + 1 - 2**23) * 2.0**-23
    else:
        unit = int(NORMAL[word >> 20]) * 2.0**-22 * (-1 if word >> 19 & 1 else 1)
    return single(single(decay) * single(single(scale) * unit))  # products of 24 bits each are exact in doubles


def philox(count: int, seed: int, id: int = 0, stream: int = 0, **options: Any) -> list[float]:
    return [number(block(i >> 2, id, stream, seed)[i & 3], **options) for i in range(count)]


def twister(count: int, seed: int, offset: int = 0, low: float = 0.0, high: float = 1.0) -> list[float]:
    """torch's uniform_, from numpy's words."""
    words = np.random.RandomState(seed)._bit_generator.random_raw(offset + count)[offset:]
    low, span = single(low), single(single(high) - single(low))
    return [single(low + (int(word) & 0xFFFFFF) * 2.0**-24 * span) for word in words]


def rounded(values: list[float], dtype: str) -> Any:
    """Binary32 values as storage elements."""
    x = np.array(values, np.float32)
    if dtype == "BF16":
        bits = x.view(np.uint32).astype(np.uint64)
        return (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1)) >> np.uint64(16)).astype(np.uint16)
    kind = {"F32": "f4", "F16": "f2", "F64": "f8"}[dtype]
    with np.errstate(over="ignore"):
        return x.astype(kind).view(f"u{kind[1]}")


def add(b: Builder, name: str, dtype: str, shape: tuple[int, ...], codec: str, **options: Any) -> None:
    count = Spec.of(dtype, *shape).count
    if codec == "draw":
        key = [options.get(name, 0) for name in ("id", "stream")]
        x = np.array([block(i >> 2, *key, options["seed"])[i & 3] < options["threshold"] for i in range(count)], np.uint8)
    else:
        x = rounded((philox if codec == "philox" else twister)(count, **options), dtype)
    b.add(name, dtype, shape, x, codec=codec, **options)


SHAPES = ((), (0, 3), (7,), (13, 11), (257,))


def example(codec: str, i: int) -> Any:
    from wcodec.codecs import CODECS

    b = Builder()
    for dtype in ("BOOL",) if codec == "draw" else ("F32", "BF16", "F16", "F64"):
        for k, shape in enumerate(SHAPES):
            add(b, f"{dtype}.{k}", dtype, shape, codec, **CODECS[codec].examples[i])
    return b.done()


for _codec in ("philox", "mt19937", "draw"):
    for _i in range(2):
        good(f"{_codec}-{_i}", f"codec {_codec}, its example {_i}, in every dtype that it takes")(lambda c=_codec, i=_i: example(c, i))


@good("rng-philox", "philox at the ends of its ranges: seeds, ids, streams, scales, decays; infinities and subnormals of F16")
def _() -> Any:
    b = Builder()
    for i, seed in enumerate((0, 2**32 - 1, 2**32, 2**64 - 1)):
        add(b, f"seed.{i}", "F32", (20,), "philox", seed=seed, id=2**32 - 1 - i, stream=i, kind="normal")
    for i, (scale, decay) in enumerate(((2.0**-60, 2.0**-40), (2.0**60, 1.0), (1 / 3, 0.999), (2.0**17, 0.7), (2.0**-14, 0.3))):
        for kind in ("uniform", "normal"):
            for dtype in ("F32", "F16", "BF16", "F64"):
                add(b, f"{kind}.{i}.{dtype}", dtype, (50,), "philox", seed=5, id=i, kind=kind, scale=scale, decay=decay)
    return b.done()


@good("rng-mt19937", "mt19937 from words near and far, with bounds of every kind")
def _() -> Any:
    b = Builder()
    for i, offset in enumerate((0, 1, 623, 624, 100_000, 2**22, 2**22 + 12_345)):
        add(b, f"offset.{i}", "F32", (30,), "mt19937", seed=i, offset=offset, low=-0.1, high=0.1)
    for i, (low, high) in enumerate(((0.0, 1.0), (-1.0, 0.0), (0.1, 0.2), (-0.3, 0.7), (-(2.0**60), 2.0**60), (2.0**-60, 2.0**-59))):
        add(b, f"bounds.{i}", "F32", (300,), "mt19937", seed=2**32 - 1, offset=3, low=low, high=high)
    return b.done()
