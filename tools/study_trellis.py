"""How far `trellis` is from Shannon's bound, and how far below scalar quantisers: of Gaussian weights, and of a model's tensors.

Bits are those of whole sections: symbols, tables, factors, points, params. The clock counts processor time of one thread.

    python tools/study_trellis.py                       # Gaussian weights; writes tools/results/trellis.md; ten minutes
    python tools/study_trellis.py --model FILE.safetensors    # and a model's tensors: twenty
    python tools/study_trellis.py --quick               # a million weights, fewer rates: half a minute; writes nothing
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from wcodec.backends import get_backend
from wcodec.codecs import CODECS, Env, check, decode_all
from wcodec.codecs.base import stored_size
from wcodec.types import Spec

RESULTS = Path(__file__).parent / "results" / "trellis.md"
STATES = (4, 8, 32, 256)
RATES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
REAL_RATES = (2.0, 3.0, 4.0, 5.0, 6.0)
DEAD_ZONES = (0.0, 0.1, 0.2)
"""Values of `rdo` tried for uniform; the best one counts."""
SMALLEST = 4096


@dataclass(frozen=True)
class Point:
    """What an encoding came to: bits per weight, mean squared error, million weights per second of encoding and of decoding."""

    rate: float
    error: float
    encode: float
    decode: float


def encoded(x: np.ndarray, codec: str, options: Mapping[str, Any], env: Env) -> Point:
    """Encode and decode an array."""
    spec = Spec.of("F32", *x.shape)
    begin = time.thread_time()
    section = CODECS[codec].encode(x.reshape(-1).view(np.uint32), spec, env, **options)
    middle = time.thread_time()
    check(section, spec, env)
    back = decode_all(section, spec, env).view(np.float32)
    end = time.thread_time()
    error = float(np.mean(np.square(back.astype(np.float64) - x.reshape(-1))))
    params = 64  # about what a section's params take in a manifest
    return Point(8 * (stored_size(section) + params) / x.size, error, x.size / (middle - begin) / 1e6, x.size / (end - middle) / 1e6)


def gap(point: Point, variance: float) -> float:
    """Bits above the rate that the bound allows at this error."""
    return point.rate - 0.5 * float(np.log2(variance / point.error))


def at_rate(x: np.ndarray, rate: float, codec: str, options: Mapping[str, Any], env: Env) -> Point:
    """Encode at a rate: the step is found on a part."""
    part = x[: max(1, len(x) * (1 << 19) // x.size)]
    low, high = 0.5 * 2.0**-rate, 8 * 2.0**-rate
    for _ in range(7):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if encoded(part, codec, {**options, "relative": middle}, env).rate < rate else (middle, high)
    return encoded(x, codec, {**options, "relative": (low * high) ** 0.5}, env)


def gaussian(count: int, rates: Sequence[float], states: Sequence[int], env: Env) -> Iterator[str]:
    """Yield the table of i.i.d. Gaussian weights."""
    x = np.random.default_rng(0).standard_normal((count // 4096, 4096), dtype=np.float32)
    variance = float(np.mean(np.square(x, dtype=np.float64)))
    yield f"## {count / 2**20:.0f} Mi independent Gaussian weights"
    yield ""
    yield "Bits above R(D) = ½ log2(σ² / D), everything stored counted; in brackets million weights per second of encoding."
    yield ""
    yield "| bits per weight | " + " | ".join(f"{n} states" for n in states) + " | uniform |"
    yield "|" + "---|" * (len(states) + 2)
    for rate in rates:
        cells = []
        for n in states:
            point = at_rate(x, rate, "trellis", {"states": n}, env)
            cells.append(f"{gap(point, variance):.4f} ({point.encode:.1f})")
            print(rate, n, point, cells[-1], flush=True)
        part = x[: max(1, len(x) // 8)]
        uniform = [at_rate(part, rate, "uniform", {"per": "tensor", "rdo": rdo}, env) for rdo in DEAD_ZONES]
        cells.append(f"{min(gap(point, float(np.mean(np.square(part, dtype=np.float64)))) for point in uniform):.4f}")
        yield f"| {rate} | " + " | ".join(cells) + " |"
    yield ""


def scalar_rate(x: np.ndarray, error: float) -> float:
    """Return the entropy of a uniform scalar quantiser with centroids and this mean squared error: no table, nothing stored."""
    low, high = (12 * error) ** 0.5 / 2, (12 * error) ** 0.5 * 4
    for _ in range(12):
        step = (low * high) ** 0.5
        symbols = np.rint(x / np.float32(step)).astype(np.int64).reshape(-1)
        symbols -= symbols.min()
        counts = np.bincount(symbols)
        sums = np.bincount(symbols, x.reshape(-1).astype(np.float64))
        used = counts > 0
        found = float(np.square(x, dtype=np.float64).sum() - (sums[used] ** 2 / counts[used]).sum()) / x.size
        low, high = (step, high) if found < error else (low, step)
    share = counts[used] / x.size
    return float(-(share * np.log2(share)).sum())


def tensors(path: Path) -> Iterator[np.ndarray]:
    """Yield a model's matrices as float32."""
    with safe_open(path, "np") as file:
        for name in file.keys():  # noqa: SIM118
            x = file.get_tensor(name)
            if x.ndim > 1 and x.size >= SMALLEST and x.dtype == np.float32:
                yield x


