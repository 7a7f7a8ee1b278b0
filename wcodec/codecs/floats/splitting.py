"""What planes does before it codes: where to split elements, and the split itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from wcodec.backends import COUNTED, Planes
from wcodec.codecs.base import Env
from wcodec.types import U8, U64, Spec, UInts

WIDEST = 11
"""Bits of the widest symbol that is considered, without the sign."""
MANY = 1 << 16
"""Elements from which the frequencies of a quarter of the tokens stand for all; of an eighth from 16 times as many on."""
STRAY = 0.0005
"""Share of elements that may be patched, at about 7 bytes each, before symbols of fewer bits are cheaper."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Elements split in one pass.

    planes: the top one packed when it has fewer than 8 bits. counts: of the tokens. base, zero: which symbols they stand for.
    strays: flat indices of the elements whose symbols no token stands for.
    """

    tokens: U8
    planes: list[U8]
    counts: U64
    base: int
    zero: bool
    strays: npt.NDArray[np.intp]


NONE = np.empty(0, np.intp)


def split_tokens(x: UInts, split: Planes, top: int, env: Env, tokens: U8, fixed: bool) -> tuple[Planes, Tokens | None]:
    """Split into tokens that stand for all symbols but a few, written to ``tokens``. top: the highest symbol of a sample.

    Takes more rest bits where 256 tokens do not suffice; None then if ``fixed``.
    """
    width = split.bits - split.rest
    # A guess that leaves room for a few larger exponents than the sample has; the verb tells whether it was right.
    base = max(0, min(top + (4 << width - 8), (1 << width) - 1) - 255) if width > 8 else 0
    planes, counts, low, high = _split(x, split, base, tokens, env)
    if high < 256 and not base:
        return split, Tokens(tokens, planes, counts, 0, False, NONE)
    if base < low and high - base < 256:
        return split, Tokens(tokens, planes, counts, base, True, NONE)
    fewer, base = _window(x, split, env)
    if fewer and fixed:
        return split, None
    split = replace(split, rest=split.rest + fewer)
    if split.bits - split.rest <= 8:
        planes, counts, *_ = _split(x, split, 0, tokens, env)
        return split, Tokens(tokens, planes, counts, 0, False, NONE)
    planes, counts, *_ = _split(x, split, base, tokens, env)
    strays = env.backend.strays(split, x, base)
    if strays.size:
        none = env.backend.from_host(np.zeros(strays.size, np.uint8))
        env.backend.scatter(env.backend.from_host(strays.astype(np.uint32)), none, tokens, False)
    counts += np.uint64(1)
    return split, Tokens(tokens, planes, counts, base, True, strays)


def _split(x: UInts, split: Planes, base: int, tokens: U8, env: Env) -> tuple[list[U8], U64, int, int]:
    """Run the verb on as many pieces as there are workers; counts are those of a sample when there are many tokens."""
    every = 1 if len(x) < MANY else 4 if len(x) < 16 * MANY else 8
    step = -(-len(x) // (env.parallel * COUNTED)) * COUNTED
    widths = [8] * (split.rest // 8) + [split.rest % 8] * (split.rest % 8 > 0)
    planes = [env.take(-(-len(x) * width // 8)) for width in widths]

    def piece(a: int) -> tuple[U64, U8, int, int]:
        b = min(a + step, len(x))
        rest = [plane[a * width // 8 : -(-b * width // 8)] for plane, width in zip(planes, widths, strict=True)]
        return env.backend.split_tokens(split, x[a:b], base, every, tokens[a:b], rest)

    found = list(env.workers(piece, range(0, len(x), step)))
    counts: U64 = sum((its[0] for its in found[1:]), found[0][0])
    for _, seen, _, _ in found:  # every token that there is needs a frequency
        counts[(counts == 0) & (seen > 0)] = 1
    low, high = min(its[2] for its in found), max(its[3] for its in found)
    return planes, counts, low, high


def _window(x: UInts, split: Planes, env: Env) -> tuple[int, int]:
    """Return (bits to move to the rest, base) such that 255 tokens above base, and 0, leave only strays."""
    symbol, _ = env.host.backend.split_planes(split, env.backend.sample(x, 1 << 20))
    counts = np.bincount(symbol, minlength=1 << (split.bits - split.rest))
    counts[0] = 0
    fewer = 0
    while counts.size > 256:
        total = np.concatenate(([0], np.cumsum(counts)))
        inside = total[256:] - total[1 : total.size - 255]
        base = int(np.argmax(inside))
        if int(total[-1] - inside[base]) <= STRAY * symbol.size:
            return fewer, base
        counts, fewer = counts.reshape(-1, 2).sum(1), fewer + 1
    return fewer, 0


def choose_split(x: UInts, spec: Spec, env: Env) -> tuple[Planes, int]:
    """Choose where to split by a sample, and tell the highest symbol in it."""
    bits, dtype = 8 * spec.dtype.storage.itemsize, spec.dtype
    if not dtype.mantissa or not len(x):
        split = Planes(bits, max(0, bits - 8), 0)
        return split, highest(x, split, env)
    # The exponent and two mantissa bits, or four where the exponent is short.
    widest = min(dtype.exponent + (2 if dtype.exponent >= 8 else 4), WIDEST, bits - 1)
    rest, sign, top = env.backend.choose_split(x, widest)
    return Planes(bits, rest, sign), top


def highest(x: UInts, split: Planes, env: Env) -> int:
    """Return the highest symbol of a sample."""
    symbol, _ = env.host.backend.split_planes(split, env.backend.sample(x))
    return int(symbol.max(initial=0))
