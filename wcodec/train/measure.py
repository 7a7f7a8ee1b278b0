"""Rate and distortion of an autoencoder on fixed pieces, beside scalar quantisation and the bound of Shannon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wcodec.coding import net as nets
from wcodec.coding.net import CHUNK, Net
from wcodec.train import quantisers
from wcodec.train.nwc import Autoencoder

F64 = npt.NDArray[np.float64]
LONG = 16
"""Pieces that a trellis goes through without starting anew."""
GRID = 2.0 ** np.arange(1.75, -5.6, -0.25)
"""Steps of the reference quantisers."""
PULLS = (0.5, 1.0, 1.6, 2.5)
"""How strongly the reference pulls integers towards zero, of what would be best for normal numbers."""


@dataclass(frozen=True, slots=True)
class Point:
    """One level on one set of pieces. bits: entropy of the integers, per weight. mse: of weights of unit variance.

    net: bits that the net saves, ½ log2 of the ratio of errors without and with it for the same integers. rounding: bits below rounding
    to the nearest integer, at equal rate. scalar: bits above ideal scalar quantisation (optimal thresholds, centroids, ideal coder) of the
    same weights at equal rate; negative where the net is better. shannon: bits above ½ log2(σ² / D). unrounded: mse when nothing in the
    net is rounded.
    """

    source: str
    level: int
    trellis: bool
    step: float
    bits: float
    mse: float
    net: float
    rounding: float
    scalar: float
    shannon: float
    unrounded: float


@dataclass(frozen=True, slots=True)
class Scalar:
    """Scalar quantisation of one set: bits above ½ log2(1 / D) at rates, both for rounding and for the best that was found."""

    rates: F64
    rounding: F64
    best: F64


def entropy(integers: npt.NDArray[np.int64]) -> float:
    """Return bits per integer of a static table of their own frequencies."""
    counts = np.bincount((integers - integers.min()).ravel())
    share = counts[counts > 0] / integers.size
    return float(-(share * np.log2(share)).sum())


def curve(x: Tensor, pull: float, centroids: bool) -> tuple[F64, F64]:
    """Return rates of scalar quantisation on the grid of steps, rising, and bits above ½ log2(1 / D).

    x: of unit variance. pull: one of PULLS, or 0 for rounding to the nearest. centroids: values are those of their weights, not multiples.
    """
    rates, gaps = [], []
    for step in GRID:
        u = x / step
        sigma = torch.tensor(1 / (step * max(pull, 1e-9) ** 0.5))
        k = quantisers.scalar(u, sigma).long().numpy().ravel()
        flat, index = u.numpy().ravel(), k - k.min()
        values = np.bincount(index, flat) / np.maximum(1, np.bincount(index)) if centroids else np.arange(k.min(), k.max() + 1)
        error = float(np.square(flat - values[index]).mean()) * step * step
        rates.append(entropy(k))
        gaps.append(rates[-1] + 0.5 * np.log2(error))
    return np.array(rates), np.array(gaps)


def scalar(x: Tensor) -> Scalar:
    """Measure scalar quantisation of pieces: the reference for all levels."""
    rates = np.arange(0.5, 7.5, 0.05)
    best = np.min([np.interp(rates, *curve(x, pull, True)) for pull in PULLS], axis=0)
    return Scalar(rates, np.interp(rates, *curve(x, 0.0, False)), best)


def measure(model: Autoencoder, net: Net, sets: dict[str, Tensor], levels: Sequence[int] | None = None) -> list[Point]:
    """Measure levels (all) on sets of pieces [count, 64], scaled to unit variance, with the exported integer net and numpy's arithmetic.

    Pieces are taken 16 at a time, what is left over is not; there must be 16.
    """
    found = []
    for source, x in sets.items():
        x = x[: len(x) // LONG * LONG].reshape(-1, LONG * x.shape[1])
        x = x / float(x.double().square().mean()) ** 0.5
        reference = scalar(x)
        for level in range(net.levels) if levels is None else levels:
            found.append(_point(model, net, source, x, level, reference))
    return found


def _point(model: Autoencoder, net: Net, source: str, x: Tensor, level: int, reference: Scalar) -> Point:
    its = model.profile.levels[level]
    device = model.steps.device
    u, which = x / its.step, torch.full((len(x),), level)
    with torch.no_grad():
        k = model.latents(u.to(device), which.to(device))
        chunkwise = which.repeat_interleave(x.shape[1] // CHUNK).to(device)
        smooth = model.net(k.reshape(-1, CHUNK), chunkwise, False).cpu().reshape(x.shape)
    k = k.cpu()
    out = nets.run(net, k.numpy().reshape(-1, CHUNK, 1), level).reshape(x.shape) * 2.0**-net.shift

    def error(y: npt.NDArray[np.floating]) -> float:
        return float(np.square(y.astype(np.float64) - u.numpy()).mean()) * its.step**2

    mse, integers = error(out), k.long().numpy().ravel()
    bits = entropy(integers) - (entropy(integers & 1) if its.trellis else 0.0)  # a trellis state says which lattice it is
    gap = bits + 0.5 * float(np.log2(mse))
    rounding, best = (float(np.interp(bits, reference.rates, y)) for y in (reference.rounding, reference.best))
    gain = 0.5 * float(np.log2(error(k.numpy()) / mse))
    return Point(source, level, its.trellis, its.step, bits, mse, gain, rounding - gap, gap - best, gap, error(smooth.numpy()))
