"""k-means with importances: of single weights by their histogram, and of blocks of weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wcodec.recipes.histogram import F32, F64, Points

ROUNDS = 1000
"""Rounds on a histogram, at most: each takes microseconds."""
BLOCK_ROUNDS = 20
TRAINED = 256
"""Blocks per centroid that centroids of blocks are made from, at most."""
PIECE = 1 << 14
"""Blocks whose distances to all centroids are worked out together."""


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
    edges = np.linspace(points.values[0], points.values[-1], 4097)
    density, _ = np.histogram(points.values, edges, weights=points.mass)
    grown = np.concatenate(([0.0], np.cumsum(np.cbrt(density))))
    spread: F64 = np.interp((np.arange(count) + 0.5) / count * grown[-1], grown, edges)
    return spread


def _cuts(points: Points, centroids: F64, prices: F64) -> npt.NDArray[np.intp]:
    """Return where the points of every centroid begin, and their end: squared distance plus price is least. May leave some without."""
    gaps = np.maximum(np.diff(centroids), np.finfo(np.float64).tiny)
    borders = (centroids[1:] + centroids[:-1]) / 2 + np.diff(prices) / (2 * gaps)
    found = np.searchsorted(points.values, np.maximum.accumulate(borders)) if borders.size else np.empty(0, np.intp)
    return np.concatenate(([0], found, [points.values.size]))


def cluster_blocks(blocks: F32, importance: F32 | None, count: int, seed: int) -> tuple[F32, npt.NDArray[np.intp]]:
    """Return centroids [at most count, width] of blocks [n, width] and the one of every block; importances are those of single weights."""
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(len(blocks), min(len(blocks), TRAINED * count), replace=False))
    x, mass = blocks[sample], None if importance is None else importance[sample]
    centroids = np.unique(x[rng.permutation(len(x))[:count]], axis=0)
    for _ in range(BLOCK_ROUNDS):
        nearest, distance = _nearest(x, mass, centroids)
        centroids = _means(x, mass, nearest, centroids)
        idle = np.flatnonzero(np.bincount(nearest, minlength=len(centroids)) == 0)
        centroids[idle] = x[np.argsort(-distance, kind="stable")[: idle.size]]  # where it is worst
    return centroids, _nearest(blocks, importance, centroids)[0]


def _nearest(x: F32, mass: F32 | None, centroids: F32) -> tuple[npt.NDArray[np.intp], F32]:
    """Return the centroid of least important squared distance, and that distance, for every block."""
    nearest, distance = np.empty(len(x), np.intp), np.empty(len(x), np.float32)
    for at in range(0, len(x), PIECE):
        its = x[at : at + PIECE]
        weigh = np.ones_like(its) if mass is None else mass[at : at + PIECE]
        # Σ m (x − c)² without the term that does not depend on c.
        part = weigh @ (centroids**2).T - 2 * (weigh * its) @ centroids.T
        best = part.argmin(1)
        nearest[at : at + PIECE] = best
        distance[at : at + PIECE] = part[np.arange(len(its)), best] + (weigh * its**2).sum(1)
    return nearest, distance


def _means(x: F32, mass: F32 | None, nearest: npt.NDArray[np.intp], centroids: F32) -> F32:
    """Return the important mean of every centroid's blocks; a centroid without blocks stays."""
    found = centroids.copy()
    for k in range(x.shape[1]):
        weigh = np.ones(len(x)) if mass is None else mass[:, k].astype(np.float64)
        total = np.bincount(nearest, weigh, len(centroids))
        used = total > 0
        found[used, k] = (np.bincount(nearest, weigh * x[:, k], len(centroids))[used] / total[used]).astype(np.float32)
    return found
