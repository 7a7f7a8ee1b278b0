"""Compare tensors whose last bits may differ between machines: by their parts, or within the bounds that codecs' pages state."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.api.facts import resolve
from wcodec.api.files import Checkpoint
from wcodec.api.opened import inside
from wcodec.api.outcome import parts_digest
from wcodec.codecs import Env
from wcodec.codecs.base import bound, exact
from wcodec.coding.numbers import to_float32
from wcodec.types import DType, Part, Ref, Resource, Section, UInts

F64 = npt.NDArray[np.float64]

HALF_STEP = {"F16": (2.0**-11, 2.0**-25), "BF16": (2.0**-8, 2.0**-134)}
"""Half the distance to the next number, at most: relative, and of the smallest ones. Wider dtypes hold binary32 itself."""
OVER = {"F16": 2.0**16}
"""What an infinity is taken for: the least power of two that rounds to it; 2^128 in wider dtypes."""


def same_parts(a: Checkpoint, b: Checkpoint, name: str) -> bool:
    """Tell whether a tensor is tolerant on both sides and decodes from the same parts, and so has one exact value."""
    left, right = a.opened(name), b.opened(name)
    if left is None or right is None:
        return False
    one, other = left.record(name), right.record(name)
    if not (one.tolerant and other.tolerant) or one.digest != other.digest:
        return False
    if _shape(one.section, left.env) != _shape(other.section, right.env):
        return False
    with inside(name):
        digests = [parts_digest(its.record(name).section, its.record(name).spec, its.env) for its in (left, right)]
    return digests[0] == digests[1]


def _shape(part: Part, env: Env) -> Any:
    """Return codecs and params of a section down to its exact parts, whose bytes alone count."""
    if not isinstance(part, Section | Ref | Resource) or exact(part, env):
        return None
    section = resolve(part, env)
    return section.codec, dict(section.params), {key: _shape(child, env) for key, child in section.parts.items()}


def tolerance(a: Checkpoint, b: Checkpoint, name: str, start: int, stop: int) -> F64 | None:
    """Return how far elements may lie apart before rounding to the dtype; None when both sides are exact.

    An exact side may be what another machine decoded from the other one, and counts like it.
    """
    found: list[F64] = []
    for side in (a, b):
        opened = side.opened(name)
        if opened is not None and (record := opened.record(name)).tolerant:
            with inside(opened.path), inside(name):
                found.append(bound(record.section, record.spec, opened.env, start, stop))
    return found[0] + found[-1] if found else None


def within(x: UInts, y: UInts, dtype: DType, allowed: F64) -> bool:
    """Tell whether elements with other bits lie no further apart than allowed (infinite: not at all) and rounding to the dtype."""
    relative, least = HALF_STEP.get(dtype.name, (0.0, 0.0))
    a, b = _wide(x, dtype), _wide(y, dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.maximum(relative * np.abs(a), least) + np.maximum(relative * np.abs(b), least)
        near = (np.abs(a - b) <= allowed + steps) & np.isfinite(allowed)
    return bool((near | (x == y)).all())


def _wide(x: UInts, dtype: DType) -> F64:
    with np.errstate(invalid="ignore"):
        wide: F64 = x.view("<f8") if dtype.name == "F64" else to_float32(x, dtype).astype(np.float64)
    over = OVER.get(dtype.name, 2.0**128)
    return np.where(np.isinf(wide), np.copysign(over, wide), wide)
