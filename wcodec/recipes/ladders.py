"""Ladders: the settings of a lossy codec for one tensor, from coarse to fine, that a target chooses from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, inf, log2
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import Env
from wcodec.codecs.base import decode_all, stored_size
from wcodec.codecs.codebook import LARGEST
from wcodec.codecs.factors.factoring import F32, balanced_svd, spectrum
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
LEVELS = 6
"""Centroids for each level that so many bits have, rounded up: the price of a bit leaves the fewer the higher it is."""
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

    high = 14.0

    def __post_init__(self) -> None:
        self.scale = self.sample.signal**0.5
        self.low = -1.0 if self.config["codec"] in ("trellis", "nwc") else -1.5  # hardly a value is not 0

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


class Ranks(Ladder):
    """Ranks of a product of two matrices, 2^position."""

    low, reach = 0.0, 1.0

    def __init__(self, x: UInts, spec: Spec, env: Env, config: Mapping[str, Any]) -> None:
        self._config = {"codec": "lowrank", **config}
        values, (self._rows, self._cols) = approximable(x, spec, "lowrank").reshape(matrix_shape(spec)), matrix_shape(spec)
        kept = np.cumsum(spectrum(values))
        self._dropped = np.maximum(kept[-1] - np.concatenate(([0.0], kept)), 0.0)
        most = max(1, min(self._rows * self._cols // (self._rows + self._cols), min(self._rows, self._cols)))
        self.high, rank = log2(most), max(1, most // 4)
        factors = zip(balanced_svd(values, rank), ("left", "right"), strict=True)
        used = sum(stored_size(encode_factor(its, spec.dtype, env, config.get(side))) for its, side in factors)
        self._bytes = used / (rank * (self._rows + self._cols))

    def method(self, position: float) -> Method:
        return WithCodec({**self._config, "rank": self._rank(position)})

    def measure(self, position: float) -> tuple[float, float]:
        rank = 2.0**position
        low = min(floor(rank), self._dropped.size - 2)
        error = self._dropped[low] + (rank - low) * (self._dropped[low + 1] - self._dropped[low])
        return rank * (self._rows + self._cols) * self._bytes, float(max(error, 0.0))

    def snap(self, position: float) -> float:
        return log2(self._rank(position))

    def _rank(self, position: float) -> int:
        return max(1, floor(float(2.0**position) + 1e-9))


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
    found = [_ladder(config, name, x, spec, sample, importance, env) for config in configs]
    for its in found:
        if isinstance(its, Steps):
            its.high = min(its.high, log2(FARTHEST * its.scale / sample.peak))
    return [its for its in found if its.high > its.low]


def _configs(method: Method) -> list[Mapping[str, Any]]:
    """Return the codecs, with their options, that a method leaves to a target."""
    if isinstance(method, Auto):
        states = {} if method.states is None else {"states": method.states}
        names = [name for name in KNOBS if name != "nwc"]  # which costs decoders more than it saves
        return [{"codec": name, **(states if name == "trellis" else {})} for name in names]
    if isinstance(method, GWK):
        return [{"codec": "codebook"}]
    if isinstance(method, Pruned) and method.keep is None:
        return [{"codec": "sparse", "values": method.values}]
    if isinstance(method, WithCodec | Trellis | NWC):
        codec = method.config["codec"]
        return [method.config] if codec in KNOBS and not KNOBS[codec] & method.config.keys() else []
    return []


def _ladder(config: Mapping[str, Any], name: str, x: UInts, spec: Spec, sample: Sample, importance: Importance | None, env: Env) -> Ladder:
    if config["codec"] == "lowrank":
        return Ranks(x, spec, env, {key: value for key, value in config.items() if key != "codec"})
    kinds: Mapping[str, type[Sampled]] = {"sparse": Kept, "codebook": Values}
    return kinds.get(config["codec"], Steps)(name, sample, env, importance, config)
