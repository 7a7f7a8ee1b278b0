"""The word stream of mt19937 from any word on, and torch's uniform numbers made from it (spec/rng.md section 5)."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from wcodec.types import U32, U64

SIZE, MIDDLE, BITS, LOW_BITS = 624, 397, 32, 31
TWIST = 0x9908B0DF
DEGREE = SIZE * BITS - LOW_BITS
NEAR = 1 << 22
"""Words that are skipped one by one; farther ones are jumped over."""
CHUNK = 1 << 15


def seeded(seed: int) -> U32:
    """Return the 624 words from which a 32-bit seed starts (Matsumoto and Nishimura's init_genrand)."""
    words = [seed]
    for i in range(1, SIZE):
        words.append(1812433253 * (words[-1] ^ words[-1] >> 30) + i & 0xFFFFFFFF)
    return np.array(words, np.uint32)


class Words:
    """Words of a seed's stream from ``offset`` on, in order."""

    def __init__(self, seed: int, offset: int) -> None:
        state = seeded(seed)
        near = offset if offset <= NEAR else 0
        self._generator = np.random.MT19937()
        key = _jumped(state, offset) if near != offset else state
        self._generator.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": SIZE}}
        for at in range(0, near, CHUNK):
            self.take(min(CHUNK, near - at))

    def take(self, count: int) -> U64:
        """Return the next words."""
        found: U64 = self._generator.random_raw(count)
        return found


def fill(seed: int, offset: int, low: float, high: float, out: npt.NDArray[np.float32]) -> None:
    """Write torch's uniform_(low, high) from word ``offset`` on: low + x·fl(high − low), rounded once to binary32."""
    words = Words(seed, offset)
    span = float(np.float32(high) - np.float32(low))
    for at in range(0, out.size, CHUNK):
        piece = out[at : at + CHUNK]
        x = (words.take(piece.size) & np.uint64(0xFFFFFF)).astype(np.float64)
        x *= span * 2.0**-24
        piece[:] = x + low if low in (0.0, -high) else _add(x, low)  # the sums of both cases are exact


def _add(product: npt.NDArray[np.float64], low: float) -> npt.NDArray[np.float64]:
    """Return product + low in binary64, inexact sums rounded to odd: rounding those to binary32 gives what one rounding gives."""
    total = product + low
    part = total - product
    error = (product - (total - part)) + (low - part)
    bits = total.view(np.int64)
    inexact = np.flatnonzero((error != 0) & (bits & 1 == 0))
    bits[inexact] += np.where((error[inexact] > 0) == (total[inexact] > 0), 1, -1)
    return total


# Jumps: one step of the recurrence is a linear map F of 19,937 bits, so F^n = g(F) with g = t^n mod the characteristic polynomial
# (Haramoto et al., "Efficient jump ahead for F2-linear random number generators", 2008). A polynomial over F2 is an int, bit i for t^i.


@cache
def characteristic() -> tuple[int, ...]:
    """Return the exponents of the characteristic polynomial (Matsumoto and Nishimura 1998, appendix A)."""

    def times(a: int, s: int, t: int) -> int:
        return a << s ^ a << t

    found, power = 0, 1
    for i in reversed(range(LOW_BITS)):
        found ^= power if TWIST >> i & 1 else 0
        power = times(power, SIZE - 1, MIDDLE - 1)
    found = times(found ^ power, SIZE, MIDDLE) ^ (TWIST >> LOW_BITS)
    return tuple(i for i in range(DEGREE + 1) if found >> i & 1)


def _modulo(a: int) -> int:
    """Reduce a polynomial modulo the characteristic one, which has few terms."""
    while high := a >> DEGREE:
        for exponent in characteristic():
            a ^= high << exponent
    return a


@lru_cache(maxsize=256)
def _power(n: int) -> str:
    """Return the coefficients of t^n modulo the characteristic polynomial, lowest first, as digits."""
    found = 1
    for bit in f"{n:b}":
        found = int(f"{found:b}", 4)  # the square: a zero between every two coefficients
        found = _modulo(found << 1 if bit == "1" else found)
    return f"{found:b}"[::-1]


def _jumped(state: U32, n: int) -> U32:
    """Return the state n words later. The low 31 bits of its first word are no part of it."""
    words = np.empty(DEGREE + SIZE, np.uint32)
    words[:SIZE] = state
    for at in range(SIZE, words.size, SIZE):
        state = _twisted(state)
        words[at : at + SIZE] = state[: words.size - at]
    found = np.zeros(SIZE, np.uint32)
    for i, digit in enumerate(_power(n)):
        if digit == "1":
            found ^= words[i : i + SIZE]
    return found


def _twisted(state: U32) -> U32:
    """Return the next 624 untempered words."""
    words = np.concatenate((state, np.empty(SIZE, np.uint32)))
    for start, stop in ((0, SIZE - MIDDLE), (SIZE - MIDDLE, 2 * (SIZE - MIDDLE)), (2 * (SIZE - MIDDLE), SIZE)):
        joined = words[start:stop] & np.uint32(0x80000000) | words[start + 1 : stop + 1] & np.uint32(0x7FFFFFFF)
        odd = (joined & np.uint32(1)) * np.uint32(TWIST)
        words[SIZE + start : SIZE + stop] = words[start + MIDDLE : stop + MIDDLE] ^ joined >> np.uint32(1) ^ odd
    return words[SIZE:]
