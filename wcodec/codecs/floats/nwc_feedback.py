"""The encoder of ``nwc`` for a matrix whose inputs are known: columns make up for each other's errors, as those of ``trellis`` do.

A first pass leaves the net out: what it aimed at decides the levels, one for all columns, or each its own as their steps differ. The second
pass searches every column once more for what is left when the net has added its share, and feeds back what the net really makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env
from wcodec.codecs.floats.nwc_encoder import TRADE, Coded, Job, with_padding, without_padding
from wcodec.codecs.floats.trellis_encoder import Coder
from wcodec.codecs.floats.trellis_feedback import Column, Feedback, feed_back, settings, suited
from wcodec.codecs.matrix import matrix_shape
from wcodec.coding.net import CHUNK, Net
from wcodec.coding.trellis import factors
from wcodec.types import Spec

F32: TypeAlias = npt.NDArray[np.float32]
BANDS = 32
"""Bands of chunks that levels are chosen by."""
LEVEL_BITS = 5
"""What the level of a column costs, about."""
ONE = np.ones(1, np.float32)


def quantise_calibrated(x: F32, spec: Spec, env: Env, net: Net, options: Mapping[str, Any]) -> Coded:
    """Decide everything for a flat matrix of finite values, by the option ``curvature``. Raises EncodeError."""
    (rows, cols), curvature = matrix_shape(spec), suited(spec, options)
    upper, d = curvature.factor()
    padded, weights = with_padding(x, rows, cols), curvature.of_rows(rows)
    height = padded.size // cols
    weights = np.append(weights, np.full(height - rows, np.exp(np.log(weights).mean())))
    states = options.get("states", 32)
    asked = {**options, "states": states or 4}
    if "step" not in asked:
        asked["relative"] = asked.get("relative", 0.5) * (height / rows) ** 0.5  # of the matrix without its padding
    its = replace(settings(padded.reshape(height, cols), d, weights, asked, CHUNK), points=False, weights=without_padding(rows, cols))
    job = Job(padded, cols, env, net, its, options.get("level"))
    if states:
        found = _along_trellises(job, upper)
    else:
        found = _scalars(job, upper, options.get("slope", TRADE), options.get("sweeps", 0), options.get("rounds", 2))
    return replace(found, rows=None if found.rows is None else found.rows[:rows])


def choose_levels(job: Job, u: F32, k: F32, slope: float) -> None:
    """Choose the level of all columns, or of each where that pays, unless there is one already.

    u, k: what was aimed at, and latents for it, in steps; flat. slope: squared steps that a bit is worth.
    """
    if job.level is not None or job.net.levels == 1:
        job.level = 0 if job.level is None else job.level
        return
    bands, shape = u.size // (CHUNK * job.cols), (-1, CHUNK * job.cols)
    chosen = np.arange(0, bands, -(-bands // BANDS))
    u, k = (np.ascontiguousarray(its.reshape(shape)[chosen]).reshape(-1) for its in (u, k))
    errors = np.empty((job.net.levels, job.cols))
    for level in range(job.net.levels):
        left = u - replace(job, level=level).outputs(k) * np.float32(0.5**job.net.shift)
        errors[level] = np.square(left, dtype=np.float64).reshape(-1, job.cols).sum(0)
    best = int(errors.sum(1).argmin())
    saved = float(errors[best].sum() - errors.min(0).sum()) * bands / chosen.size
    job.level = errors.argmin(0).astype(np.uint8) if saved > slope * LEVEL_BITS * job.cols else best


def of_column(job: Job, j: int) -> Job:
    """Return the job of one column."""
    level, weights = job.level, job.its.weights
    its = job.its if weights is None else replace(job.its, weights=weights.reshape(-1, job.cols)[:, j])
    return replace(job, cols=1, its=its, level=level if level is None or isinstance(level, int) else int(level[j]))


def _along_trellises(job: Job, upper: F32) -> Coded:
    """Search along trellises. Raises EncodeError."""
    coder = Coder(job.x, job.env, job.its)
    counts, points = coder.learn()
    symbols, targets = np.empty(job.x.size, coder.dtype), np.empty_like(job.x)
    counts = Aiming(coder, upper, coder.how(coder.last(counts), points), points, targets).all(symbols)
    choose_levels(job, targets, job.latents(coder.finish(symbols, counts, points)), job.its.slope)
    counts = Through(coder, upper, coder.how(coder.last(counts), points), points, job).all(symbols)
    return job.with_trellis(coder.finish(symbols, counts, points))


@dataclass(frozen=True, slots=True)
class Aiming(Feedback):
    """A search that remembers what it aimed at. targets: in steps, flat."""

    targets: F32

    def column(self, its: Column, now: F32) -> F32:
        replace(its.piece, first=its.piece.first + its.j, columns=1).of(self.targets)[:, 0] = now / its.steps
        return Feedback.column(self, its, now)


@dataclass(frozen=True, slots=True)
class Through(Feedback):
    """A search of what the net makes of latents."""

    job: Job

    def column(self, its: Column, now: F32) -> F32:
        job, u = of_column(self.job, its.j), now / its.steps
        k, out = self._tried(its, job, u)
        if (added := out - k).any():
            other = replace(its, found=np.empty_like(its.found))
            again = self._tried(other, job, u - added)
            own = 1.0 if job.its.weights is None else job.its.weights
            if (own * np.square(u - again[1])).sum() < (own * np.square(u - out)).sum():
                its.found[:] = other.found
                k, out = again
        self._count(its, k)
        return out * its.steps

    def _tried(self, its: Column, job: Job, u: F32) -> tuple[F32, F32]:
        """Search a column in steps. Returns the latents, and what the net makes of them."""
        self.search(its, u, None)
        k = self.values(its, ONE)
        return k, job.outputs(k) * np.float32(0.5**job.net.shift)

    def _count(self, its: Column, k: F32) -> None:
        """Add the symbols of a column to their counts."""
        entry = np.clip(its.found.astype(np.intp) - self.how.zero - self.how.first, 0, self.how.costs.shape[1] - 1)
        table = k.astype(np.intp) & 1
        table += 0 if its.piece.classes is None else 2 * its.piece.classes.astype(np.intp)
        np.add.at(its.moments.counts, (table, entry), np.uint64(1))


def _scalars(job: Job, upper: F32, slope: float, sweeps: int, rounds: int) -> Coded:
    """Round every latent by itself. Raises EncodeError."""
    search, shape = job.rounding(slope), (-1, job.cols)
    wanted = np.ascontiguousarray(job.x.reshape(shape).T)
    k, targets = np.empty_like(job.x), np.empty_like(job.x)
    its = job.its
    assert its.columns is not None, "settings have made them"
    of_columns = factors(its.columns)
    of_rows = np.full(len(wanted[0]), its.step) if its.rows is None else its.step * factors(its.rows)
    limits = search.thresholds((search.k + search.most).astype(np.uint32))

    def aimed(j: int, now: F32) -> F32:
        steps = of_rows * of_columns[j]
        targets.reshape(shape)[:, j] = now / steps
        found = search.narrowed(now / steps, job, limits).k
        k.reshape(shape)[:, j] = found
        values: F32 = found * steps
        return values

    def through(j: int, now: F32) -> F32:
        steps = of_rows * of_columns[j]
        its = search.narrowed(now / steps, of_column(job, j), limits)
        for _ in range(rounds):
            its.aim()
        for _ in range(sweeps):
            its.sweep()
        k.reshape(shape)[:, j] = its.k
        values: F32 = (its.u - its.left(its.k)) * steps
        return values

    feed_back(wanted, upper, aimed)
    choose_levels(job, targets, k, slope)
    search.k = k
    search.learn()
    limits = search.thresholds((k + search.most).astype(np.uint32))
    feed_back(wanted, upper, through)
    return job.without_trellis(k)
