"""Counter-based random numbers: Philox4x32-10 and what its words become (spec/rng.md sections 1 to 4)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wcodec.types import U8, U32

CHUNK = 1 << 14
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
BUMPS = (0x9E3779B9, 0xBB67AE85)
KINDS = ("uniform", "normal")


def words(seed: int, id: int, stream: int, start: int, count: int) -> U32:
    """Return words start … start + count − 1 of a stream (Salmon et al., SC 2011; Random123's philox4x32)."""
    first = start // 4
    counter = np.uint64(first) + np.arange((start + count + 3) // 4 - first, dtype=np.uint64)
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1 = counter & low, counter >> half
    x2, x3 = np.full_like(counter, id), np.full_like(counter, stream)
    keys = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        a, b = x0 * np.uint64(MULTIPLIERS[0]), x2 * np.uint64(MULTIPLIERS[1])
        x0, x1 = b >> half ^ x1 ^ np.uint64(keys[0]), b & low
        x2, x3 = a >> half ^ x3 ^ np.uint64(keys[1]), a & low
        keys = [(key + bump) & 0xFFFFFFFF for key, bump in zip(keys, BUMPS, strict=True)]
    found = np.stack((x0, x1, x2, x3), axis=1).astype(np.uint32).reshape(-1)
    return found[start - 4 * first :][:count]


@cache
def normals() -> U32:
    """Return the 4,096 magnitudes of normal numbers, times 2^22."""
    table: U32 = np.frombuffer(Path(__file__).with_name("normal.bin").read_bytes(), "<u4").astype(np.uint32)
    return table


def _uniform(word: U32) -> npt.NDArray[np.float32]:
    """Map words to odd multiples of 2^-23 between −1 and 1."""
    odd = (word >> np.uint32(9)).astype(np.int32) * 2 + (1 - 2**23)
    return odd.astype(np.float32) * np.float32(2**-23)


def _normal(word: U32) -> npt.NDArray[np.float32]:
    """Map words to one of 4,096 magnitudes, by their top 12 bits, and a sign, the bit below."""
    magnitude: npt.NDArray[np.float32] = normals()[word >> np.uint32(20)].astype(np.float32) * np.float32(2**-22)
    negative = (word >> np.uint32(19) & np.uint32(1)).astype(bool)
    np.negative(magnitude, out=magnitude, where=negative)
    return magnitude


def numbers(seed: int, id: int, stream: int, kind: str, scale: float, decay: float, start: int, count: int) -> npt.NDArray[np.float32]:
    """Return elements start … start + count − 1 of a stream of random numbers: fl(decay · fl(scale · number)), in binary32."""
    of = _normal if kind == "normal" else _uniform
    return of(words(seed, id, stream, start, count)) * np.float32(scale) * np.float32(decay)


def draw(seed: int, id: int, stream: int, threshold: int, start: int, out: U8) -> int:
    """Write 1 where the word of an element is below threshold, else 0; return the number of ones."""
    for at in range(0, out.size, CHUNK):
        piece = out[at : at + CHUNK]
        piece[:] = words(seed, id, stream, start + at, piece.size) < np.uint32(threshold)
    return int(np.count_nonzero(out))
