"""rng.md: Philox words, the numbers made of them, and the words of mt19937."""

from __future__ import annotations

import hashlib
from functools import cache
from statistics import NormalDist

import numpy as np

LOW = np.uint64(0xFFFFFFFF)

# -- 1. Philox words


def philox_block(x: list[np.ndarray], k0: int, k1: int) -> list[np.ndarray]:
    """Philox4x32-10 of counters x0 … x3, words of 32 bits in u64 arrays."""
    for _ in range(10):
        a, b = x[0] * np.uint64(0xD2511F53), x[2] * np.uint64(0xCD9E8D57)
        x = [b >> 32 ^ x[1] ^ np.uint64(k0), b & LOW, a >> 32 ^ x[3] ^ np.uint64(k1), a & LOW]
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return x


def philox_words(seed: int, id: int, stream: int, count: int) -> np.ndarray:
    """Words 0 … count - 1, u32 [count]."""
    block = np.arange(-(-count // 4), dtype=np.uint64)
    counter = [block & LOW, block >> 32, np.full_like(block, id), np.full_like(block, stream)]
    words = philox_block(counter, seed % 2**32, seed // 2**32)
    return np.stack(words, axis=1).reshape(-1)[:count].astype(np.uint32)


# -- 2. and 3. Numbers


def uniform(words: np.ndarray) -> np.ndarray:
    """F32, exact."""
    r = 2 * (words.astype(np.int64) >> 9) + 1 - 2**23
    return r.astype(np.float32) * np.float32(2.0**-23)


@cache
def normal_table() -> np.ndarray:
    """n, made here from the inverse of the normal distribution; the digest is the page's."""
    table = np.array([round(2**22 * NormalDist().inv_cdf(0.5 + (2 * i + 1) / 2**14)) for i in range(4096)], "<u4")
    assert hashlib.sha256(table.tobytes()).hexdigest() == "08381f58460bcbb1725fd83e9229827af95210a4919f0e2f2e030ddbe511893d"
    return table


def normal(words: np.ndarray) -> np.ndarray:
    """F32, exact."""
    magnitude = normal_table()[words >> 20].astype(np.float32) * np.float32(2.0**-22)
    return np.where(words >> 19 & 1, -magnitude, magnitude)


# -- 5. The words of mt19937

DEGREE = 19937


def extend(state: np.ndarray, count: int) -> np.ndarray:
    """The words m_k … m_(k+count-1) that follow from the 624 words m_k … of `state`."""
    m = np.concatenate([state, np.zeros(max(count - 624, 0), np.uint32)])
    for k in range(0, count - 624, 227):  # so many words depend on words that are known
        n = min(227, count - 624 - k)
        y = m[k : k + n] & np.uint32(0x80000000) | m[k + 1 : k + 1 + n] & np.uint32(0x7FFFFFFF)
        m[k + 624 : k + 624 + n] = m[k + 397 : k + 397 + n] ^ y >> 1 ^ (y & 1) * np.uint32(0x9908B0DF)
    return m[:count]


@cache
def characteristic() -> int:
    """The polynomial over GF(2), bit i the coefficient of x^i, of the recurrence: found by Berlekamp and Massey's algorithm."""
    connection, before, length, shift, history = 1, 1, 0, 1, 0
    for n, bit in enumerate((extend(first_state(5489), 2 * DEGREE + 1)[1:] & 1).tolist()):
        history = history << 1 | bit
        if (connection & history).bit_count() % 2:
            connection, old = connection ^ before << shift, connection
            if 2 * length <= n:
                length, before, shift = n + 1 - length, old, 0
        shift += 1
    assert length == DEGREE
    return int(f"{connection:0{DEGREE + 1}b}"[::-1], 2)


def power_of_x(n: int) -> int:
    """x^n modulo the characteristic polynomial."""
    modulus, result = characteristic(), 1
    for bit in f"{n:b}":
        result = int("0".join(f"{result:b}"), 2) << int(bit)  # squared, and times x
        while result.bit_length() > DEGREE:
            result ^= modulus << result.bit_length() - 1 - DEGREE
    return result


def first_state(seed: int) -> np.ndarray:
    m = [seed]
    for i in range(1, 624):
        m.append((1812433253 * (m[-1] ^ m[-1] >> 30) + i) % 2**32)
    return np.array(m, np.uint32)


def jump(seed: int, n: int) -> np.ndarray:
    """m_(n+1) … m_(n+624). The words from m_1 on obey the characteristic polynomial; of m_0, the low 31 bits do not matter."""
    state = first_state(seed)
    if n < 2**16:
        return extend(state, n + 625)[n + 1 :]
    words, polynomial, result = extend(state, DEGREE + 625), power_of_x(n), np.zeros(624, np.uint32)
    for i in range(DEGREE):
        if polynomial >> i & 1:
            result ^= words[i + 1 : i + 625]
    return result


def mt19937_words(seed: int, offset: int, count: int) -> np.ndarray:
    """Words offset … offset + count - 1, u32 [count]."""
    x = extend(jump(seed, offset), 623 + count)[623:].copy()
    x ^= x >> 11
    x ^= x << 7 & np.uint32(0x9D2C5680)
    x ^= x << 15 & np.uint32(0xEFC60000)
    x ^= x >> 18
    return x


def torch_uniform(words: np.ndarray, low: np.float32, high: np.float32) -> np.ndarray:
    """fl(low + x · fl(high - low)): the sum in binary64 is rounded to odd, then to binary32."""
    product = (words % 2**24) * 2.0**-24 * np.float64(high - low)  # exact: 24 by 24 bits
    a = np.float64(low)
    total = a + product
    part = total - a
    error = (a - (total - part)) + (product - part)  # exactly what rounding the sum lost
    bits = total.view(np.uint64)
    inexact = (error != 0) & (bits % 2 == 0)
    towards = np.where(error > 0, np.inf, -np.inf)
    return np.where(inexact, np.nextafter(total, towards), total).astype(np.float32)
