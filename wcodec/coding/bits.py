"""Integers of k bits without gaps, least significant bit first (spec/codecs/bitpack.md)."""

from __future__ import annotations

import numpy as np

from wcodec.types import U8, UInts

CHUNK = 1 << 16


def pack(x: UInts, width: int, base: int) -> U8:
    """Pack (x − base) mod 2^n; every result must be below 2^width."""
    out = np.zeros(-(-x.size * width // 8), np.uint8)
    for at in range(0, x.size, CHUNK):
        values = x[at : at + CHUNK] - x.dtype.type(base)
        planes = np.unpackbits(values.astype(f"<u{x.itemsize}").view(np.uint8).reshape(-1, x.itemsize), axis=1, bitorder="little")
        packed = np.packbits(planes[:, :width], bitorder="little")
        out[at * width // 8 : at * width // 8 + packed.size] = packed
    return out


def unpack(data: U8, width: int, base: int, out: UInts) -> None:
    """Unpack out.size values from bit 0 of data and add base mod 2^n."""
    for at in range(0, out.size, CHUNK):
        count = min(CHUNK, out.size - at)
        start = at * width // 8
        flat = np.unpackbits(data[start : start + -(-count * width // 8)], count=count * width, bitorder="little")
        wide = np.zeros((count, 8 * out.itemsize), np.uint8)
        wide[:, :width] = flat.reshape(count, width)
        values = np.packbits(wide, axis=1, bitorder="little").view(f"<u{out.itemsize}").ravel()
        out[at : at + count] = values + out.dtype.type(base)
