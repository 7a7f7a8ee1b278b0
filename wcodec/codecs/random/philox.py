"""philox: random numbers from a seed (spec/codecs/philox.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from wcodec.codecs.base import Env, Expected
from wcodec.codecs.params import uint
from wcodec.codecs.random.fills import LARGEST, SMALLEST, Fill, check_float, check_key, real, real_bits
from wcodec.coding.numbers import LOSSY
from wcodec.coding.philox import KINDS
from wcodec.errors import Corrupt
from wcodec.types import Section, Spec, UInts

ONE, LEAST_DECAY = 0x3F800000, 0x2B800000
"""Bits of 1 and 2^-40."""


class Philox(Fill):
    """Stores the seed of an array that was made by this generator. Options: seed, id, stream, kind, scale, decay."""

    name = "philox"
    params = frozenset({"seed", "id", "stream", "kind", "scale", "decay"})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"seed": 7, "scale": 0.1},
        {"seed": 2**64 - 2, "id": 3, "stream": 2**32 - 1, "kind": "normal", "scale": 0.02, "decay": 0.9},
    )

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name in LOSSY

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        params = section.params
        check_key(params)
        check_float(spec, "PHILOX-1")
        if params.get("kind") not in KINDS:
            raise Corrupt(f"param 'kind' is {params.get('kind')!r}, expected one of {', '.join(KINDS)}", rule="PHILOX-1")
        uint(params, "scale", SMALLEST, LARGEST, "PHILOX-1")
        uint(params, "decay", LEAST_DECAY, ONE, "PHILOX-1", default=ONE)
        return {}

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        p = section.params
        scale, decay = real(p["scale"]), real(p.get("decay", ONE))
        env.backend.philox_fill(p["seed"], p["id"], p["stream"], p["kind"], scale, decay, start, spec.dtype, out)

    def wire(self, **options: Any) -> dict[str, Any]:
        return _wire(**options)


def _wire(seed: int, id: int = 0, stream: int = 0, kind: str = "uniform", scale: float = 1.0, decay: float = 1.0) -> dict[str, Any]:
    """Return the params of a fill; scale and decay are rounded to binary32."""
    params = {"seed": seed, "id": id, "stream": stream, "kind": kind, "scale": real_bits(scale)}
    return params if decay == 1.0 else params | {"decay": real_bits(decay)}
