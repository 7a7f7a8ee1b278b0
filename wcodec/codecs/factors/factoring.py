"""Factors of matrices: truncated SVD and tensor trains. Encoders only; results repeat on one machine, not across BLAS libraries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.errors import EncodeError

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]

EXACT = 4096
"""Shorter side up to which the SVD is exact; above it, and for fewer ranks than WIDE of it, it is found by subspace iteration."""
WIDE = 0.8
OVERSAMPLE = 48
ITERATIONS = 4
CHUNK = 1 << 12
"""Rows that stand in float64 at once."""
THIN = 0.97
"""Share of Σ σ² that a product as large as the matrix has to keep; of random square matrices it keeps 0.90, of those 1 : 4 0.92."""


def choose_rank(rows: int, cols: int, squares: F64 | None, **options: Any) -> int:
    """Return the rank that one of the options ``rank``, ``keep``, ``energy`` and ``error`` asks for, at least 1.

    keep: share of the parameters. energy: share of Σ σ² kept. error: relative Frobenius error allowed. squares: σ², descending, for the
    last two. Raises EncodeError.
    """
    (how, ask), *more = [(key, value) for key, value in options.items() if value is not None] or [("keep", 0.5)]
    if more or how not in ("rank", "keep", "energy", "error"):
        raise EncodeError("the rank comes from one of rank, keep, energy and error")
    most = max(1, min(rows, cols))
    if how == "rank":
        if ask < 1:
            raise EncodeError(f"rank is {ask}")
        return int(min(ask, most))
    if not 0 < ask <= 1:
        raise EncodeError(f"{how} is {ask}, not a share of 1")
    if how == "keep":
        return int(min(most, max(1, ask * rows * cols // max(1, rows + cols))))
    assert squares is not None
    kept = np.cumsum(squares)
    share = ask if how == "energy" else 1 - ask * ask
    return int(min(most, 1 + np.searchsorted(kept, share * kept[-1] * (1 - 1e-12)))) if kept.size else 1


def needs_spectrum(**options: Any) -> bool:
    """Tell whether ``choose_rank`` looks at singular values."""
    return options.get("energy") is not None or options.get("error") is not None


def spectrum(w: F32) -> F64:
    """Return σ² of a matrix, descending."""
    found: F64 = np.maximum(np.linalg.eigvalsh(_gram(_tall(w)))[::-1], 0)
    return found


def thin(w: F32) -> bool:
    """Tell by every other row and column, in an eighth of the work, whether a product of thinner matrices may replace a matrix."""
    squares = spectrum(w[::2, ::2])
    kept = squares[: -(-squares.size * max(w.shape) // sum(w.shape))]
    return float(kept.sum()) >= THIN * float(squares.sum())


def balanced_svd(w: F32, rank: int) -> tuple[F32, F32]:
    """Return left [m, rank] and right [rank, n] of the best approximation of a matrix, √σ in both."""
    flip = w.shape[0] < w.shape[1]
    tall = _tall(w)
    wide = min(tall.shape) > EXACT and rank < WIDE * tall.shape[1]
    basis = _subspace(tall, rank) if wide else _leading(_gram(tall), rank)
    image = tall @ basis  # the product of image and basis does not depend on how exact σ is
    root = np.sqrt(np.linalg.norm(image, axis=0))
    scale = np.divide(1, root, out=np.zeros_like(root), where=root > 1e-12 * root.max(initial=0))
    left, right = (image * scale).astype(np.float32), (basis * root).T.astype(np.float32)
    return (right.T.copy(), left.T.copy()) if flip else (left, right)


def _tall(w: F32) -> F32:
    return w.T if w.shape[0] < w.shape[1] else w


def _gram(w: F32) -> F64:
    """Return wᵀ w in float64."""
    total = np.zeros((w.shape[1], w.shape[1]))
    for at in range(0, w.shape[0], CHUNK):
        piece = w[at : at + CHUNK].astype(np.float64)
        total += piece.T @ piece
    return total


def _leading(gram: F64, rank: int) -> F32:
    """Return the eigenvectors of the ``rank`` largest eigenvalues, largest first."""
    vectors: F32 = np.linalg.eigh(gram)[1][:, ::-1][:, :rank].astype(np.float32)
    return vectors


def _subspace(w: F32, rank: int) -> F32:
    """Find the leading right singular vectors by subspace iteration (Halko, Martinsson & Tropp 2011, algorithm 4.4)."""
    v = np.random.default_rng(0).standard_normal((w.shape[1], min(w.shape[1], rank + OVERSAMPLE)), np.float32)
    for _ in range(ITERATIONS):
        v = _orthonormal(w.T @ _orthonormal(w @ v))
    rotation = _leading(_gram(w @ v), rank)
    return v @ rotation


def _orthonormal(v: F32) -> F32:
    """Orthonormalise columns by Cholesky factors of their Gram matrix, twice: products of matrices, which QR by reflections is not."""
    for _ in range(2):
        gram = _gram(v)
        gram[np.diag_indices_from(gram)] += 1e-13 * np.trace(gram)
        v = v @ np.linalg.inv(np.linalg.cholesky(gram)).T.astype(np.float32)
    return v


@lru_cache(4096)
def factorise(number: int, sites: int) -> tuple[int, ...]:
    """Return ``sites`` factors of about one size whose product is ``number`` or little more."""
    number = max(1, number)
    if sites == 1:
        return (number,)
    root = round(number ** (1 / sites))
    found = [(a, *factorise(-(-number // a), sites - 1)) for a in range(max(1, root // 2), 2 * root + 1)]
    return min(found, key=lambda its: (prod(its) * (max(its) / min(its)) ** 0.25, its))


def bond_limits(rows: Sequence[int], cols: Sequence[int]) -> list[int]:
    """Return the largest bonds that a tensor train of these sites can use."""
    sizes = [a * b for a, b in zip(rows, cols, strict=True)]
    return [min(prod(sizes[:at]), prod(sizes[at:])) for at in range(1, len(sizes))]


def train_size(rows: Sequence[int], cols: Sequence[int], bond: int) -> int:
    """Return the parameters of a tensor train with bonds up to ``bond``."""
    bonds = [1, *(min(bond, most) for most in bond_limits(rows, cols)), 1]
    return sum(bonds[i] * a * b * bonds[i + 1] for i, (a, b) in enumerate(zip(rows, cols, strict=True)))


def tt_svd(w: F32, rows: Sequence[int], cols: Sequence[int], bond: int | None, error: float | None) -> list[F32]:
    """Return the cores [χ, o, i, χ'] of a matrix (Oseledets 2011), padded with zeros to the product of its sites.

    bond: largest bond. error: relative Frobenius error allowed.
    """
    padded = np.zeros((prod(rows), prod(cols)), np.float32)
    padded[: w.shape[0], : w.shape[1]] = w
    sites = len(rows)
    order = [axis for site in range(sites) for axis in (site, sites + site)]
    rest = padded.reshape(*rows, *cols).transpose(order).reshape(1, -1)
    allowed = 0.0 if error is None else (error * float(np.linalg.norm(w))) ** 2 / max(1, sites - 1)
    cores = []
    for a, b in zip(rows[:-1], cols[:-1], strict=True):
        left, rest = _cut(rest.reshape(rest.shape[0] * a * b, -1), bond, allowed)
        cores.append(left.reshape(-1, a, b, rest.shape[0]))
    return [*cores, rest.reshape(-1, rows[-1], cols[-1], 1)]


def _cut(m: F32, bond: int | None, allowed: float) -> tuple[F32, F32]:
    """Split a matrix into one with orthonormal columns and the rest; allowed: squared error."""
    tall = m.shape[0] > m.shape[1]
    values, vectors = np.linalg.eigh(_gram(m) if tall else _gram(m.T))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    dropped = np.cumsum(values[::-1])  # what leaving out the last 1, 2, … costs
    rank = max(1, values.size - int(np.searchsorted(dropped, allowed, side="right")))
    rank = rank if bond is None else min(rank, bond)
    kept = vectors[:, :rank].astype(np.float32)
    if not tall:
        return kept, kept.T @ m
    norms = np.sqrt(values[:rank])
    scale = np.divide(1, norms, out=np.zeros(rank), where=norms > 1e-7 * norms.max(initial=0))
    return ((m @ kept) * scale).astype(np.float32), (norms * kept).T.astype(np.float32)
