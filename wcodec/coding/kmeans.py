"""k-means with importances: of single weights by their histogram, and of blocks of weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wcodec.coding.histogram import F32, F64, Points
from wcodec.errors import BackendUnavailable

ROUNDS = 1000
"""Rounds on a histogram, at most: each takes microseconds."""
BLOCK_ROUNDS = 50
TRAINED = 256
"""Blocks per centroid that centroids of blocks are made from, at most."""


def cluster(points: Points, count: int, rate: float = 0.0) -> tuple[F64, npt.NDArray[np.intp]]:
    """Return at most ``count`` centroids by value, and the one of every point (Lloyd 1982; importances: GWK, arXiv 2210.05111).

    rate: what one bit of the centroid's code counts, in shares of the mean square (entropy-constrained, Chou et al. 1989).
    """
    mass, sums = (np.concatenate(([0.0], np.cumsum(x))) for x in (points.mass, points.mass * points.values))
    counts = np.concatenate(([0.0], np.cumsum(points.counts)))
    price = rate * float((points.counts * points.values**2).sum()) / max(float(counts[-1]), 1.0)
    centroids = _spread(points, count)
    cuts = _cuts(points, centroids, np.zeros(centroids.size))
    for _ in range(ROUNDS):
        used = np.diff(counts[cuts]) > 0
        first, last = cuts[:-1][used], cuts[1:][used]
        centroids = (sums[last] - sums[first]) / (mass[last] - mass[first])
        bits = -np.log2((counts[last] - counts[first]) / counts[-1])
        before, cuts = cuts, _cuts(points, centroids, price * bits)
        if np.array_equal(before, cuts):
            break
    return centroids, np.repeat(np.arange(centroids.size), np.diff(cuts))


def _spread(points: Points, count: int) -> F64:
    """Spread centroids as the cube root of the density: that is best when there are many (Panter and Dite 1951)."""
    if points.values.size <= count:
        return points.values
    between = (points.mass[1:] + points.mass[:-1]) / 2 * np.diff(points.values) ** 2  # density times cubed distance
    grown = np.concatenate(([0.0], np.cumsum(np.cbrt(between))))
    spread: F64 = np.interp((np.arange(count) + 0.5) / count * grown[-1], grown, points.values)
    return spread


def _cuts(points: Points, centroids: F64, prices: F64) -> npt.NDArray[np.intp]:
    """Return where the points of every centroid begin, and their end: squared distance plus price is least. May leave some without."""
    gaps = np.maximum(np.diff(centroids), np.finfo(np.float64).tiny)
    borders = (centroids[1:] + centroids[:-1]) / 2 + np.diff(prices) / (2 * gaps)
    found = np.searchsorted(points.values, np.maximum.accumulate(borders)) if borders.size else np.empty(0, np.intp)
    return np.concatenate(([0], found, [points.values.size]))


def cluster_blocks(blocks: F32, mass: F32, count: int, seed: int) -> tuple[F32, npt.NDArray[np.intp]]:
    """Return centroids [at most count, width] of blocks [n, width] of importances [n], and the centroid of every block.

    By scikit-learn, in one thread: sums of several would be rounded in any order. Raises BackendUnavailable without it.
    """
    try:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise BackendUnavailable("k-means of blocks needs scikit-learn: pip install 'wcodec[kmeans]'") from None
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(len(blocks), min(len(blocks), TRAINED * count), replace=False))
    x = blocks[sample]
    means = KMeans(min(count, len(np.unique(x, axis=0))), n_init=1, max_iter=BLOCK_ROUNDS, random_state=seed)
    with threadpool_limits(1, "openmp"):
        means.fit(x, sample_weight=mass[sample])
        return means.cluster_centers_, means.predict(blocks)
