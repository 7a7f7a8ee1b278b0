"""Rate and distortion of real weights: wcodec beside NNCodec, GGUF's block formats, round-to-nearest, scalar quantisers and the bound.

The tensors are the matrices of layers 0, 2 and 4 of all-MiniLM-L6-v2 and of layers 3 of Whisper base, as float32. Error: sum of squared
differences over sum of squares, of all of them together. Bytes: of wcodec the whole file, with names, digests and checksums; of NNCodec the
whole bitstream; of GGUF and of groups the blocks or codes and scales alone. Every quantiser that has one step has the same for all tensors.
The bound is that of Gaussian values with each tensor's variance; rows of unequal variance let codecs come nearer to it, or below.
Clocks count processor time of one thread.

    python tools/plot_rd.py --nncodec-python PYTHON --ggml libggmlq.so # ten minutes; writes tools/results/rd.{json,md,png}
    python tools/plot_rd.py --only trellis                                # curves whose name has this; others from rd.json
    python tools/plot_rd.py --only none                                   # the table and the picture again

PYTHON has nncodec==2.1.3 (which needs numpy < 2); tools/benchmarks/ggml.py says how to build the library. Without them their curves stay
as they are in rd.json. The picture needs matplotlib (extra ``plots``).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import models
import numpy as np
import numpy.typing as npt
from benchmarks import rd_report
from benchmarks.ggml import Ggml
from safetensors import safe_open
from safetensors.numpy import save_file

import wcodec

F32 = npt.NDArray[np.float32]
RESULTS = Path(__file__).parent / "results"
WORKER = Path(__file__).parent / "benchmarks" / "nncodec_worker.py"
FILES = {
    "MiniLM-L6": ("minilm.f32.safetensors", ("encoder.layer.[024].*",)),
    "Whisper base": ("whisper.f16.safetensors", ("*/layer_3/*",)),
}
"""File of a model, and which of its matrices count."""
RATES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
STATES = (8, 32, 256)
TRELLIS_STEP, UNIFORM_STEP = 2.06, 3.6
"""Root mean squares that a step has at 0 bits, about."""
QPS = (-16, -20, -24, -28, -32, -36, -40)
BLOCKS = ("Q3_K", "IQ4_XS", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
GROUP, GROUP_BITS = 64, (3, 4, 5, 8)
REPEATS = 5


@dataclass(frozen=True)
class Point:
    """What a setting came to: bytes, squared error over squares, seconds of encoding and of decoding."""

    setting: str
    bytes: float
    error: float
    encode: float = 0.0
    decode: float = 0.0


@dataclass
class Weights:
    """The matrices of a model that count, and their file."""

    arrays: Mapping[str, F32]
    folder: Path
    file: Path = field(init=False)

    def __post_init__(self) -> None:
        self.file = self.folder / "weights.safetensors"
        save_file(dict(self.arrays), self.file)
        self.count = sum(x.size for x in self.arrays.values())
        self.energy = {name: float(np.square(x, dtype=np.float64).sum()) for name, x in self.arrays.items()}
        self.signal = sum(self.energy.values())
        self.rms = (self.signal / self.count) ** 0.5

    def error(self, back: Mapping[str, F32]) -> float:
        noise = (np.square(back[name].reshape(x.shape).astype(np.float64) - x).sum() for name, x in self.arrays.items())
        return float(sum(noise)) / self.signal


def matrices(path: Path, globs: Sequence[str]) -> dict[str, F32]:
    with safe_open(path, "np") as file:
        names = [name for name in file.keys() if any(fnmatchcase(name, glob) for glob in globs)]  # noqa: SIM118
        found = {name: file.get_tensor(name).astype(np.float32) for name in names}
    return {name: x for name, x in found.items() if x.ndim == 2}


def wcodec_curve(weights: Weights, codec: str, options: str, scale: float) -> Iterator[Point]:
    """Yield what files take, and decoding them into memory that was touched before."""
    target = weights.folder / "weights.wcodec"
    for rate in RATES:
        step = float(weights.rms * scale * 2.0**-rate)
        recipe = f"{codec}:step={step!r},{options}"
        began = time.process_time()
        size = wcodec.encode(weights.file, target, recipe=recipe, threads=1, readback=False, force=True).size
        encoding = time.process_time() - began
        with wcodec.safe_open(target.read_bytes(), framework="np", threads=1) as file:
            back, seconds = file.get_tensors(), []
            for _ in range(REPEATS):
                began = time.process_time()
                file.get_tensors(out=back)
                seconds.append(time.process_time() - began)
            yield Point(f"{step:.4g}", size, weights.error(back), encoding, min(seconds))


def nncodec_curve(weights: Weights, python: Path, dependent: bool) -> Iterator[Point]:
    arrays = weights.folder / "weights.npz"
    np.savez(arrays, **{name.replace("/", "."): x for name, x in weights.arrays.items()})
    command = [python, WORKER, arrays, str(int(dependent)), *map(str, QPS)]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        yield Point(**json.loads(line))


def gguf_curve(weights: Weights, ggml: Ggml) -> Iterator[Point]:
    """Yield every block format. Rows are joined where blocks of 256 need it, which llama.cpp would not do."""
    for kind in BLOCKS:
        size, encoding, decoding, back = 0, 0.0, 0.0, {}
        for name, x in weights.arrays.items():
            began = time.process_time()
            blocks = ggml.quantise(x.reshape(-1, 256), kind)
            middle = time.process_time()
            back[name] = np.empty_like(x)
            ggml.dequantise(blocks, kind, back[name])
            again = time.process_time()
            ggml.dequantise(blocks, kind, back[name])
            decoding += time.process_time() - again
            encoding += middle - began
            size += blocks.size
        yield Point(kind, size, weights.error(back), encoding, decoding)


def group_curve(weights: Weights) -> Iterator[Point]:
    """Yield groups of 64 weights, rounded to the nearest of 2^bits − 1 levels around 0, with a float16 scale each."""
    for bits in GROUP_BITS:
        top, back = 2 ** (bits - 1) - 1, {}
        for name, x in weights.arrays.items():
            groups = x.reshape(-1, GROUP)
            scale = (np.abs(groups).max(1, keepdims=True) / top).astype(np.float16).astype(np.float32)
            back[name] = np.clip(np.rint(groups / np.where(scale == 0, 1, scale)), -top, top) * scale
        yield Point(f"{bits} bits", weights.count * (bits / 8 + 2 / GROUP), weights.error(back))


def scalar_curve(weights: Weights) -> Iterator[Point]:
    """Yield the entropy of uniform scalar quantisers, tensor by tensor, with centroids that cost nothing."""
    for rate in np.arange(0.75, 8.6, 0.125):
        step, bits, noise = np.float32(weights.rms * UNIFORM_STEP * 2.0**-rate), 0.0, 0.0
        for name, x in weights.arrays.items():
            symbols = np.rint(x / step).astype(np.int32).reshape(-1)
            symbols -= symbols.min()
            counts = np.bincount(symbols)
            used = counts > 0
            sums = np.bincount(symbols, x.reshape(-1))[used]
            bits -= float((counts[used] * np.log2(counts[used] / x.size)).sum())
            noise += weights.energy[name] - float((sums**2 / counts[used]).sum())
        yield Point(f"{step:.4g}", bits / 8, noise / weights.signal)


def bound_curve(weights: Weights) -> Iterator[Point]:
    """Yield the bound for independent Gaussian values with each tensor's variance, errors shared in the best way."""
    sizes = np.array([x.size for x in weights.arrays.values()])
    variance = np.array([weights.energy[name] for name in weights.arrays]) / sizes
    for rate in np.arange(0.75, 8.6, 0.125):
        level = weights.rms**2 * 4.0**-rate
        noise = np.minimum(variance, level)
        yield Point(f"{rate}", float((sizes * np.log2(variance / noise)).sum()) / 16, float((sizes * noise).sum()) / weights.signal)


