"""What an encoder of ``nwc`` decides: steps, the net's level, and latents.

Nets are near the identity: a first search leaves the net out, a second one aims at the weights less what the net then added. Without a
trellis, each chunk keeps the better of both, and neighbours of every latent are tried against what the net really makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log2
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env
from wcodec.codecs.floats import trellis_encoder
from wcodec.codecs.floats.trellis_encoder import Settings
from wcodec.codecs.integers.rans_encoder import order_of
from wcodec.codecs.integers.tails import fit_tails
from wcodec.codecs.matrix import matrix_shape
from wcodec.coding.net import CHUNK, LATENT, Net
from wcodec.coding.trellis import Lattice, Quantised, factors
from wcodec.coding.uniform import Grid, shrink, thresholds
from wcodec.errors import EncodeError
from wcodec.types import DTYPES, U8, Spec, UInts

F32: TypeAlias = npt.NDArray[np.float32]
F64: TypeAlias = npt.NDArray[np.float64]
SAMPLE = 1 << 17
"""Weights that the level is chosen by."""
TALL = 512
"""Rows from which padding matters to none."""
TRADE = 0.1
"""Squared steps that a bit is worth without a trellis."""


@dataclass(frozen=True, slots=True)
class Coded:
    """What an encoder decided for a tensor: all that a section of ``nwc`` holds but the net.

    latents: symbols of the padded matrix, flat. step: of a net's output. coding: options of ``rans``. levels: of all columns or each.
    """

    latents: UInts
    zero: int
    step: np.float32
    coding: Mapping[str, Any]
    rows: U8 | None
    columns: U8 | None
    levels: int | U8


def quantise(x: F32, spec: Spec, env: Env, net: Net, options: Mapping[str, Any]) -> Coded:
    """Decide everything for a flat tensor of finite values. Raises EncodeError."""
    rows, cols = matrix_shape(spec)
    padded = with_padding(x, rows, cols)
    height = -(-rows // CHUNK) * CHUNK
    options = {**{key: value for key, value in options.items() if key != "relative"}, "step": _step(x, rows, height, options)}
    if (weights := without_padding(rows, cols, options.get("importance"))) is not None:
        options["importance"] = weights
    states = options.get("states", 32)
    if not states:  # for classes of rows alone
        options |= {"states": 4}
    its = trellis_encoder.settings(padded, Spec(DTYPES["F32"], (height, cols)), options)
    its = replace(its, points=False, weights=None if its.weights is None else its.weights * np.float32(rows / height))
    job = Job(padded, cols, env, net, its, options.get("level"))
    found = (
        job.along_trellises() if states else job.scalars(options.get("slope", TRADE), options.get("sweeps", 1), options.get("rounds", 2))
    )
    return replace(found, rows=None if found.rows is None else found.rows[:rows])


def with_padding(x: F32, rows: int, cols: int) -> F32:
    """Return a flat matrix with zeros below, so that its rows are a multiple of 16."""
    padded = np.zeros(-(-rows // CHUNK) * CHUNK * cols, np.float32)
    padded[: x.size] = x
    return padded


def without_padding(rows: int, cols: int, importance: F32 | None = None) -> F32 | None:
    """Return weights of errors in the padded matrix, flat, none of which is the padding's; None where it is too little to matter.

    Paths that must lead back to zero after a few rows have hardly a choice before.
    """
    if importance is None and (rows >= TALL or rows % CHUNK == 0 or not cols):
        return None
    return with_padding(np.ones(rows * cols, np.float32) if importance is None else importance, rows, cols)


def _step(x: F32, rows: int, height: int, options: Mapping[str, Any]) -> float:
    """Return the step that the tensor without its padding asks for."""
    if "step" in options and "relative" in options:
        raise EncodeError("step and relative exclude each other")
    size = float(np.sqrt(trellis_encoder.total_energy(x) / max(1, x.size)))
    asked: float = options["step"] if "step" in options else options.get("relative", 0.5) * (size or 1)
    if options.get("steps") == "rows" and height:  # which are measured against all of the padded matrix
        asked *= (rows / height) ** 0.5
    return asked


@dataclass(slots=True)
class Job:
    """A padded matrix while it is encoded."""

    x: F32
    cols: int
    env: Env
    net: Net
    its: Settings
    level: int | U8 | None

    @property
    def fine(self) -> Lattice:
        """Steps of the net's outputs."""
        step = np.ldexp(self.its.step, -self.net.shift, dtype=np.float32)
        rows = np.full(1, step) if self.its.rows is None else step * factors(self.its.rows)
        return Lattice(0, 0, rows, None if self.its.columns is None else factors(self.its.columns))

    def outputs(self, latents: F32) -> F32:
        """Return what the net makes of latents."""
        found = np.empty_like(latents)
        assert self.level is not None
        self.env.backend.run_net(self.net, latents, self.cols, self.level, found)
        return found

    def added(self, latents: F32) -> F32:
        """Return what the net adds to weights, in their own units."""
        own = self.outputs(latents) - latents * np.float32(1 << self.net.shift)
        self.env.backend.scale(own, 0, self.cols, self.fine, DTYPES["F32"], own.view(np.uint32))
        return own

    def error(self, latents: F32) -> float:
        """Return the sum of squared errors, weighed."""
        found = self.outputs(latents)
        self.env.backend.scale(found, 0, self.cols, self.fine, DTYPES["F32"], found.view(np.uint32))
        found -= self.x
        found *= found
        if self.its.weights is not None:
            found *= self.its.weights
        return float(found.sum(dtype=np.float64))

    def choose_level(self, latents: F32) -> None:
        """Choose the level with the least squared error in a sample of bands, unless there is one already."""
        if self.level is not None or self.net.levels == 1 or not self.x.size:
            self.level = 0 if self.level is None else self.level
            return
        band = CHUNK * self.cols
        bands = self.x.size // band
        chosen = np.arange(0, bands, max(1, bands * band // SAMPLE))
        rows = (chosen[:, None] * CHUNK + np.arange(CHUNK)).ravel()
        of_rows = None if self.its.rows is None else self.its.rows[rows]
        x, k = (np.ascontiguousarray(its.reshape(-1, self.cols)[rows]).reshape(-1) for its in (self.x, latents))
        weights = None if self.its.weights is None else self.its.weights.reshape(-1, self.cols)[rows].reshape(-1)
        part = replace(self, x=x, its=replace(self.its, rows=of_rows, weights=weights))
        errors = []
        for level in range(self.net.levels):
            part.level = level
            errors.append(part.error(k))
        self.level = int(np.argmin(errors))

    def along_trellises(self) -> Coded:
        """Search along trellises, and once more for what is left when the net has added its share."""
        best = trellis_encoder.encode(self.x, self.env, self.its)
        latents = self.latents(best)
        self.choose_level(latents)
        own = self.added(latents)
        if own.any():
            again = trellis_encoder.encode(self.x - own, self.env, self.its)
            best = again if self.error(self.latents(again)) < self.error(latents) else best
        return self.with_trellis(best)

    def with_trellis(self, its: Quantised) -> Coded:
        """Return what was decided, with latents along trellises."""
        coding = _coding(its.tile, its.classes, self.cols) | {"trellis": its.v, "alphabet": its.alphabet}
        return self.coded(its.symbols, its.zero, coding)

    def latents(self, its: Quantised) -> F32:
        """Return k of symbols along trellises."""
        found = np.empty(its.symbols.size, np.float32)
        order = order_of(found.size, self.cols, {"trellis": its.v} | ({"tile": its.tile} if its.tile else {}))
        lattice = Lattice(its.v, its.zero, np.ones(1, np.float32))
        self.env.backend.trellis_dequantise(order, 0, its.symbols, lattice, DTYPES["F32"], found.view(np.uint32))
        return found

    def coded(self, symbols: UInts, zero: int, coding: Mapping[str, Any]) -> Coded:
        """Return what was decided."""
        assert self.level is not None
        return Coded(symbols, zero, self.fine_step, coding, self.its.rows, self.its.columns, self.level)

    @property
    def fine_step(self) -> np.float32:
        """Step of the net's outputs. Raises EncodeError when it is none."""
        found: np.float32 = np.ldexp(self.its.step, -self.net.shift, dtype=np.float32)
        if not found > 0:
            raise EncodeError(f"a step of {self.its.step:g}")
        return found

    def scalars(self, slope: float, sweeps: int, rounds: int) -> Coded:
        """Round every latent by itself, then improve on it."""
        search = self.rounding(slope)
        self.choose_level(search.k)
        for _ in range(rounds):
            search.aim()
        for _ in range(sweeps):
            search.sweep()
        return self.without_trellis(search.k)

    def rounding(self, slope: float) -> Search:
        """Return a search that has begun with rounded latents. Raises EncodeError."""
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            steps = replace(self.fine, rows=self.fine.rows * np.float32(1 << self.net.shift)).steps(0, self.x.size, max(1, self.cols))
            u: F32 = np.where(steps > 0, self.x / steps, np.float32(0)).astype(np.float32)
        far = float(np.abs(u).max(initial=0)) + 2
        if not far < LATENT // 4:
            raise EncodeError(f"values of {far:g} steps: the step is too small")
        search = Search(u, self.cols, self, slope, int(2 * far))  # targets may move
        search.round(u)
        return search

    def without_trellis(self, k: F32) -> Coded:
        """Return what was decided, with latents that follow no trellis."""
        low, high = int(k.min(initial=0)), int(k.max(initial=0))
        coding = _coding(self.its.layout.tile, self.its.layout.classes, self.cols) if self.its.layout.classes is not None else {}
        symbols: UInts = (k - np.float32(low)).astype(np.uint16 if high - low > 255 else np.uint8)
        if symbols.size:
            coding = fit_tails(symbols, self.env)[1] | coding
        return self.coded(symbols, -low, coding)


def _coding(tile: tuple[int, int] | None, classes: tuple[U8, U8] | None, cols: int) -> dict[str, Any]:
    """Return the options of ``rans`` for an order and classes of rows."""
    found: dict[str, Any] = {"tile": tile} if tile else {}
    if classes is not None:
        found["classes"] = (classes[0].reshape(-1, 1), classes[1], np.zeros(cols, np.uint8))
    return found


class Search:
    """Latents k near u, both flat in a padded matrix, that keep squared error in steps + slope · bits low.

    most: how far latents lie from zero at most.
    """

    def __init__(self, u: F32, cols: int, job: Job, slope: float, most: int) -> None:
        self.u, self.cols, self.job, self.slope, self.most = u, cols, job, slope, most
        self.k: F32 = np.zeros_like(u)
        self.bits: F32 = np.zeros(2 * most + 1, np.float32)
        self.cost: F32 = np.empty(0, np.float32)
        self.limits: F32 | None = None

    def narrowed(self, u: F32, job: Job, limits: F32) -> Search:
        """Return a search of one column by what this one knows of code lengths. limits: thresholds for all columns."""
        found = Search(u, 1, job, self.slope, self.most)
        found.bits, found.limits = self.bits, limits
        found.k = found.rounded(u)
        return found

    def rounded(self, target: F32) -> F32:
        """Return the integers nearest to a target, where they lower the cost those next towards zero."""
        grid, one = Grid(target.size, max(1, target.size), 1), np.ones(1, np.float32)
        symbols = np.empty(target.size, np.uint32)
        self.job.env.backend.quantise(grid, 0, target, one, self.most, 2 * self.most + 1, symbols)
        if self.slope and self.most < LATENT // 4:
            limits = self.thresholds(symbols) if self.limits is None else self.limits
            shrink(grid, 0, target, one, self.most, limits, symbols)
        return (symbols.astype(np.int64) - self.most).astype(np.float32)

    def thresholds(self, symbols: UInts) -> F32:
        """Return the least sizes at which rounded symbols like these keep their value."""
        return thresholds(np.bincount(symbols, minlength=2 * self.most + 1), self.most, self.slope)

    def round(self, target: F32) -> None:
        """Begin with rounded latents; what they cost in bits is estimated from them."""
        self.k = self.rounded(target)
        self.learn()

    def learn(self) -> None:
        """Estimate what latents cost in bits."""
        counts = np.bincount(self.k.astype(np.intp) + self.most, minlength=2 * self.most + 1)
        self.bits = (log2(max(1, counts.sum())) - np.log2(np.maximum(counts, 0.5))).astype(np.float32) * np.float32(self.slope)

    def costs(self, k: F32) -> F32:
        """Return the cost of every chunk, [bands, columns], and remember what errors are left."""
        error = self.left(k)
        error *= error
        if self.job.its.weights is not None:
            error *= self.job.its.weights
        error += self.bits[k.astype(np.intp) + self.most]
        found: F32 = error.reshape(-1, CHUNK, self.cols).sum(1)
        return found

    def left(self, k: F32) -> F32:
        """Return u less what the net makes of latents, in steps."""
        found: F32 = self.u - self.job.outputs(k) * np.float32(0.5**self.job.net.shift)
        return found

    def keep(self, k: F32) -> None:
        """Take the chunks of other latents that cost less."""
        if not self.cost.size:
            self.cost = self.costs(self.k)
        cost = self.costs(k)
        better = (cost < self.cost)[:, None]
        shape = (-1, CHUNK, self.cols)
        self.k = np.where(better, k.reshape(shape), self.k.reshape(shape)).reshape(-1)
        self.cost = np.minimum(cost, self.cost)

    def aim(self) -> None:
        """Try what rounding makes of u less what the net adds."""
        if self.k.size:
            self.keep(self.rounded(self.left(self.k) + self.k))

    def sweep(self) -> None:
        """Try the neighbour of every latent towards which its error lies, one place of all chunks at a time."""
        shape = (-1, CHUNK, self.cols)
        for j in range(CHUNK if self.k.size else 0):
            tried = self.k.copy()
            place = tried.reshape(shape)[:, j]
            place += np.sign(self.left(self.k).reshape(shape)[:, j])
            np.clip(place, -self.most, self.most, out=place)
            self.keep(tried)
