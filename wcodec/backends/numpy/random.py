"""Verbs that make random numbers from a seed (spec/rng.md, spec/codecs/mt19937.md)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wcodec.coding import mt19937, philox
from wcodec.types import U8


class RandomVerbs:
    """Streams of random numbers, from any element on."""

    def philox_fill(
        self, seed: int, id: int, stream: int, kind: str, scale: float, decay: float, start: int, out: npt.NDArray[np.float32]
    ) -> None:
        """Write elements start … of a stream of random numbers (spec/rng.md). kind: uniform or normal."""
        philox.fill(seed, id, stream, kind, scale, decay, start, out)

    def philox_draw(self, seed: int, id: int, stream: int, threshold: int, start: int, out: U8) -> int:
        """Write 1 where the word of element start … is below threshold, else 0; return the number of ones."""
        return philox.draw(seed, id, stream, threshold, start, out)

    def mt19937_fill(self, seed: int, offset: int, low: float, high: float, out: npt.NDArray[np.float32]) -> None:
        """Write what torch's uniform_(low, high) makes of the words from ``offset`` on."""
        mt19937.fill(seed, offset, low, high, out)
