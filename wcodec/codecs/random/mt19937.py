"""mt19937: what torch's uniform_ made on the cpu from a seed (spec/codecs/mt19937.md)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from wcodec.codecs.base import Env, Expected
from wcodec.codecs.params import uint
from wcodec.codecs.random.fills import LARGEST, SMALLEST, Fill, check_float, real, real_bits, write
from wcodec.coding.mt19937 import NEAR
from wcodec.coding.numbers import LOSSY
from wcodec.errors import Corrupt
from wcodec.types import Params, Section, Spec, UInts

FARTHEST = 1 << 48
"""Words that may be skipped; a jump over as many takes a fraction of a second."""


class Mt19937(Fill):
    """Stores the seed of an array that torch initialised. Options: seed, offset (words), low, high."""

    name = "mt19937"
    params = frozenset({"seed", "offset", "low", "high"})
    host: ClassVar[str] = "every word of the generator depends on those before it"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"seed": 0, "offset": 0, "low": -0.05, "high": 0.05},
        {"seed": 2**32 - 1, "offset": 700, "low": 0.1, "high": 0.75},
    )

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name in LOSSY

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        check_float(spec, "MT19937-1")
        uint(section.params, "seed", 0, 2**32 - 1, "MT19937-1")
        uint(section.params, "offset", 0, FARTHEST, "MT19937-2")
        if not bound(section.params, "low") < bound(section.params, "high"):
            raise Corrupt("param 'low' is not below 'high'", rule="MT19937-1")
        return {}

    def work(self, section: Section, spec: Spec) -> int:
        return min(4 * int(section.params["offset"]), 4 * NEAR)

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return NEAR

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        p = section.params
        write(spec, env, out, partial(env.backend.mt19937_fill, p["seed"], p["offset"] + start, real(p["low"]), real(p["high"])))

    def wire(self, **options: Any) -> dict[str, Any]:
        return _wire(**options)


def bound(params: Params, key: str) -> float:
    """Read a bound: 0, or of magnitude 2^-60 to 2^60. Raises Corrupt [MT19937-1]."""
    bits = uint(params, key, 0, 2**32 - 1, "MT19937-1")
    magnitude = bits & 0x7FFFFFFF
    if magnitude and not SMALLEST <= magnitude <= LARGEST:
        raise Corrupt(f"param {key!r} is {real(bits)}, out of range", rule="MT19937-1")
    return real(bits)


def _wire(seed: int, offset: int = 0, low: float = 0.0, high: float = 1.0) -> dict[str, Any]:
    """Return the params of a fill; the bounds are rounded to binary32, as torch rounds them."""
    return {"seed": seed, "offset": offset, "low": real_bits(low), "high": real_bits(high)}
