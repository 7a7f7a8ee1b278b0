"""nwc: latents of a small integer network, where it saves something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wcodec import nets
from wcodec.codecs import Env
from wcodec.codecs.base import decode_all, stored_size
from wcodec.codecs.floats.curvature import Curvature
from wcodec.codecs.floats.trellis_feedback import whitened_elements
from wcodec.codecs.matrix import matrix_shape
from wcodec.coding.net import CHUNK
from wcodec.coding.numbers import LOSSY, to_float32
from wcodec.errors import EncodeError
from wcodec.recipes.base import Importance, Method, Tensors, curvature_of, require, weighed
from wcodec.recipes.trellis import RELATIVE, STATES, STEPS
from wcodec.types import U8, Section, Spec, UInts

SAMPLE = 1 << 17
"""Weights that show whether the net pays."""
GAIN = 0.001
"""Bits per weight that it must save: decoding it takes several times as long."""
PRICE = 0.37
"""Squared steps that a bit is worth, of trellises; of scalars a quarter, as their step is twice as long."""


@dataclass
class NWC(Method):
    """Code weights as the latents of a small neural network (Neural Weight Compression); the trellis where it saves nothing.

    The net travels in the file, once: whether it is worth its bytes is decided for all tensors together, before the first is encoded (with
    a target, for each by itself).

    step: distance of latents, the same in all tensors; with a trellis, of both lattices together. relative: instead, in root mean squares
    of the tensor; 0.5 unless a target decides. states (32): of the trellis that latents follow, or 0 for none. net ("fast"): its name, or
    a file that holds its bytes. by_digest: name a net of this package in place of storing it: 9 kB less, for readers that have it, too.
    always: also where it saves nothing. level: of the net, the best one by default. steps: what has a step of its own: tensor, rows or
    columns.
    """

    step: float | None = None
    relative: float | None = None
    states: int = 32
    net: str | None = None
    by_digest: bool = False
    always: bool = False
    level: int | None = None
    steps: str = "tensor"
    importance: Importance | None = None
    name: ClassVar[str] = "nwc"
    notes: list[str] = field(default_factory=list, init=False)
    paying: frozenset[str] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        require(self.step is None or self.step > 0, "nwc: step is above 0")
        require(self.relative is None or self.relative > 0, "nwc: relative is above 0")
        require(self.states == 0 or self.states in STATES, f"nwc: states is 0 or one of {', '.join(map(str, STATES))}")
        require(self.steps in STEPS, f"nwc: steps is one of {', '.join(STEPS)}")
        require(self.net is None or self.net in nets.names() or Path(self.net).is_file(), f"nwc: no net and no file {self.net}")
        require(not self.by_digest or self.net is None or self.net in nets.names(), "nwc: by_digest is for nets of this package")

    @classmethod
    def of(cls, config: Mapping[str, Any], importance: Importance | None) -> NWC:
        """Make the method of a config."""
        return cls(importance=importance, **{key: value for key, value in config.items() if key != "codec"})

    @property
    def config(self) -> dict[str, Any]:
        """The codec, with the options that were given."""
        given = ("step", "relative", "states", "net", "by_digest", "always", "level", "steps")
        return {"codec": "nwc"} | {key: value for key in given if (value := getattr(self, key)) is not None}

    def prepare(self, names: Sequence[str], tensors: Tensors, env: Env) -> None:
        """Decide which tensors take a net that is stored in the file: none where they save less than it has bytes."""
        if self.always or self.by_digest:
            return
        saved = {}
        for name in names:
            with tensors.read(name) as x:
                saved[name] = tensors.spec(name).count * self._saves(name, env.backend.to_host(x), tensors.spec(name), env.host)
        paying = [name for name in names if saved[name] > 0]
        stored = 8 * self._bytes().size * len({tensors.file(name) for name in paying})
        self.paying = frozenset(paying if sum(saved[name] for name in paying) > stored else ())

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        weights = weighed(self.importance, name, "nwc")
        if self.always or self._pays(name, x, spec, env):
            return env.codecs["nwc"].encode(x, spec, env, **self._options(), **self._size, **weights)
        note = f"{name}: the net saves nothing"
        if note not in self.notes:
            self.notes.append(note)
        return self._plain(x, spec, env, self._size | weights)

    def _pays(self, name: str, x: UInts, spec: Spec, env: Env) -> bool:
        """Tell whether a tensor takes the net."""
        return self._saves(name, x, spec, env) > 0 if self.paying is None else name in self.paying

    @property
    def _size(self) -> dict[str, float]:
        return {"step": self.step} if self.step is not None else {"relative": self.relative or RELATIVE}

    def _bytes(self) -> U8:
        """Return the net."""
        name = self.net or "fast"
        return nets.load(name) if name in nets.names() else np.fromfile(name, np.uint8)

    def _options(self) -> dict[str, Any]:
        """Return the options of the codec."""
        found: dict[str, Any] = {"states": self.states, "steps": self.steps, "level": self.level, "by_digest": self.by_digest}
        return found if self.net is None else found | {"net": self._bytes()}

    def _plain(self, x: UInts, spec: Spec, env: Env, options: Mapping[str, Any]) -> Section:
        """Encode without a net; scalars that make up for each other's errors by the one that adds nothing."""
        if self.states:
            return env.codecs["trellis"].encode(x, spec, env, states=self.states, steps=self.steps, **options)
        if "curvature" in options:
            return env.codecs["nwc"].encode(x, spec, env, states=0, net=nets.IDENTITY, by_digest=self.by_digest, **options)
        options = {key: value for key, value in options.items() if key != "importance"}
        return env.codecs["uniform"].encode(x, spec, env, per=self.steps.removesuffix("s"), rdo=PRICE / 4, **options)

    def _saves(self, name: str, x: UInts, spec: Spec, env: Env) -> float:
        """Return the bits per weight that the net saves in a sample of a tensor, without its own bytes, less what its time is worth."""
        if not x.size or spec.dtype.name not in LOSSY:
            return 0.0
        part, its = sample(x, spec, curvature_of(self.importance, name))
        values, size = to_float32(part, its.dtype), self._size
        scale = float(np.sqrt(np.square(values, dtype=np.float64).mean())) if "relative" in size else 1.0
        step = scale * float(next(iter(size.values())))
        price = (PRICE if self.states else PRICE / 4) * step**2
        try:
            made = env.codecs["nwc"].encode(part, its, env, **self._options(), **size), self._plain(part, its, env, size)
        except EncodeError:
            return 0.0
        costs = []
        for section in made:
            error = to_float32(decode_all(section, its, env), its.dtype) - values
            costs.append(float(np.square(error, dtype=np.float64).sum()) + price * 8 * stored_size(section))
        return (costs[1] - costs[0]) / (price * part.size) - GAIN if price else 0.0


def sample(x: UInts, spec: Spec, curvature: Curvature | None) -> tuple[UInts, Spec]:
    """Return a part of a tensor, in units in which a method weighs errors."""
    if curvature is None or not x.size:
        return bands(x, spec)
    return bands(whitened_elements(x, spec, curvature).view(np.uint32), Spec.of("F32", *matrix_shape(spec)))


def bands(x: UInts, spec: Spec) -> tuple[UInts, Spec]:
    """Return evenly spread bands of 16 rows, about SAMPLE elements; of very long rows, their beginnings."""
    rows, cols = matrix_shape(spec)
    if spec.count <= SAMPLE:
        return x, spec
    width = min(cols, max(1, SAMPLE // CHUNK))
    count = max(1, SAMPLE // (CHUNK * width))
    starts = range(0, max(1, rows - CHUNK + 1), CHUNK * max(1, -(-rows // (CHUNK * count))))
    taken = np.concatenate([x.reshape(rows, cols)[at : at + CHUNK, :width] for at in starts])
    return np.ascontiguousarray(taken).reshape(-1), Spec(spec.dtype, taken.shape)
