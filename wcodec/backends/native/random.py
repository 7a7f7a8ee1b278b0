"""Philox in C; MT19937 is numpy's own generator, which is C already."""

from __future__ import annotations

from ctypes import byref

import numpy as np

from wcodec.backends.native.abi import KINDS, Native, Philox
from wcodec.backends.native.arrays import address, fits
from wcodec.backends.numpy.random import RandomVerbs
from wcodec.coding import philox
from wcodec.types import U8, DType, UInts


class NativeRandom(Native, RandomVerbs):
    """Random numbers by C."""

    def philox_fill(
        self, seed: int, id: int, stream: int, kind: str, scale: float, decay: float, start: int, dtype: DType, out: UInts
    ) -> None:
        """Write elements start … of a stream of random numbers (spec/rng.md), rounded to a float dtype. kind: uniform or normal."""
        if not fits(out, dtype.storage, 0):
            return super().philox_fill(seed, id, stream, kind, scale, decay, start, dtype, out)
        table = address(philox.normals()) if kind == "normal" else None
        key, to = Philox(seed, id, stream), KINDS[dtype.name]
        self._library.wcodec_philox_fill(byref(key), table, scale, decay, start, out.size, to, address(out))

    def philox_draw(self, seed: int, id: int, stream: int, threshold: int, start: int, out: U8) -> int:
        """Write 1 where the word of element start … is below threshold, else 0; return the number of ones."""
        if not fits(out, np.uint8, 0):
            return super().philox_draw(seed, id, stream, threshold, start, out)
        found: int = self._library.wcodec_philox_draw(byref(Philox(seed, id, stream)), threshold, start, out.size, address(out))
        return found
