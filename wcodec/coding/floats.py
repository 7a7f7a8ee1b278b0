"""Split storage elements into a symbol and rest planes, and join them (spec/codecs/planes.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wcodec.types import U8, UInts

IN_PLACE, LAST, IN_SYMBOL = range(3)
"""Where the sign goes: it stays the top bit, below the rest, or lowest bit of the symbol."""


def split(x: UInts, bits: int, rest: int, sign: int) -> tuple[UInts, list[U8]]:
    """Return the symbols (U8, or U16 above 8 bits) and the rest planes, lowest first."""
    kind = x.dtype.type
    top = x >> kind(bits - 1)
    v = x << kind(1) | top if sign == LAST else x
    upper = v >> kind(rest)
    if sign == IN_SYMBOL:
        upper = (x & kind((1 << bits - 1) - 1)) >> kind(rest) << kind(1) | top
    symbol: UInts = upper.astype(np.uint8 if bits - rest <= 8 else np.uint16)
    planes = [(v >> kind(at)).astype(np.uint8) for at in range(0, rest, 8)]
    if rest % 8:
        planes[-1] &= np.uint8((1 << rest % 8) - 1)
    return symbol, planes


def join(symbol: UInts, planes: Sequence[U8], bits: int, rest: int, sign: int, out: UInts) -> None:
    """Write to out the elements that symbol and planes describe, each taken mod its own range."""
    kind = out.dtype.type
    low = np.zeros(out.size, out.dtype)
    for i, plane in enumerate(planes):
        low |= plane.astype(out.dtype) << kind(8 * i)
    low &= kind((1 << rest) - 1)
    if sign == IN_SYMBOL:
        half = (symbol >> symbol.dtype.type(1)).astype(out.dtype)
        out[:] = half << kind(rest) | low | symbol.astype(out.dtype) << kind(bits - 1)
        return
    v = symbol.astype(out.dtype) << kind(rest) | low
    out[:] = v >> kind(1) | v << kind(bits - 1) if sign == LAST else v
