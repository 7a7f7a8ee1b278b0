"""Ladders: the settings of a lossy codec for one tensor, from coarse to fine, that a target chooses from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, log, log2
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import Env
from wcodec.codecs.base import decode_all, stored_size
from wcodec.codecs.codebook import LARGEST
from wcodec.codecs.factors.factoring import F32, balanced_svd, thin
from wcodec.codecs.factors.lowrank import encode_factor
from wcodec.codecs.floats.curvature import Curvature
from wcodec.codecs.floats.trellis_feedback import whitened_elements
from wcodec.codecs.lossless import lossless
from wcodec.codecs.matrix import approximable, matrix_shape
from wcodec.coding.numbers import LOSSY, to_float32
from wcodec.errors import RecipeError
from wcodec.recipes.base import Importance, Ladder, Method, WithCodec, cost_of, curvature_of, feeds_back
from wcodec.recipes.codebooks import GWK
from wcodec.recipes.nwc import NWC
from wcodec.recipes.pruned import Pruned
from wcodec.recipes.trellis import Trellis
from wcodec.types import Section, Spec, UInts

ROWS = 8
"""Places of a matrix that a sample's rows come from."""
TRADE = 0.1
"""Squared error in steps that a bit is worth where a uniform quantiser costs least, about: 2 ln 2 / 12."""
FARTHEST = 32_000
"""Steps that a value may be away from 0."""
FULL = 0.95
"""Share of values that are not 0 above which zeros are not worth a mask."""
LEVELS = 6
"""Centroids for each level that so many bits have, rounded up: the price of a bit leaves the fewer the higher it is."""
NOISE = 0.26
"""Squared error of trellises, in squared steps."""
FEWEST = 16
"""Rows and columns of a product in a sample, at least."""
PRICE = 2.0
"""What a bit is worth, in mean squares, at 0 bits: 2 ln 2 times the error of entropy-coded scalars."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Some elements of a tensor, which stand for all. scale: elements of the tensor for each of the sample.

    peak: magnitude of the tensor's largest element. cost: of a squared error, to the model; None where that is not known.
    """

    x: UInts
    spec: Spec
    scale: float
    peak: float
    cost: float | None = None

    @classmethod
    def of(cls, x: UInts, spec: Spec, room: int, cost: float | None = None) -> Sample:
        """Take evenly spread runs of rows, about ``room`` elements; of very long rows, their beginnings."""
        (rows, cols), floats = matrix_shape(spec), spec.dtype.name in LOSSY
        peak = float(np.abs(to_float32(x, spec.dtype)).max(initial=0)) if floats else 0.0
        if spec.count <= room:
            return cls(x.copy(), spec, 1.0, peak, cost)
        count = min(max(room // cols, min(rows, ROWS)), rows)
        width = min(cols, room // count)
        run = -(-count // ROWS)
        starts = [(rows - run) * i // max(-(-count // run) - 1, 1) for i in range(-(-count // run))]
        taken = np.concatenate([x.reshape(rows, cols)[at : at + run, :width] for at in starts])
        return cls(np.ascontiguousarray(taken).reshape(-1), Spec(spec.dtype, taken.shape), spec.count / taken.size, peak, cost)

    @classmethod
    def whitened(cls, x: UInts, spec: Spec, room: int, curvature: Curvature) -> Sample:
        """Take evenly spread rows, all columns of which tell how they differ, in units in which errors of all count alike."""
        (rows, cols), matrix = matrix_shape(spec), whitened_elements(x, spec, curvature).reshape(matrix_shape(spec))
        high = max(1, min(room // cols, rows))
        flat = matrix[np.arange(high) * rows // high].reshape(-1)
        count = max(1, min(room, flat.size) // 128) * 128
        taken, peak = flat[np.arange(count) * flat.size // count], float(np.abs(matrix).max())
        cost = None if curvature.outputs is None else 1.0
        return cls(taken.view(np.uint32), Spec.of("F32", count // 128, 128), spec.count / count, peak, cost)

    @property
    def values(self) -> F32:
        """Return the elements as float32."""
        return to_float32(self.x, self.spec.dtype)

    @property
    def signal(self) -> float:
        """Return the mean square."""
        wide = self.values.astype(np.float64)
        return float(np.dot(wide, wide)) / max(wide.size, 1)

    def lossless(self, env: Env) -> float:
        """Return the bytes that the tensor takes losslessly, about."""
        return stored_size(lossless(self.x, self.spec, env)) * self.scale

    def measure(self, name: str, method: Method, env: Env) -> tuple[float, float]:
        """Return the bytes and the squared error that a method makes of the tensor, about."""
        section = method.encode(name, self.x, self.spec, env)
        return stored_size(section) * self.scale, squared_error(section, self.x, self.spec, env) * self.scale


def squared_error(section: Section, x: UInts, spec: Spec, env: Env) -> float:
    """Return the sum of squared differences of decoded values to the elements that were encoded."""
    difference = to_float32(decode_all(section, spec, env), spec.dtype).astype(np.float64) - to_float32(x, spec.dtype)
    return float(np.dot(difference, difference))


@dataclass
class Sampled(Ladder):
    """A ladder whose settings are tried on a sample."""

    name: str
    sample: Sample
    env: Env
    importance: Importance | None
    config: Mapping[str, Any]

    @abstractmethod
    def made(self, position: float, importance: Importance | None) -> Method:
        """Return the method with the setting at a position, for a tensor whose errors are weighed so."""

    def method(self, position: float) -> Method:
        return self.made(position, self.importance)

    def measure(self, position: float) -> tuple[float, float]:
        return self.sample.measure(self.name, self.made(position, None), self.env)


@dataclass
class Steps(Sampled):
    """Steps of a quantiser: 2^-position times the root mean square, of the whole tensor or of what has a step of its own."""

    def __post_init__(self) -> None:
        self.scale = self.sample.signal**0.5
        self.low = -1.0 if self.config["codec"] in ("trellis", "nwc") else -1.5  # hardly a value is not 0
        self.high = finest(self.scale, self.sample.peak)

    def made(self, position: float, importance: Importance | None) -> Method:
        own = self.config.get("per", self.config.get("steps", "tensor")) == "tensor"
        step = {"step": self.scale * 2.0**-position} if own else {"relative": 2.0**-position}
        if self.config["codec"] == "nwc":
            return NWC.of({**self.config, **step}, importance)
        usual = {"per": "tensor", "rdo": TRADE} if self.config["codec"] == "uniform" else {}
        return WithCodec.weighing({**usual, **self.config, **step}, importance)

    def measure(self, position: float) -> tuple[float, float]:
        method = self.made(position, None)
        if isinstance(method, WithCodec) and self.config["codec"] == "trellis":  # of a sample, code lengths are near enough
            method = WithCodec({**method.config, "rounds": 1})
        return self.sample.measure(self.name, method, self.env)


@dataclass
class Values(Sampled):
    """Centroids of a codebook, entropy-coded: as many as so many bits need, at the price of a bit there."""

    low = 1.0
    high = 9.0

    def made(self, position: float, importance: Importance | None) -> Method:
        values = min(LARGEST, LEVELS << ceil(position))
        return WithCodec.weighing({**self.config, "values": values, "rate": PRICE * 4.0**-position / 2}, importance)


@dataclass
class Kept(Sampled):
    """Shares of the weights that stay, 2^position of them; all others become 0."""

    low = -8.0
    high = 0.0

    def made(self, position: float, importance: Importance | None) -> Method:
        return Pruned(self.config.get("values"), importance=importance, keep=2.0**position)


@dataclass
class Zeros(Sampled):
    """Steps of the values that are not 0, 2^-position times their root mean square. share: of the weights, that are not 0."""

    share: float
    low = -1.0

    def __post_init__(self) -> None:
        self.scale = (self.sample.signal / self.share) ** 0.5
        self.high = finest(self.scale, self.sample.peak) if self.share < FULL else self.low

    def made(self, position: float, importance: Importance | None) -> Method:
        return self._of(position, self.share)

    def measure(self, position: float) -> tuple[float, float]:
        own = np.count_nonzero(self.sample.values) / self.sample.spec.count
        return self.sample.measure(self.name, self._of(position, own), self.env)

    def _of(self, position: float, share: float) -> Method:
        return Pruned({**self.config["values"], "step": self.scale * 2.0**-position}, keep=share)


class Ranks(Ladder):
    """Steps of the factors of a product of two matrices, and the rank that suits them: 2^-position times what a step would be of ones
    as large as those of the first component.

    Both factors of a component of singular value σ have √σ. Noise D of their elements costs D σ (rows + cols) of squared error, and a bit
    is worth 2 ln 2 D σ: a component is there where its σ² is worth more than both. Factors whose codec has a setting of its own keep it.
    """

    low = -1.0

    def __init__(self, x: UInts, spec: Spec, env: Env, config: Mapping[str, Any], room: int) -> None:
        rows, cols = matrix_shape(spec)
        self._env, self._spec, self._sides = env, spec, {side: config.get(side) or {"codec": "trellis"} for side in ("left", "right")}
        values = _matrix(x, spec)
        left, right = balanced_svd(values, min(rows, cols))
        self._roots = np.linalg.norm(right.astype(np.float64), axis=1)
        self._scale = self._roots[0] * ((rows + cols) / (2 * rows * cols)) ** 0.5
        self.high = finest(self._scale, float(max(np.abs(left).max(), np.abs(right).max())))
        tall, wide = (min(its, max(FEWEST, room // len(self._roots))) for its in (rows, cols))
        places = np.arange(tall) * rows // tall, np.arange(wide) * cols // wide
        self._left, self._right, self._block = left[places[0]], right[:, places[1]].copy(), values[np.ix_(*places)].copy()

    def method(self, position: float) -> Method:
        sides = {side: self._config(side, position) for side in self._sides}
        return WithCodec({"codec": "lowrank", "rank": self._rank(position), **sides})

    def measure(self, position: float) -> tuple[float, float]:
        (rows, cols), rank, size, found = matrix_shape(self._spec), self._rank(position), 0.0, []
        for side, sample, scale in (
            ("left", self._left[:, :rank], rows / len(self._left)),
            ("right", self._right[:rank], cols / self._right.shape[1]),
        ):
            section = encode_factor(sample, self._spec.dtype, self._env, self._config(side, position))
            size += stored_size(section) * scale
            decoded = decode_all(section, Spec.of("F32", *sample.shape), self._env)
            found.append(decoded.view(np.float32).reshape(sample.shape))
        difference = (found[0] @ found[1] - self._block).astype(np.float64)
        return size, float(np.mean(np.square(difference))) * self._spec.count

    def _config(self, side: str, position: float) -> Mapping[str, Any]:
        """Return the config of a factor."""
        config = self._sides[side]
        return {**config, "step": self._step(position)} if leaves_step(config) else config

    def _step(self, position: float) -> float:
        return float(self._scale * 2.0**-position)

    def _rank(self, position: float) -> int:
        (rows, cols), sigma, noise = matrix_shape(self._spec), self._roots**2, NOISE * self._step(position) ** 2
        bits = sum(side * np.maximum(np.log2(np.maximum(sigma / (side * noise), 1.0)), 0) / 2 for side in (rows, cols))
        return max(1, int(np.count_nonzero(sigma > noise * (rows + cols) + 2 * log(2) * noise * bits)))


@dataclass
class Auto(Method):
    """Choose the codec of each tensor by size and error: what a target asks for at the least bytes. Only with a target.

    states: of trellises; 32 unless an effort decides.
    """

    importance: Importance | None = None
    states: int | None = None
    name: ClassVar[str] = "auto"
    notes: list[str] = field(default_factory=list, init=False)

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        raise RecipeError("auto needs a target: bits per weight, a size or an error")


KNOBS: Mapping[str, frozenset[str]] = {
    "trellis": frozenset({"step", "relative"}),
    "uniform": frozenset({"step", "bits", "relative"}),
    "codebook": frozenset({"values", "rate", "book", "assigned"}),
    "sparse": frozenset({"mask", "fill", "delta"}),
    "lowrank": frozenset({"rank", "keep", "energy", "error"}),
    "nwc": frozenset({"step", "relative"}),
}
"""Options of codecs that a target decides; a config that has one is as it is."""


def leaves_step(config: object) -> bool:
    """Tell whether this is a part's config, of a codec whose step a target may choose."""
    knobs = KNOBS.get(config.get("codec", ""), frozenset()) if isinstance(config, Mapping) else frozenset[str]()
    return isinstance(config, Mapping) and "step" in knobs and not knobs & config.keys()


def finest(scale: float, peak: float) -> float:
    """Return the position of the finest step that values up to ``peak`` allow, of steps 2^-position times ``scale``."""
    return min(14.0, log2(FARTHEST * scale / peak))


def answers(method: Method) -> bool:
    """Tell whether a target chooses settings in place of a method."""
    return bool(_configs(method))


def sample_of(method: Method, name: str, x: UInts, spec: Spec, room: int) -> Sample:
    """Return a sample of a tensor of about ``room`` elements, in the units in which a method weighs errors."""
    importance: Importance | None = getattr(method, "importance", None)
    curvature = curvature_of(importance, name)
    if curvature is None or not any(feeds_back(config["codec"]) for config in _configs(method)):
        return Sample.of(x, spec, room, cost_of(importance, name))
    return Sample.whitened(x, spec, room, curvature)


def ladders(method: Method, name: str, x: UInts, spec: Spec, env: Env, sample: Sample) -> Sequence[Ladder]:
    """Return what a target chooses from in place of a method; nothing for what is as it is, and for tensors that cannot be approximated.

    sample: what ``sample_of`` takes of the tensor.
    """
    importance: Importance | None = getattr(method, "importance", None)
    configs = _configs(method)
    if not configs:
        return ()
    if not 0 < sample.peak < inf or not 0 < sample.signal < inf:
        return ()
    if curvature_of(importance, name) is not None:  # errors of codecs that do not weigh them so cannot be compared
        configs = [config for config in configs if feeds_back(config["codec"])] or configs
    if isinstance(method, Auto):  # whose other codecs are tried in far less time than an SVD takes
        configs = [config for config in configs if config["codec"] != "lowrank" or thin(_matrix(x, spec))]
    found = [_ladder(config, name, x, spec, sample, importance, env) for config in configs]
    return [its for its in found if its.high > its.low]


def _configs(method: Method) -> list[Mapping[str, Any]]:
    """Return the codecs, with their options, that a method leaves to a target."""
    if isinstance(method, Auto):
        trellis = {"codec": "trellis", **({} if method.states is None else {"states": method.states})}
        of_parts = {"sparse": {"values": trellis}, "lowrank": {"left": trellis, "right": trellis}}
        others = [name for name in KNOBS if name not in ("trellis", "nwc")]  # nwc costs decoders more than it saves
        return [trellis, *({"codec": name, **of_parts.get(name, {})} for name in others)]
    if isinstance(method, GWK):
        return [{"codec": "codebook"}]
    if isinstance(method, Pruned) and method.keep is None:
        return [{"codec": "sparse", "values": method.values}]
    if isinstance(method, WithCodec | Trellis | NWC):
        codec = method.config["codec"]
        return [method.config] if codec in KNOBS and not KNOBS[codec] & method.config.keys() else []
    return []


def _matrix(x: UInts, spec: Spec) -> F32:
    return approximable(x, spec, "lowrank").reshape(matrix_shape(spec))


def _ladder(config: Mapping[str, Any], name: str, x: UInts, spec: Spec, sample: Sample, importance: Importance | None, env: Env) -> Ladder:
    if config["codec"] == "lowrank":
        return Ranks(x, spec, env, config, sample.spec.count)
    if config["codec"] == "sparse" and leaves_step(config.get("values")):
        return Zeros(name, sample, env, importance, config, np.count_nonzero(to_float32(x, spec.dtype)) / spec.count)
    kinds: Mapping[str, type[Sampled]] = {"sparse": Kept, "codebook": Values}
    return kinds.get(config["codec"], Steps)(name, sample, env, importance, config)
