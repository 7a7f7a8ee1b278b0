"""What planes does before it codes: where to split elements, and the split itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.backends import COUNTED, Planes
from wcodec.codecs.base import Env
from wcodec.codecs.smallest import entropy
from wcodec.types import U8, U64, Spec, UInts

SAMPLE = 1 << 15
RUN = 1 << 10
WIDEST = 11
"""Bits of the widest symbol that is considered, without the sign."""
MANY = 1 << 18
"""Elements from which the frequencies of a quarter of the tokens stand for all."""
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


def split_tokens(x: UInts, split: Planes, env: Env, tokens: U8, fixed: bool) -> tuple[Planes, Tokens | None]:
    """Split into tokens that stand for all symbols but a few, written to ``tokens``.

    Takes more rest bits where 256 tokens do not suffice; None then if ``fixed``.
    """
    symbol, _ = env.backend.split_planes(split, sample(x))
    width = split.bits - split.rest
    # A guess that leaves room for a few larger exponents than the sample has; the verb tells whether it was right.
    base = max(0, min(int(symbol.max()) + (4 << width - 8), (1 << width) - 1) - 255) if width > 8 else 0
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
    strays = _strays(x, split, base, env)
    tokens[strays] = 0
    counts += np.uint64(1)
    return split, Tokens(tokens, planes, counts, base, True, strays)


def _split(x: UInts, split: Planes, base: int, tokens: U8, env: Env) -> tuple[list[U8], U64, int, int]:
    """Run the verb on as many pieces as there are workers; counts are those of a sample when there are many tokens."""
    every = 4 if x.size >= MANY else 1
    step = -(-x.size // (env.parallel * 4 * COUNTED)) * 4 * COUNTED
    widths = [8] * (split.rest // 8) + [split.rest % 8] * (split.rest % 8 > 0)
    planes = [env.take(-(-x.size * width // 8)) for width in widths]

    def piece(a: int) -> tuple[U64, int, int]:
        b = min(a + step, x.size)
        rest = [plane[a * width // 8 : -(-b * width // 8)] for plane, width in zip(planes, widths, strict=True)]
        return env.backend.split_tokens(split, x[a:b], base, every, tokens[a:b], rest)

    found = list(env.workers(piece, range(0, x.size, step)))
    counts: U64 = np.sum([counts for counts, _, _ in found], axis=0, dtype=np.uint64)
    low, high = min(low for _, low, _ in found), max(high for _, _, high in found)
    if every > 1:  # every token that there may be needs a frequency
        counts[max(low - base, 0) : max(high - base, 0) + 1] += np.uint64(1)
        counts[0] += np.uint64(1)
    return planes, counts, low, high


def _window(x: UInts, split: Planes, env: Env) -> tuple[int, int]:
    """Return (bits to move to the rest, base) such that 255 tokens above base, and 0, leave only strays."""
    symbol, _ = env.backend.split_planes(split, sample(x, 1 << 20))
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


def _strays(x: UInts, split: Planes, base: int, env: Env) -> npt.NDArray[np.intp]:
    """Find the elements whose symbol is neither 0 nor within 255 above base."""
    found = []
    for at in range(0, x.size, 1 << 20):
        symbol, _ = env.backend.split_planes(split, x[at : at + (1 << 20)])
        offset = symbol.astype(np.int32) - base
        found.append(np.flatnonzero(((offset <= 0) & (symbol > 0)) | (offset > 255)) + at)
    return np.concatenate(found) if found else NONE


def sample(x: UInts, count: int = SAMPLE) -> UInts:
    """Take evenly spread runs of elements, at most about ``count`` of them."""
    if x.size <= count:
        return x
    runs = count // RUN
    step = (x.size - RUN) // (runs - 1)
    return np.concatenate([x[i * step : i * step + RUN] for i in range(runs)])


def choose_split(x: UInts, spec: Spec) -> tuple[int, int]:
    """Choose rest bits and the place of the sign by the entropy of a sample: what costs next to nothing belongs to the rest."""
    bits = 8 * spec.dtype.storage.itemsize
    if not spec.dtype.mantissa or not x.size:
        return max(0, bits - 8), 0
    seen = sample(x)
    kind = x.dtype.type
    top = seen >> kind(bits - 1)
    # The exponent and two mantissa bits, or four where the exponent is short.
    widest = min(spec.dtype.exponent + (2 if spec.dtype.exponent >= 8 else 4), WIDEST, bits - 1)
    # Counts of [upper bits without the sign, sign]; merging neighbours takes a mantissa bit away.
    upper = (seen & kind((1 << bits - 1) - 1)) >> kind(bits - 1 - widest)
    counts = np.bincount(upper << kind(1) | top, minlength=2 << widest).reshape(-1, 2)
    best = (float("inf"), 0, 0)
    for width in range(widest, max(widest - 3, 0), -1):
        unsigned = counts.sum(1)
        best = min(best, _cost(unsigned, seen.size, x.size, bits, width, 1))
        both = counts.min(1).sum() / seen.size
        if both < 0.45:  # skewed: worth a look
            best = min(best, _cost(counts.ravel(), seen.size, x.size, bits, width + 1, 2))
        counts = counts.reshape(-1, 2, 2).sum(1)
    return best[1], best[2]


def _cost(counts: npt.NDArray[Any], seen: int, size: int, bits: int, width: int, sign: int) -> tuple[float, int, int]:
    """Return (bits per element, rest, sign) of symbols of a width with these counts in a sample."""
    used = np.flatnonzero(counts[1:])
    span = int(used[-1] - used[0]) + 1 if used.size else 0
    # Every token needs one of 4,096 slots; those that are rarer waste about half of theirs. A wider symbol also has a longer table.
    rare = max(0, min(span, 255) - int((counts[1:] > seen >> 12).sum()))
    cost = entropy(counts) / seen + bits - width + 0.7 * rare / 4096 + 10 * used.size / size + used.size / (1.39 * seen)
    # Whole bytes are the fastest; a sign in the symbol must gain something.
    return cost - 0.012 * (width == 8) + 0.01 * (sign == 2), bits - width, sign
