"""Statistics of layers as a safetensors file: triangles of second moments, and what errors cost.

Tensors ``inputs.N``: the lower triangle, row by row, of the mean of x xᵀ over all inputs x of one or more layers; ``costs.NAME``: what a
squared error of each output costs the model, of the layer whose weight has that name, or of each element of another tensor, one number;
zeros where that is not known. The metadata ``layers`` say, as JSON, which triangle a weight has, its shape, and the axis of its inputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.codecs.floats.curvature import Curvature
from wcodec.container.safetensors import Entry, SafetensorsFile, SafetensorsWriter, canonical_header
from wcodec.errors import Corrupt
from wcodec.recipes.base import Calibration
from wcodec.types import Spec

F32: TypeAlias = npt.NDArray[np.float32]
KIND = "wcodec statistics"
COSTS = "costs."


@dataclass(frozen=True, slots=True)
class Layer:
    """What is known of a weight. inputs: number of its triangle. shape: of the weight. axis: of its inputs; 1: all but the first."""

    inputs: int
    shape: tuple[int, ...]
    axis: int = 1

    @property
    def width(self) -> int:
        """Number of inputs."""
        return prod(self.shape[1:]) if self.axis else self.shape[0]

    @property
    def height(self) -> int:
        """Number of outputs."""
        return prod(self.shape) // max(self.width, 1)


class Statistics(Calibration):
    """A file of statistics, which reads what it is asked for: importances of weights by name, and curvatures of matrices.

    batches: of the model's calls that they come from. Raises FormatError, OSError.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        with SafetensorsFile(self._path) as file:
            metadata = file.metadata or {}
            self._entries = {entry.name: entry for entry in file.entries}
        if metadata.get("kind") != KIND:
            raise Corrupt("not a file of statistics, which wcodec calibrate makes", at=str(path))
        self.layers: Mapping[str, Layer] = {}
        self.batches = 0
        try:
            self.batches = int(metadata.get("batches", 0))
            found = json.loads(metadata["layers"])
            self.layers = {name: Layer(its["inputs"], tuple(its["shape"]), its["axis"]) for name, its in found.items()}
            sizes = {f"inputs.{its.inputs}": triangle(its.width) for its in self.layers.values()}
        except (KeyError, TypeError, ValueError) as error:
            raise Corrupt(f"statistics of layers are damaged: {error!r}", at=str(path)) from None
        for name, count in sizes.items():
            self._check(name, count)
        for name in self._entries:
            if name.startswith(COSTS):
                layer = self.layers.get(name.removeprefix(COSTS))
                self._check(name, 1 if layer is None else layer.height)

    def __getitem__(self, name: str) -> F32:
        """Return the diagonal of the curvature, flat."""
        layer = self.layers[name]
        inputs = np.array([row[-1] for row in self._rows(layer)], np.float32)
        outputs = self._costs(name)
        rows = np.ones(layer.height, np.float32) if outputs is None else outputs
        found: F32 = np.multiply.outer(rows, inputs) if layer.axis else np.multiply.outer(inputs, rows)
        return found.reshape(-1)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def curvature(self, name: str) -> Curvature | None:
        """Return what errors of a matrix cost; None where its inputs are not its columns, or not known."""
        layer = self.layers.get(name)
        if layer is None or not layer.axis:
            return None
        inputs = np.empty((layer.width, layer.width), np.float32)
        for i, row in enumerate(self._rows(layer)):
            inputs[i, : i + 1] = inputs[: i + 1, i] = row
        return Curvature(inputs, self._costs(name))

    def cost(self, name: str) -> float | None:
        """Return what a squared error of an element costs the model, on average; None where that is not known."""
        costs, layer = self._costs(name), self.layers.get(name)
        if costs is None:
            return None
        inputs = 1.0 if layer is None else float(np.mean([row[-1] for row in self._rows(layer)], dtype=np.float64))
        return float(costs.mean(dtype=np.float64)) * inputs or None

    def _rows(self, layer: Layer) -> Iterator[F32]:
        flat, at = self._read(f"inputs.{layer.inputs}"), 0
        for length in range(1, layer.width + 1):
            yield flat[at : at + length]
            at += length

    def _costs(self, name: str) -> F32 | None:
        found = self._read(COSTS + name) if COSTS + name in self._entries else None
        if found is not None and found.min(initial=0) < 0:
            raise Corrupt(f"an error of {name} costs less than none", at=str(self._path))
        return found if found is not None and found.any() else None

    def _check(self, name: str, count: int) -> Entry:
        entry = self._entries.get(name)
        if entry is None or entry.spec != Spec.of("F32", count):
            raise Corrupt(f"expected {count} numbers of {name}", at=str(self._path))
        return entry

    def _read(self, name: str) -> F32:
        entry = self._entries[name]
        out = np.empty(entry.spec.count, "<f4")
        with SafetensorsFile(self._path) as file:
            file.read(entry, 0, entry.spec.size, out.view(np.uint8))
        if not np.isfinite(out).all():
            raise Corrupt(f"{name} is not finite", at=str(self._path))
        return out


def triangle(width: int) -> int:
    """Return the numbers that a symmetric matrix has."""
    return width * (width + 1) // 2


def write(
    path: str | Path,
    layers: Mapping[str, Layer],
    inputs: Iterator[F32],
    counts: Mapping[str, int],
    costs: Iterator[F32],
    about: Mapping[str, str],
    force: bool,
) -> int:
    """Write statistics. inputs: matrices in the order of their numbers; costs: of tensors, as many as ``counts`` say, in that order;
    both one at a time. about: further metadata. Returns the size.

    Raises FileExistsError, OSError.
    """
    widths = dict(sorted({its.inputs: its.width for its in layers.values()}.items()))
    specs = [(f"inputs.{number}", Spec.of("F32", triangle(width))) for number, width in widths.items()]
    specs += [(COSTS + name, Spec.of("F32", count)) for name, count in counts.items()]
    metadata = {"kind": KIND, "layers": json.dumps({name: asdict(its) for name, its in layers.items()}), **about}
    with SafetensorsWriter(path, canonical_header(specs, metadata), force) as file:
        for matrix in inputs:
            for i in range(len(matrix)):
                file.write(matrix[i, : i + 1].astype("<f4").view(np.uint8))
        for its in costs:
            file.write(its.astype("<f4").view(np.uint8))
        return file.close()
