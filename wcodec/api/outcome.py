"""What encoding did to a tensor: digests of both sides, and how far apart they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import blake3
import numpy as np
import numpy.typing as npt

from wcodec.api.work import PIECE, pieces
from wcodec.codecs import Env, check, decode
from wcodec.codecs.base import exact, find
from wcodec.coding.numbers import FLOATS, to_float32
from wcodec.types import DType, Part, Ref, Resource, Section, Spec, UInts


@dataclass(frozen=True, slots=True)
class Error:
    """How far decoded values are from the source's.

    relative: RMS error over RMS value. largest: greatest absolute error. noise: mean squared error over the values' variance.
    outliers: values more than FAR standard deviations from the mean.
    """

    relative: float
    largest: float
    noise: float
    outliers: int

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio in dB."""
        return math.inf if not self.relative else -20 * math.log10(self.relative)

    def to_json(self) -> dict[str, float | None]:
        """Return plain values; an infinite signal-to-noise ratio is None."""
        found = {key: getattr(self, key) for key in self.__slots__}
        return found | {"snr": self.snr if self.relative else None}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a record says of an encoded tensor (``TensorRecord``), and the error when it is lossy."""

    digest: bytes
    source: bytes | None = None
    tolerant: bool = False
    error: Error | None = None


FAR = 6
"""Standard deviations beyond which a normal distribution has two values in 10^9."""


def judge(section: Section, spec: Spec, data: UInts, digest: bytes, env: Env) -> Outcome:
    """Decode what was encoded and compare it with the source, whose digest is given."""
    check(section, spec, env)
    hasher, squares, largest, same = blake3.blake3(), 0.0, 0.0, True
    for start, stop in pieces(section, spec, env, PIECE):
        with env.borrow(stop - start, spec.dtype.storage) as out:
            decode(section, spec, env, start, stop, out)
            hasher.update(out.view(np.uint8).data)
            if env.backend.same(out, data[start:stop]):
                continue
            same = False
            a, b = _values(data[start:stop], spec.dtype), _values(out, spec.dtype)
            difference = a - b
            squares += float(np.dot(difference, difference))
            largest = max(largest, float(np.abs(difference).max()))
    tolerant = not exact(section, env)
    if same and not tolerant:
        return Outcome(digest)
    error = _error(data, spec.dtype, squares, largest)
    return Outcome(parts_digest(section, spec, env) if tolerant else hasher.digest(), digest, tolerant, error)


def _error(data: UInts, dtype: DType, squares: float, largest: float) -> Error:
    """Relate the sum of squared errors to the values."""

    def values() -> Iterator[npt.NDArray[np.float64]]:
        for start in range(0, data.size, PIECE):
            yield _values(data[start : start + PIECE], dtype)

    total, signal = (sum(sums) for sums in zip(*((float(x.sum()), float(np.dot(x, x))) for x in values()), strict=True))
    mean = total / data.size
    variance = max(signal / data.size - mean * mean, 0.0)
    outliers = sum(int(np.count_nonzero(np.abs(x - mean) > FAR * math.sqrt(variance))) for x in values()) if variance else 0
    return Error(math.sqrt(_over(squares, signal)), largest, _over(squares / data.size, variance), outliers)


def _over(part: float, whole: float) -> float:
    return part / whole if whole else math.inf if part else 0.0


def parts_digest(part: Part, spec: Spec, env: Env) -> bytes:
    """BLAKE3-256 of a checked section: of its decoded bytes, or, where it is tolerant, of its parts' in key order (rule C-30)."""
    hasher = blake3.blake3()
    _update(part, spec, env, hasher)
    return hasher.digest()


def _update(part: Part, spec: Spec, env: Env, hasher: Any) -> None:
    if isinstance(part, Ref | Resource):
        return _update((env.resource(part.index) if isinstance(part, Ref) else part).section, spec, env, hasher)
    assert isinstance(part, Section)
    if exact(part, env):
        for start, stop in pieces(part, spec, env):
            with env.borrow(stop - start, spec.dtype.storage) as out:
                decode(part, spec, env, start, stop, out)
                hasher.update(out.view(np.uint8).data)
        return None
    expected = find(part, env).parts(part, spec)
    for key in sorted(part.parts):
        its, child = expected[key], part.parts[key]
        if isinstance(its, Spec):
            _update(child, its, env, hasher)
        elif not isinstance(child, Section | Ref | Resource):
            with child.read(0, child.size) as data:
                hasher.update(data.tobytes())
    return None


def _values(x: UInts, dtype: DType) -> npt.NDArray[np.float64]:
    return (x.view(FLOATS["F64"]) if dtype.name == "F64" else to_float32(x, dtype)).astype(np.float64)
