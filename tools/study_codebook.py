"""What codebooks cost a trained network: accuracy, distinct values, bits and whole files of LeNet-300-100 (see train_lenet.py).

Every row is a file that was written, read back and run on the test images of MNIST. Matrices are encoded, biases stay lossless.

    python tools/study_codebook.py             # writes tools/results/codebook.md; a minute
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import blake3
import numpy as np
import torch
from safetensors.numpy import load_file
from train_lenet import CACHE, Images, accuracy, fetch

import wcodec.numpy
from wcodec.backends import get_backend
from wcodec.codecs import CODECS, Env, check, decode_all
from wcodec.container.writer import ContainerWriter
from wcodec.recipes import Match, Recipe, Rule, make_method
from wcodec.types import Spec

RESULTS = Path(__file__).parent / "results" / "codebook.md"
Arrays = dict[str, np.ndarray]


class InMemory:
    """A checkpoint of float32 arrays."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays, self.names = arrays, list(arrays)

    def spec(self, name: str) -> Spec:
        return Spec.of("F32", *self._arrays[name].shape)

    @contextmanager
    def read(self, name: str) -> Iterator[np.ndarray]:
        yield np.ascontiguousarray(self._arrays[name]).reshape(-1).view(np.uint32)

    def file(self, name: str) -> str:
        return ""


@dataclass(frozen=True)
class Row:
    """A file: what was asked for, and what came of it. bits: entropy of the values of all matrices together."""

    what: str
    accuracy: float
    values: int
    bits: float
    size: int
    notes: Sequence[str] = ()


def entropy(arrays: Sequence[np.ndarray]) -> tuple[int, float]:
    """Return the number of distinct values of all arrays together, and their entropy in bits."""
    _, counts = np.unique(np.concatenate([x.reshape(-1).view(np.uint32) for x in arrays]), return_counts=True)
    share = counts / counts.sum()
    return counts.size, float(-(share * np.log2(share)).sum())


def encoded(arrays: Arrays, recipe: Recipe) -> bytes:
    """Return the file of a network."""
    source, env, out = InMemory(arrays), Env(get_backend("auto"), CODECS), io.BytesIO()
    recipe.prepare(source, env)
    with ContainerWriter(out) as writer:
        for name in source.names:
            spec = source.spec(name)
            with source.read(name) as x:
                section = recipe.encode(name, x, spec, env).section
            check(section, spec, env)
            writer.add(name, spec, section, blake3.blake3(decode_all(section, spec, env).tobytes()).digest())
    return out.getvalue()


def row(what: str, arrays: Arrays, test: Images, method: str, options: dict, importance: Arrays | None = None) -> Row:
    """Encode, decode and run a network."""
    its = make_method(method, options, importance)
    data = encoded(arrays, Recipe(what, [Rule(Match(("*.weight",)), its)]))
    back = wcodec.numpy.load(data)
    values, bits = entropy([back[name] for name in arrays if name.endswith("weight")])
    return Row(what, accuracy({name: torch.from_numpy(x.copy()) for name, x in back.items()}, test), values, bits, len(data), its.notes)


def study(cache: Path) -> tuple[list[Row], int]:
    """Return all rows, and the number of weights."""
    _, test = fetch(cache)
    arrays = load_file(cache / "lenet.safetensors")
    kinds: dict[str, Arrays | None] = {
        "unweighted": None,
        "\\|g\\|": load_file(cache / "lenet.gradient.safetensors"),
        "g²": load_file(cache / "lenet.fisher.safetensors"),
    }
    rows = [row("dense, lossless", arrays, test, "lossless", {})]
    for distance in (0.05, 0.1, 0.2):
        rows.append(row(f"wfn, delta {distance}", arrays, test, "wfn", {"delta": distance}))
    for values in (4, 16):
        for kind, importance in kinds.items():
            rows.append(row(f"gwk, {values} values, {kind}", arrays, test, "gwk", {"values": values}, importance))
    rows.append(row("gwk, 64 values, rate 0.04", arrays, test, "gwk", {"values": 64, "rate": 0.04}))
    rows.append(row("bin-quant, error 0.25", arrays, test, "bin-quant", {"error": 0.25}))
    for kind, importance in kinds.items():
        rows.append(row(f"pq, 256 × 8, {kind}", arrays, test, "pq", {}, importance))
    return rows, sum(x.size for name, x in arrays.items() if name.endswith("weight"))


def table(rows: Sequence[Row], count: int) -> str:
    """Return the page."""
    dense = 4 * (count + 410)
    lines = [
        "# Codebooks of LeNet-300-100 on MNIST",
        "",
        f"{count:,} weights in three matrices and 410 biases, {dense:,} bytes as float32. Written by `tools/study_codebook.py`.",
        "Nothing sees data but the importances (means over the training images), and nothing is trained after encoding. Values and bits",
        "(order-0 entropy) are counted in the decoded matrices, all together; bytes are those of the whole file, lossless biases included.",
        "",
        "| recipe | accuracy, % | values | bits per weight | file, bytes | ratio |",
        "|---|---|---|---|---|---|",
    ]
    lines += [f"| {r.what} | {r.accuracy:.2f} | {r.values:,} | {r.bits:.2f} | {r.size:,} | {dense / r.size:.1f} |" for r in rows]
    notes = [f"- {r.what}: {note}" for r in rows for note in r.notes]
    return "\n".join([*lines, "", "What the methods had to tell:", "", *notes, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"where train_lenet.py put the network (default {CACHE})")
    options = parser.parse_args()
    torch.set_num_threads(1)
    page = table(*study(options.cache))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
