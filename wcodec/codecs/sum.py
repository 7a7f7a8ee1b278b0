"""sum: layers added up in float32 (spec/codecs/sum.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import lcm
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import F64, MAX_PARTS, Codec, Env, Expected
from wcodec.codecs.lossless import Config, encode_part
from wcodec.codecs.matrix import approximable
from wcodec.codecs.params import uint
from wcodec.coding.numbers import LOSSY
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import DTYPES, Section, Spec, UInts

COARSE: Config = {"codec": "uniform", "bits": 4}
FINE: Config = {"codec": "uniform", "bits": 8}
ROUNDING = 2.0**-24 * (1 + 1e-6)
"""Relative error of an addition in binary32, at most, and a little for float64's own."""


class Sum(Codec):
    """Adds up a base and its refinements; a reader may stop after any of them (``Env.layers``).

    Options: layers, the configs of the base and of what is left after each layer (4 bits, then 8).
    """

    name = "sum"
    params = frozenset({"layers", "tolerant"})
    options = frozenset({"layers"})
    lossless: ClassVar[bool] = False
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"layers": [COARSE, FINE, None]})

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name in LOSSY

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        count = uint(section.params, "layers", 1, MAX_PARTS, "SUM-1")
        if spec.dtype.name not in LOSSY or section.params.get("tolerant", True) is not True:
            raise Corrupt(f"sum decodes to {', '.join(LOSSY)}, and 'tolerant' is true or absent", rule="SUM-1")
        return {str(i): _layer(spec) for i in range(count)}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        units = [base.unit(part, _layer(spec), env) for part in section.parts.values()]
        return min(lcm(*units), max(1, spec.count))

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        if ("tolerant" in section.params) == all(base.exact(part, env) for part in section.parts.values()):
            raise Corrupt("'tolerant' says otherwise than the layers", rule="SUM-3")
        count = section.params["layers"] if env.layers is None else max(1, min(env.layers, section.params["layers"]))
        with ExitStack() as stack:
            f32 = np.dtype(np.uint32)
            total = out if spec.dtype.name == "F32" else stack.enter_context(env.borrow(stop - start, f32))
            env.backend.fill(total, 0)
            floats = env.backend.floats(total)
            for i in range(count):
                with base.decoded(section.parts[str(i)], _layer(spec), env, start, stop) as layer:
                    env.backend.add_floats(floats, env.backend.floats(layer))
            env.backend.round_floats(floats, spec.dtype, out)

    def bound(self, section: Section, spec: Spec, env: Env, start: int, stop: int) -> F64:
        its, found, total = _layer(spec), np.zeros(stop - start), np.zeros(stop - start)
        for i in range(section.params["layers"]):
            part = section.parts[str(i)]
            with base.decoded(part, its, env, start, stop) as layer:
                total += layer.view(np.float32)
            found += base.bound(part, its, env, start, stop)
            found += ROUNDING * (np.abs(total) + found)
        return found

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        layers: Sequence[Config | None] = options.get("layers", (COARSE, FINE))
        if not 1 <= len(layers) <= MAX_PARTS:
            raise EncodeError(f"{len(layers)} layers, there can be 1 to {MAX_PARTS}")
        values, its = approximable(x, spec, self.name), _layer(spec)
        total, parts = np.zeros(values.size, np.float32), {}
        for i, config in enumerate(layers):
            with np.errstate(over="ignore"):
                left = values - total
            parts[str(i)] = encode_part(left.view(np.uint32), its, env, config)
            with base.decoded(parts[str(i)], its, env, 0, values.size) as layer:
                env.backend.add_floats(total, layer.view(np.float32))
        tolerant = not all(base.exact(part, env) for part in parts.values())
        return Section("sum", {"layers": len(parts)} | ({"tolerant": True} if tolerant else {}), parts)


def _layer(spec: Spec) -> Spec:
    return Spec(DTYPES["F32"], spec.shape)
