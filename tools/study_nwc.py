"""What `nwc` comes to in files: rates and errors beside `uniform` and `trellis`, and a task with and without error compensation.

Whole files count; of NNCodec the whole bitstream, of GGUF the blocks alone. Matrices are Gaussian, or those of a model's layers, each row
divided by its root mean square.

    python tools/study_nwc.py rates Gaussian FILE.safetensors …    # prints rows for tools/results/nwc.md; 10 minutes
    python tools/study_nwc.py rates --nncodec-python PYTHON --ggml libggmlq.so Gaussian FILE.safetensors …  # as for plot_rd.py; 20 minutes
    python tools/study_nwc.py coder                       # what coding and side information cost, 4096²
    python tools/study_nwc.py task                        # MiniLM-L6; half an hour, most of it calibration without --stats
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from benchmarks.ggml import Ggml
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import wcodec
from wcodec import nets, sections
from wcodec.backends import get_backend
from wcodec.codecs import CODECS, Env, decode_all
from wcodec.codecs.base import stored_size
from wcodec.coding.net import CHUNK
from wcodec.coding.trellis import factors
from wcodec.train import measure, nwc, pieces
from wcodec.types import Spec

F64 = npt.NDArray[np.float64]
Row = tuple[str, str, int, float]
"""Method, setting, bytes, squared error."""
MATRICES = re.compile(r"encoder.layer[._][0-3]")
"""Names of tensors that are measured, of those with more than one dimension."""
METHODS = {
    "`uniform`": ("uniform:per=tensor,rdo=0.1", 1.0),
    "`fast`": ("nwc:states=0,always=true,by_digest=true", 1.0),
    "`trellis`": ("trellis:states=32", 0.5),
    "`fast` + trellis": ("nwc:states=32,always=true,by_digest=true", 0.5),
    "`nwc`, by itself": ("nwc:states=32,by_digest=true", 0.5),
}
"""Methods, and their steps at equal rates."""
CALIBRATED = ("`trellis`", "`fast`", "`fast` + trellis")
GAUSSIAN = "Gaussian"
STEPS = (0.75, 0.5, 0.25, 0.125, 0.0625)
"""In root mean squares: about 2.5, 3, 4, 5 and 6 bits without a trellis."""
WORKER = Path(__file__).parent / "benchmarks" / "nncodec_worker.py"
QPS = (-2, -4, -8, -12, -16)
"""Of NNCodec, whose steps are then those."""
BLOCKS = ("Q3_K", "Q4_K", "Q5_K", "Q6_K")
SAMPLE = 1 << 12
"""Pieces of a tensor that ideal quantisers are measured with, at most."""


def gaussian() -> dict[str, Tensor]:
    return {"w": torch.randn(2048, 4096, generator=torch.Generator().manual_seed(7))}


def layers(path: Path) -> dict[str, Tensor]:
    """Return the matrices of some layers of a model with normalised rows."""
    with safe_open(path, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys() if MATRICES.search(name)}  # noqa: SIM118
    return {name: pieces.normalised(its) for name, its in found.items() if its.ndim > 1}


def ideal(weights: Mapping[str, Tensor]) -> tuple[F64, F64]:
    """Return rates, and bits above ½ log2(1 / D), of ideal scalar quantisers: every tensor has its own thresholds, centroids and code.

    Steps are in proportion to root mean squares, as those of files.
    """
    rates, found = np.arange(1.5, 7.0, 0.05), []
    count = sum(its.numel() for its in weights.values())
    for pull in measure.PULLS:
        bits, error = np.zeros(len(measure.GRID)), np.zeros(len(measure.GRID))
        for its in weights.values():
            flat = pieces.pieces_of(its)
            flat = flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(1))[:SAMPLE]]
            square = float(flat.double().square().mean())
            own, gap = measure.curve(flat / square**0.5, pull, centroids=True)
            bits += own * its.numel() / count
            error += 4.0 ** (gap - own) * square * its.numel() / count
        found.append(np.interp(rates, bits, bits + 0.5 * np.log2(error)))
    return rates, np.min(found, axis=0)


def rates(sources: Sequence[str], peers: Peers) -> Iterator[str]:
    """Yield a table row per source, method and step."""
    yield "| weights | method | step | bits | NMSE | above ideal scalar | above R(D) |"
    yield "|---|---|---|---|---|---|---|"
    for source in sources:
        weights = gaussian() if source == GAUSSIAN else layers(Path(source))
        name = Path(source).name.split(".")[0]
        count, reference = sum(its.numel() for its in weights.values()), ideal(weights)
        for method, setting, size, errors in itertools.chain(
            files(weights) if peers.ours else (), peers.paper_rows(weights), peers.nncodec_rows(weights), peers.gguf_rows(weights)
        ):
            bits, error = 8 * size / count, errors / count
            gap = bits + 0.5 * log2(error)
            yield f"| {name} | {method} | {setting} | {bits:.3f} | {error:.3e} | {gap - np.interp(bits, *reference):+.4f} | {gap:+.4f} |"


def files(weights: Mapping[str, Tensor]) -> Iterator[Row]:
    """Yield what files of ours come to."""
    with tempfile.TemporaryDirectory() as folder:
        plain, target = Path(folder) / "m.safetensors", Path(folder) / "m.wcodec"
        save_file(dict(weights), plain)
        for method, (recipe, share) in METHODS.items():
            for step in STEPS:
                join = "," if ":" in recipe else ":"
                size = wcodec.encode(plain, target, recipe=f"{recipe}{join}relative={step * share}", force=True, readback=False).size
                with wcodec.safe_open(target, "pt") as opened:
                    errors = sum(float((opened.get_tensor(key).double() - its).square().sum()) for key, its in weights.items())
                yield method, str(step * share), size, errors


@dataclass(frozen=True)
class Peers:
    """What is measured. ours: the recipes. nncodec: an interpreter that has it. ggml: its library. paper: the checkpoint of such a net."""

    ours: bool
    nncodec: Path | None
    ggml: Path | None
    paper: Path | None

    def paper_rows(self, weights: Mapping[str, Tensor]) -> Iterator[Row]:
        """Yield a row per importance level, all columns at that one; without the bytes of the net."""
        if self.paper is None:
            return
        model = nwc.Run.resume(self.paper).model
        net = model.net.export()
        for level, its in enumerate(model.profile.levels):
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "m.wcodec"
                with wcodec.Writer(target) as file:
                    shared = sections.share(sections.encoded("raw", net.data))
                    for name, x in weights.items():
                        rows, cols = x.shape[0], x.numel() // x.shape[0]
                        u = torch.zeros(cols, -(-rows // CHUNK) * CHUNK)
                        u[:, :rows] = x.reshape(rows, cols).T / its.step
                        with torch.no_grad():
                            k = torch.cat([model.latents(part, torch.full((len(part),), level)) for part in u.split(64)])
                        latents, zero = k.T.numpy().astype(np.int64), max(0, -int(k.min()))
                        file.add(name, sections.nwc(latents + zero, shared, its.step / 2**net.shift, shape=x.shape, zero=zero, level=level))
                with wcodec.safe_open(target, "pt") as opened:
                    errors = sum(float((opened.get_tensor(key).double() - w).square().sum()) for key, w in weights.items())
                yield f"`{self.paper.stem}`", f"level {level}", target.stat().st_size - net.data.size, errors

    def nncodec_rows(self, weights: Mapping[str, Tensor]) -> Iterator[Row]:
        for dependent in (0, 1) if self.nncodec is not None else ():
            with tempfile.TemporaryDirectory() as folder:
                arrays = Path(folder) / "weights.npz"
                np.savez(arrays, **{name.replace("/", "."): its.numpy() for name, its in weights.items()})
                command = [self.nncodec, WORKER, arrays, dependent, *QPS]
                done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
            signal = sum(float(its.double().square().sum()) for its in weights.values())
            for found in map(json.loads, done.stdout.splitlines()):
                name = "NNCodec, dependent" if dependent else "NNCodec, scalar"
                yield name, f"qp {found['setting']}", found["bytes"], found["error"] * signal

    def gguf_rows(self, weights: Mapping[str, Tensor]) -> Iterator[Row]:
        ggml = None if self.ggml is None else Ggml(self.ggml)
        for kind in BLOCKS if ggml is not None else ():
            size, errors = 0, 0.0
            for its in weights.values():
                x = its.numpy().reshape(-1, 256)
                back, used = ggml.approximate(x, kind)
                size, errors = size + used, errors + float(np.square(back.astype(np.float64) - x).sum())
            yield "GGUF", kind, size, errors


def coder() -> Iterator[str]:
    """Yield what coding and side information cost of a 4096² matrix of Gaussian weights with steps of rows, at 4 bits."""
    x = np.random.default_rng(3).standard_normal((4096, 4096), dtype=np.float32)
    x *= np.exp(np.random.default_rng(4).standard_normal((4096, 1), dtype=np.float32) / 2)
    env, spec, net = Env(get_backend(), CODECS), Spec.of("F32", *x.shape), nets.load("fast").size
    yield "| integers | entropy | latents | over the entropy | everything | of it not latents |"
    yield "|---|---|---|---|---|---|"
    for states, relative in ((0, 0.25), (32, 0.125)):
        options = {"states": states, "relative": relative, "steps": "rows", "net": nets.IDENTITY}
        section = CODECS["nwc"].encode(x.reshape(-1).view(np.uint32), spec, env, **options)
        codes = decode_all(section.parts["rows"], Spec.of("U8", len(x)), env)
        steps = np.array(section.params["step"], np.uint32).view(np.float32) * factors(codes)
        k = np.rint(decode_all(section, spec, env).view(np.float32).reshape(x.shape) / steps[:, None]).astype(np.int64)
        lattices = [k[k % 2 == z] for z in (0, 1)] if states else [k]  # a trellis has a table for each
        entropy = sum(measure.entropy(its) * its.size for its in lattices) / k.size
        latents, everything = (8 * size / k.size for size in (stored_size(section.parts["latents"]), stored_size(section) + net))
        kind, over = f"trellis, {states} states" if states else "scalar", f"{100 * (latents / entropy - 1):+.2f} %"
        yield f"| {kind} | {entropy:.4f} | {latents:.4f} | {over} | {everything:.4f} | {everything - latents:.4f} |"


def task(stats: Path | None) -> Iterator[str]:
    """Yield how far embeddings of MiniLM-L6 move, at bits per weight of its 36 matrices, all bytes counted."""
    from study_calibration import Study

    yield "| method | calibration | bits asked | bits | 1 − cosine | seconds |"
    yield "|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder))
        known = stats or study.statistics("inputs")
        for bits in (2.5, 3.0, 4.0, 5.0, 6.0):
            for method, (recipe, _) in METHODS.items():
                for calibration in (None, known) if method in CALIBRATED else (None,):
                    size, gap, seconds = study.measure(bits, recipe=recipe, calibration=calibration)
                    yield f"| {method} | {'inputs' if calibration else 'none'} | {bits} | {size:.3f} | {gap:.5f} | {seconds:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    of_rates = parts.add_parser("rates")
    of_rates.add_argument("sources", nargs="+", help=f"safetensors files, or {GAUSSIAN}")
    of_rates.add_argument("--paper", type=Path, help="a checkpoint (NAME.pt) of that profile")
    of_rates.add_argument("--no-recipes", action="store_true", help="leave the recipes out")
    of_rates.add_argument("--nncodec-python", type=Path, help="an interpreter that has nncodec==2.1.3")
    of_rates.add_argument("--ggml", type=Path, help="ggml's quantisers, see benchmarks/ggml.py")
    parts.add_parser("coder")
    parts.add_parser("task").add_argument("--stats", type=Path, help="statistics of the model")
    options = parser.parse_args()
    parts_of = {
        "rates": lambda: rates(options.sources, Peers(not options.no_recipes, options.nncodec_python, options.ggml, options.paper)),
        "coder": coder,
        "task": lambda: task(options.stats),
    }
    for line in parts_of[options.part]():
        print(line, flush=True)


if __name__ == "__main__":
    main()
