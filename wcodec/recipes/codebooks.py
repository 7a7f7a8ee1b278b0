"""Codebooks tensor by tensor: gwk (k-means of weights), bin-quant (equal bins) and pq (k-means of blocks)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from wcodec.codecs import Env
from wcodec.codecs.codebook import LARGEST, rounded
from wcodec.coding.histogram import F64, Points, importance_of, summarise, weights_of
from wcodec.errors import EncodeError
from wcodec.recipes.base import Importance, Method, of, require
from wcodec.types import Section, Spec, UInts

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
        return env.codecs["codebook"].encode(x, spec, env, values=self.values, rate=self.rate, importance=of(self.importance, name))


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
        weights = weights_of(x, spec)
        points = summarise(weights, importance_of(of(self.importance, name), spec.count))
        centroids, index = _bins(points, self.bins) if self.bins else _enough_bins(points, self.error)
        book, assigned = rounded(weights, spec, points, centroids, index)
        return env.codecs["codebook"].encode(x, spec, env, book=book, assigned=assigned)


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
        return env.codecs["codebook"].encode(
            x, spec, env, width=self.width, values=self.values, half=self.half, seed=self.seed, importance=of(self.importance, name)
        )


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
