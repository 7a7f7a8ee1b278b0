"""What calibration does to a speech recogniser: Whisper base, divergence and cross entropy of its transcripts, token by token.

The 96 matrices of its layers are encoded for a target of bits per weight, which the whole file keeps to; the rest is the float model's.
Judged by recordings that calibration has not seen (tools/whisper.py says which).

    python tools/study_whisper.py --ggml libggmlq.so    # writes tools/results/whisper.md
    python tools/study_whisper.py --walks --bits 3 --output walks.md      # of all tensors of the layers, as norms and biases are trained
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import whisper
from benchmarks.ggml import Ggml
from safetensors.torch import load_file
from study_calibration import importance

import wcodec
from wcodec.api.files import matches
from wcodec.calibration.statistics import Statistics
from wcodec.calibration.walk import Walk
from wcodec.calibration.weights import hollow
from wcodec.evaluation import Quality, compare

RESULTS = Path(__file__).parent / "results" / "whisper.md"
MATRICES, LAYERS = ("*.layers.*_proj.weight", "*.layers.*.fc?.weight"), ("*.layers.*",)
GGUF = ("Q3_K", "IQ4_NL", "Q4_K")
HEADER = (
    "| bits asked | file, bits | calibration | KL, nats | median | 99 % | same token | cross entropy | seconds |",
    "|---|---|---|---|---|---|---|---|---|",
)


def row(bits: str, size: float, what: str, its: Quality, seconds: float) -> str:
    """A line of the table."""
    assert its.loss_after is not None and its.change is not None
    return (
        f"| {bits} | {size:.3f} | {what} | {its.kl.mean:.4f} ± {its.kl.error:.4f} | {its.kl_median:.4f} | {its.kl_p99:.3f} | "
        f"{100 * its.agreement.mean:.1f} % | {its.loss_after.mean:.4f} ({its.change.mean:+.4f} ± {its.change.error:.4f}) | {seconds:.0f} |"
    )


class Study:
    """A model whose matrices are encoded, and what its answers are then. answers: of a model, in batches."""

    def __init__(self, model: Any, source: Path, matrices: Sequence[str], answers: Callable[[Any], Iterator[tuple[Any, Any]]]) -> None:
        self.model, self.source, self.matrices, self._answers = model, source, matrices, answers
        self.plain = list(answers(model))

    def measure(self, target: Path, bits: float, **options: Any) -> tuple[float, Quality, float]:
        """Return bits per weight of a file, what it does to the answers, and the seconds that encoding took."""
        began = time.perf_counter()
        report = wcodec.encode(self.source, target, bpw=bits, include=self.matrices, force=True, readback=False, **options)
        return report.bpw, self.judge(target), time.perf_counter() - began

    def judge(self, target: Path) -> Quality:
        """Return what the matrices of a file do to the answers."""
        with wcodec.safe_open(target, "pt") as opened:
            return self._compare({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118

    def gguf(self, ggml: Ggml, kind: str, statistics: Statistics | None) -> tuple[float, Quality, float]:
        """Return the same of blocks of GGUF; statistics make an importance matrix."""
        began, size, found = time.perf_counter(), 0, {}
        for name, its in load_file(self.source).items():
            if matches(name, self.matrices):
                weights = None if statistics is None else importance(statistics, name)
                out, used = ggml.approximate(its.float().numpy(), kind, weights)
                found[name], size = torch.from_numpy(out), size + used
        bits = 8 * size / sum(its.numel() for its in found.values())
        return bits, self._compare(found), time.perf_counter() - began

    def _compare(self, weights: Mapping[str, torch.Tensor]) -> Quality:
        self._load(weights)
        found = compare(self.plain, self._answers(self.model))
        self._load({name: its for name, its in load_file(self.source).items() if not name.endswith("embed_positions.weight")})
        return found

    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.model.load_state_dict({name: its.float() for name, its in weights.items()}, strict=False)


def walk(source: Path, batches: Sequence[Any], folder: Path, finetune: bool) -> Walk:
    """A walk along encoder and decoder."""
    weights = whisper.floats(source)
    with hollow():
        model = whisper.made()
    model.tie_weights()
    return Walk(model, batches, lambda name: weights[name].numpy().copy(), weights, scratch=folder, finetune=finetune)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--bits", type=float, nargs="*", default=[3.0, 4.0])
    parser.add_argument("--clips", type=int, default=120, help="recordings to judge by; half as many more calibrate")
    parser.add_argument("--effort", default="normal")
    parser.add_argument("--walks", action="store_true", help="measure walks, beside statistics of the whole model")
    parser.add_argument("--ggml", type=Path, help="ggml's quantisers (tools/benchmarks/ggml.py says how to build them)")
    options = parser.parse_args()
    source = whisper.checkpoint()
    model = whisper.load(source)
    every = whisper.clips(model, options.clips * 3 // 2)
    judged, others = [its for i, its in enumerate(every) if i % 3], every[::3]
    with tempfile.TemporaryDirectory() as folder:
        study = Study(model, source, LAYERS if options.walks else MATRICES, lambda its: whisper.answers(its, judged))
        statistics = Path(folder) / "w.stats"
        began = time.perf_counter()
        wcodec.calibrate(model, others, statistics, announce=print)
        positions = sum(len(right) for _, right in study.plain)
        lines = [
            "# Calibration and Whisper base", "",
            f"`python tools/study_whisper.py --ggml libggmlq.so`: {len(judged)} recordings, {positions} tokens;",
            f"calibrated with {len(others)} others in {time.perf_counter() - began:.0f} s.",
            "Right tokens are what the float model heard: recordings come without transcripts. All bytes of files of the 96 matrices",
            f"{'and all vectors ' * options.walks}of the layers count; of GGUF, blocks alone, and its importance matrix is the",
            "diagonal of the same statistics.", "",
            *HEADER,
        ]  # fmt: skip
        for bits in options.bits:
            for name in ("inputs", "a walk", "a walk, fine-tuned") if options.walks else ("none", "inputs"):
                known = {"none": None, "inputs": statistics}
                calibration = known[name] if name in known else walk(source, others, Path(folder), "tuned" in name)
                size, its, seconds = study.measure(Path(folder) / "w.wcodec", bits, calibration=calibration, effort=options.effort)
                lines.append(row(f"{bits:g}", size, name, its, seconds))
                print(lines[-1], flush=True)
        for kind in GGUF if options.ggml else ():
            for name, weights in (("", None), (", importance matrix", Statistics(statistics))):
                size, its, seconds = study.gguf(Ggml(options.ggml), kind, weights)
                lines.append(row("", size, f"GGUF {kind}{name}", its, seconds))
                print(lines[-1], flush=True)
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
