"""What the codecs of random numbers share: params that are reals, rounding to the tensor's dtype, and proof of what they store."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Codec, Env
from wcodec.codecs.params import uint
from wcodec.coding.numbers import LOSSY
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import Params, Section, Spec, UInts

SMALLEST, LARGEST = 0x21800000, 0x5D800000
"""Bits of 2^-60 and 2^60: between them no product of rng.md is subnormal or infinite."""


def check_key(params: Params) -> None:
    """Check which stream of Philox words is meant. Raises Corrupt [G-1]."""
    uint(params, "seed", 0, 2**64 - 1, "G-1")
    uint(params, "id", 0, 2**32 - 1, "G-1")
    uint(params, "stream", 0, 2**32 - 1, "G-1")


def check_float(spec: Spec, rule: str) -> None:
    """Check that float32 can be rounded to the dtype. Raises Corrupt."""
    if spec.dtype.name not in LOSSY:
        raise Corrupt(f"random numbers are {', '.join(LOSSY)}, not {spec.dtype.name}", rule=rule)


def real(bits: int) -> float:
    """Return the binary32 of these bits."""
    return float(np.uint32(bits).view(np.float32))


def real_bits(value: float) -> int:
    """Return the bits of the nearest binary32."""
    with np.errstate(over="ignore"):
        return int(np.float32(value).view(np.uint32))


def write(spec: Spec, env: Env, out: UInts, fill: Callable[[npt.NDArray[np.float32]], None]) -> None:
    """Let ``fill`` write a window of float32, and round it to the dtype of the tensor."""
    if spec.dtype.name == "F32":
        fill(env.backend.floats(out))
        return
    with env.borrow(len(out), np.dtype(np.uint32)) as lent:
        values = env.backend.floats(lent)
        fill(values)
        env.backend.round_floats(values, spec.dtype, out)


class Fill(Codec):
    """A codec whose options alone determine the array."""

    host_encode: ClassVar[str] = "there is nothing to encode but a seed, which is given"

    @abstractmethod
    def wire(self, **options: Any) -> dict[str, Any]:
        """Return the params that options stand for."""

    def section(self, spec: Spec, **options: Any) -> Section:
        """Return the section that options name, whatever array it decodes to. Raises EncodeError for options out of range."""
        section = Section(self.name, self.wire(**options))
        try:
            self.parts(section, spec)
        except Corrupt as error:
            raise EncodeError(error.message) from None
        return section

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        """Return the section that options name. Raises EncodeError unless it decodes to x bit for bit."""
        section = self.section(spec, **options)
        step = max(1 << 20, self.unit(section, spec, env))
        for start in range(0, x.size, step):
            stop = min(start + step, x.size)
            with env.borrow(stop - start, x.dtype) as made:
                self.decode(section, spec, env, start, stop, made)
                if not env.backend.same(made, x[start:stop]):
                    raise EncodeError(f"{self.name} with these options does not make this array")
        return section
