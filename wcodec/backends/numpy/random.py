"""Verbs that make random numbers from a seed (spec/rng.md, spec/codecs/mt19937.md)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wcodec.coding import mt19937, philox
from wcodec.coding.numbers import from_float32
from wcodec.types import U8, DType, UInts


class RandomVerbs:
    """Streams of random numbers, from any element on."""

    def philox_fill(
        self, seed: int, id: int, stream: int, kind: str, scale: float, decay: float, start: int, dtype: DType, out: UInts
    ) -> None:
        """Write elements start … of a stream of random numbers (spec/rng.md), rounded to a float dtype. kind: uniform or normal."""
        for at in range(0, out.size, philox.CHUNK):
            piece = out[at : at + philox.CHUNK]
            piece[:] = from_float32(philox.numbers(seed, id, stream, kind, scale, decay, start + at, piece.size), dtype)

    def philox_draw(self, seed: int, id: int, stream: int, threshold: int, start: int, out: U8) -> int:
        """Write 1 where the word of element start … is below threshold, else 0; return the number of ones."""
        return philox.draw(seed, id, stream, threshold, start, out)

    def mt19937_fill(self, seed: int, offset: int, low: float, high: float, out: npt.NDArray[np.float32]) -> None:
        """Write what torch's uniform_(low, high) makes of the words from ``offset`` on."""
        mt19937.fill(seed, offset, low, high, out)