def real(path: Path, rates: Sequence[float], states: Sequence[int], env: Env) -> Iterator[str]:
    """Yield the table of a model's tensors."""
    arrays = list(tensors(path))
    count = sum(x.size for x in arrays)
    yield f"## {path.name}: {len(arrays)} matrices, {count:,} weights"
    yield ""
    yield "Every matrix with a step relative to its root mean square. `below scalar`: bits per weight below the entropy of a uniform scalar"
    yield "quantiser with centroids at each matrix's own error, which stores nothing else."
    yield ""
    yield "| states | bits per weight | relative error | below scalar | encode, M/s | decode, M/s |"
    yield "|---|---|---|---|---|---|"
    for n in states:
        for rate in rates:
            points = [encoded(x, "trellis", {"states": n, "relative": 2.06 * 2.0**-rate}, env) for x in arrays]
            scalar = [scalar_rate(x, point.error) for x, point in zip(arrays, points, strict=True)]
            share = [x.size / count for x in arrays]
            energy = [float(np.mean(np.square(x, dtype=np.float64))) for x in arrays]
            bits = sum(s * point.rate for s, point in zip(share, points, strict=True))
            below = sum(s * entropy for s, entropy in zip(share, scalar, strict=True)) - bits
            error = sum(s * point.error / e for s, point, e in zip(share, points, energy, strict=True))
            speeds = [1 / sum(s / getattr(point, what) for s, point in zip(share, points, strict=True)) for what in ("encode", "decode")]
            line = f"| {n} | {bits:.3f} | {error:.3e} | {below:.3f} | {speeds[0]:.1f} | {speeds[1]:.0f} |"
            print(line, flush=True)
            yield line
    yield ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a safetensors file with float32 matrices")
    parser.add_argument("--quick", action="store_true", help="a million weights, three rates, two numbers of states; writes nothing")
    options = parser.parse_args()
    env = Env(get_backend("auto"), CODECS)
    lines = ["# The distance of `trellis` from the bound", "", "Written by `tools/study_trellis.py`.", ""]
    lines += gaussian(1 << 20, (0.5, 2.0, 4.0), (8, 256), env) if options.quick else gaussian(1 << 24, RATES, STATES, env)
    if options.model:
        lines += real(options.model, (3.0,) if options.quick else REAL_RATES, (32,) if options.quick else (8, 32, 256), env)
    page = "\n".join(lines)
    print(page)
    if not options.quick:
        RESULTS.write_text(page)


if __name__ == "__main__":
    main()
