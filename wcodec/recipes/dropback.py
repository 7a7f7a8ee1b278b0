"""DropBack: keep the weights that moved furthest from their seeded start, regenerate the others (Golub et al., SysML 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import Env, check, decode_all
from wcodec.codecs.lossless import lossless
from wcodec.codecs.random.fills import Fill
from wcodec.codecs.sparse import holds
from wcodec.coding.numbers import LOSSY, from_float32, to_float32
from wcodec.errors import EncodeError, RecipeError, WcodecError
from wcodec.recipes.base import Method, Tensors, require
from wcodec.recipes.pruned import suits
from wcodec.recipes.selection import Threshold, keys_of, largest
from wcodec.types import U8, U32, Section, Spec, UInts

ONES = ("*norm*.weight", "*.bn[0-9]*.weight", "*ln_[0-9f]*.weight")
"""Scales of norms, which start at 1."""


@dataclass
class DropBack(Method):
    """Keep the weights of all chosen tensors that moved furthest from their start w₀, and regenerate the others.

    keep: how many stay, a count or a fraction below 1, by |w − w₀|; absent: all that differ from w₀, losslessly.
    fill: glob of names → how w₀ is made: the config of a codec without parts, such as {"codec": "philox", "seed": 7, …}; its ``id`` is
    the tensor's place among those chosen unless given. start: name → flat storage elements of w₀, stored whole.
    A tensor that neither names starts at 1 where it scales a norm, else at 0.
    values: config of the kept values. delta: they are differences to w₀.
    """

    name: ClassVar[str] = "dropback"
    fill: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    start: Mapping[str, UInts] = field(default_factory=dict)
    keep: float | None = None
    values: Mapping[str, Any] | None = None
    delta: bool = False
    notes: list[str] = field(default_factory=list, init=False)
    _places: dict[str, int] = field(default_factory=dict, init=False)
    _threshold: Threshold | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        require(self.keep is None or self.keep > 0, f"keep is {self.keep}, expected a fraction or a count")
        require(all(isinstance(config, Mapping) for config in self.fill.values()), "fill is globs of names, and a config of each")

    def prepare(self, names: Sequence[str], tensors: Tensors, env: Env) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        if self.keep is None:
            return
        keep = self.keep

        def keys(name: str) -> U32:
            spec = tensors.spec(name)
            with tensors.read(name) as x:
                return moved(x, self._filled(name, spec, env), spec) if suits(x, spec) else np.empty(0, np.uint32)

        self._threshold = largest(names, keys, lambda total: round(keep * total) if keep < 1 else int(keep))

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        if not holds(spec.dtype):
            raise EncodeError(f"dropback cannot hold {spec.dtype.name}")
        fill = self._section(name, spec, env)
        filled = decode_all(fill, spec, env)
        mask = self._kept(self._threshold, name, x, filled, spec) if self._threshold is not None and suits(x, spec) else None
        return env.codecs["sparse"].encode(x, spec, env, fill=fill, mask=mask, values=self.values, delta=self.delta)

    def _kept(self, threshold: Threshold, name: str, x: UInts, filled: UInts, spec: Spec) -> U8:
        return threshold.mask(name, moved(x, filled, spec)) & np.not_equal(x, filled)

    def _filled(self, name: str, spec: Spec, env: Env) -> UInts:
        return decode_all(self._section(name, spec, env), spec, env)

    def _section(self, name: str, spec: Spec, env: Env) -> Section:
        """Make the section of a tensor's start. Raises EncodeError, RecipeError."""
        if (start := self.start.get(name)) is not None:
            if start.size != spec.count:
                raise EncodeError(f"the start of {name} has {start.size} elements, not those of {spec}")
            return lossless(start, spec, env)
        config = next((config for glob, config in self.fill.items() if fnmatchcase(name, glob)), None)
        if config is not None:
            place = {"id": self._places.get(name, 0)} if "id" not in config and config.get("codec") == "philox" else {}
            return generated({**place, **config}, spec, env)
        one = len(spec.shape) < 2 and any(fnmatchcase(name, glob) for glob in ONES) and spec.dtype.name in LOSSY
        value = from_float32(np.ones(1, np.float32), spec.dtype) if one else np.zeros(1, spec.dtype.storage)
        return Section("const", {"value": value.tobytes()})


def generated(config: Mapping[str, Any], spec: Spec, env: Env) -> Section:
    """Make a section without parts from a config. Raises RecipeError for one that breaks a rule."""
    options = {key: value for key, value in config.items() if key != "codec"}
    codec = env.codecs.get(str(config.get("codec")))
    try:
        if isinstance(codec, Fill):
            return codec.section(spec, **options)
        section = Section(str(config.get("codec")), options)
        check(section, spec, env)
    except (WcodecError, KeyError, TypeError) as error:
        raise RecipeError(f"fill {dict(config)}: {error}") from None
    return section


def moved(x: UInts, filled: UInts, spec: Spec) -> U32:
    """Return keys of |w − w₀|. Raises EncodeError for elements that are not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        scores = np.abs(to_float32(x, spec.dtype) - to_float32(filled, spec.dtype))
    if not np.isfinite(scores).all():
        raise EncodeError("the tensor has elements that are not finite")
    return keys_of(scores)
