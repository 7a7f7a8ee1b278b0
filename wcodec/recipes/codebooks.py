"""Codebooks tensor by tensor: gwk (k-means of weights), bin-quant (equal bins) and pq (k-means of blocks)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from wcodec.codecs import Env
from wcodec.codecs.codebook import LARGEST, blocks_of, fitting
from wcodec.coding.numbers import from_float32
from wcodec.errors import EncodeError
from wcodec.recipes.base import Importance, Method, require
from wcodec.recipes.histogram import F32, F64, Histogram, Points, assign, importance_of, weights_of
from wcodec.recipes.kmeans import cluster, cluster_blocks
from wcodec.types import Section, Spec, UInts

EXTREME = 2.0**60
"""Weights above, or all below its inverse, are not for sums of float32 squares."""
MOST_BINS = 1 << 12
"""Bins that bin-quant tries at most: finer ones are not what it is for."""


@dataclass
class GWK(Method):
    """Cluster every tensor's weights by k-means, weighted by importance (|g| in the paper, arXiv 2210.05111).

    values: centroids, at most. rate: what a bit counts, in shares of the mean square: larger files are worth smaller errors at 0.
    """

    values: int = 16
    rate: float = 0.0
    importance: Importance | None = None
    name: ClassVar[str] = "gwk"
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        require(1 <= self.values <= LARGEST, f"gwk: values is 1 to {LARGEST}")
        require(0 <= self.rate < 1, "gwk: rate is at least 0 and below 1")

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        points = _points(name, x, spec, self.importance)
        centroids, index = cluster(points, self.values, self.rate)
        return _of_values(x, spec, env, points, centroids, index)


@dataclass
class BinQuant(Method):
    """Replace weights by the midpoints of equal bins, symmetric about 0 (Bin & Quant, arXiv 2210.05111).

    bins: their number. error: instead, as many as the tensor needs for this squared error relative to the squares, as a root.
    """

    bins: int | None = None
    error: float = 0.1
    importance: Importance | None = None
    name: ClassVar[str] = "bin-quant"
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        require(self.bins is None or 1 <= self.bins <= LARGEST, f"bin-quant: bins is 1 to {LARGEST}")
        require(0 < self.error < 1, "bin-quant: error is above 0 and below 1")

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        points = _points(name, x, spec, self.importance)
        centroids, index = _bins(points, self.bins) if self.bins else _enough_bins(points, self.error)
        return _of_values(x, spec, env, points, centroids, index)


@dataclass
class PQ(Method):
    """Cluster blocks of neighbouring weights of a row by k-means, weighted by importance (product quantisation, arXiv 2004.07320).

    width: weights of a block. values: centroids, at most. half: round centroids to F16 values, which are stored in half the bytes.
    seed: of the sample that centroids are made from.
    """

    width: int = 8
    values: int = 256
    half: bool = True
    seed: int = 0
    importance: Importance | None = None
    name: ClassVar[str] = "pq"
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        require(1 <= self.values <= LARGEST and 1 <= self.width <= LARGEST, f"pq: values and width are 1 to {LARGEST}")

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        weights = weights_of(x, spec)
        largest = float(np.abs(weights).max(initial=0))
        if not x.size or not (largest == 0 or 1 / EXTREME < largest < EXTREME):
            raise EncodeError("the tensor is empty, or its largest weight is no number whose square is one")
        f32, importance = Spec.of("F32", *spec.shape), _important(name, spec, self.importance)
        width = fitting(self.width, spec)
        blocks = blocks_of(weights.view(np.uint32), f32, width).view(np.float32)
        mass = np.ones(len(blocks), np.float32)
        if importance is not None:
            # One importance per block: weights of their own overfit (tools/results/codebook.md).
            mass = blocks_of(importance.view(np.uint32), f32, width).view(np.float32).mean(1)
        centroids, index = cluster_blocks(blocks, mass, self.values, self.seed)
        if self.half and spec.dtype.bits > 16:
            centroids = np.clip(centroids, -65504, 65504).astype(np.float16).astype(np.float32)
        book = from_float32(centroids.reshape(-1), spec.dtype)
        return env.codecs["codebook"].encode(x, spec, env, width=width, book=book, assigned=_narrow(index, len(centroids)))


def _important(name: str, spec: Spec, importance: Importance | None) -> F32 | None:
    return importance_of(None if importance is None else importance.get(name), spec.count)


def _points(name: str, x: UInts, spec: Spec, importance: Importance | None) -> Points:
    """Summarise a tensor. Raises EncodeError when it is empty or not of finite floats."""
    histogram = Histogram()
    histogram.add(weights_of(x, spec), _important(name, spec, importance))
    if not x.size:
        raise EncodeError("the tensor is empty")
    return histogram.points()


def _narrow(index: npt.NDArray[np.intp], count: int) -> UInts:
    narrowed: UInts = index.astype(np.uint8 if count <= 256 else np.uint16)
    return narrowed


def _of_values(x: UInts, spec: Spec, env: Env, points: Points, centroids: F64, index: npt.NDArray[np.intp]) -> Section:
    """Encode a tensor whose points were given centroids, of which only those in use are kept."""
    used, index = np.unique(index, return_inverse=True)
    book = from_float32(centroids[used].astype(np.float32), spec.dtype)
    return env.codecs["codebook"].encode(x, spec, env, book=book, assigned=assign(weights_of(x, spec), points, index))


def _bins(points: Points, count: int) -> tuple[F64, npt.NDArray[np.intp]]:
    """Cut the range that reaches as far below 0 as above into equal bins; return midpoints, and the bin of every point."""
    reach = float(np.abs(points.values).max())
    width = 2 * reach / count
    index = np.floor((points.values + reach) / width) if width else np.zeros(points.values.size)
    midpoints = (np.arange(count, dtype=np.float64) + 0.5) * width - reach
    return midpoints, np.minimum(index.astype(np.intp), count - 1)


def _enough_bins(points: Points, error: float) -> tuple[F64, npt.NDArray[np.intp]]:
    """Return the fewest bins, about, that keep the error: an odd number, so that one is about 0."""

    def keeps(count: int) -> bool:
        centroids, index = _bins(points, count)
        return points.error(centroids[index]) <= error

    low, high = 0, 1
    while not keeps(2 * high + 1):
        low, high = high, 2 * high
        if high > MOST_BINS:
            raise EncodeError(f"{MOST_BINS} bins leave an error above {error}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(2 * middle + 1) else (middle, high)
    return _bins(points, 2 * high + 1)