Curve = Callable[[Weights], Iterator[Point]]


def curves(options: argparse.Namespace) -> dict[str, Curve]:
    """Return what can be measured here, by name."""
    found: dict[str, Curve] = {"Gaussian bound": bound_curve, "scalar, ideal": scalar_curve, "groups of 64": group_curve}
    for states in STATES:
        found[f"trellis, {states} states"] = lambda w, n=states: wcodec_curve(w, "trellis", f"states={n}", TRELLIS_STEP)
    found["uniform"] = lambda w: wcodec_curve(w, "uniform", "per=tensor,rdo=0.1", UNIFORM_STEP)
    if options.ggml:
        ggml = Ggml(options.ggml)
        found["GGUF"] = lambda w: gguf_curve(w, ggml)
    if options.nncodec_python:
        found["NNCodec, dependent"] = lambda w: nncodec_curve(w, options.nncodec_python, True)
        found["NNCodec"] = lambda w: nncodec_curve(w, options.nncodec_python, False)
    return {name: curve for name, curve in found.items() if options.only in name}


Results = dict[str, dict[str, Any]]


def measure(options: argparse.Namespace, results: Results) -> None:
    wanted = curves(options)
    for model, (name, globs) in FILES.items() if wanted else ():
        with tempfile.TemporaryDirectory() as folder:
            weights = Weights(matrices(options.cache / name, globs), Path(folder))
            its = results.setdefault(model, {})
            its |= {"weights": weights.count, "tensors": len(weights.arrays), "of": " ".join(globs)}
            for curve, call in wanted.items():
                its.setdefault("curves", {})[curve] = [asdict(point) for point in call(weights)]
                (RESULTS / "rd.json").write_text(json.dumps(results, indent=1) + "\n")
                print(model, curve, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=models.CACHE, help="folder of the models (tools/models.py)")
    parser.add_argument("--nncodec-python", type=Path, help="interpreter that has nncodec")
    parser.add_argument("--ggml", type=Path, help="library of ggml's quantisers")
    parser.add_argument("--only", default="", help="measure curves whose name has this")
    options = parser.parse_args()
    stored = RESULTS / "rd.json"
    results: Results = json.loads(stored.read_text()) if stored.exists() else {}
    measure(options, results)
    rd_report.write(results, RESULTS, (__doc__ or "").split("\n\n")[1])


if __name__ == "__main__":
    main()
