"""Planes and bits on the native backend against the oracle, in one pass with decoding too."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import (
    ORACLE,
    Case,
    at_end_of_page,
    cases,
    each,
    make_case,
    needs_native,
)

from wcodec.backends import Backend, Planes, Symbols
from wcodec.coding.rans import Context, Order
from wcodec.errors import Corrupt


def splits() -> list[Planes]:
    return [Planes(bits, rest, sign) for bits in (8, 16, 32, 64) for rest in range(max(0, bits - 16), bits) for sign in (0, 1, 2)]


@needs_native
@pytest.mark.parametrize("split", splits(), ids=lambda s: f"{s.bits}-{s.rest}s{s.sign}")
def test_planes(split: Planes) -> None:
    rng = np.random.default_rng(split.rest)
    for count in (0, 1, 63, 64, 200, 1000):
        x = rng.integers(0, 2**split.bits, count, dtype=f"u{split.bits // 8}")
        symbol, rest = ORACLE.split_planes(split, x)
        joined = np.empty_like(x)
        for backend in each():
            found, planes = backend.split_planes(split, x)
            assert found.dtype == symbol.dtype and np.array_equal(found, symbol)
            assert len(planes) == len(rest) and all(map(np.array_equal, planes, rest))
            joined[:] = 0
            backend.join_planes(split, symbol, rest, joined)
            assert np.array_equal(joined, x)
            planes = noise(rng, split, count, packed=False)
            for kind in (np.uint8, np.uint16):
                wild = rng.integers(0, 2 ** (8 * kind().itemsize), count, dtype=kind)
                expected = np.empty_like(x)
                ORACLE.join_planes(split, wild, planes, expected)
                backend.join_planes(split, wild, planes, joined)
                assert np.array_equal(joined, expected)


def noise(rng: np.random.Generator, split: Planes, count: int, packed: bool) -> list[Any]:
    """Make rest planes, the top one packed if asked for."""
    sizes = [count] * split.count
    if packed and split.rest % 8:
        sizes[-1] = -(-count * (split.rest % 8) // 8)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def lay(planes: list[Any]) -> list[Any]:
    """Put planes where nothing may be read behind them."""
    return [at_end_of_page(plane) for plane in planes] if sys.platform == "linux" else planes


@needs_native
@given(
    cases(),
    st.sampled_from(splits()),
    st.builds(Symbols, st.sampled_from([0, 0, 1, 200, 60000, 2**32 - 1]), st.booleans(), st.booleans()),
    st.integers(0, 2**32),
)
@settings(max_examples=200)
def test_rans_join(case: Case, split: Planes, symbols: Symbols, seed: int) -> None:
    rest = noise(np.random.default_rng(seed), split, case.count, packed=symbols.packed)
    if symbols.packed and split.rest % 8 == 0:
        symbols = Symbols(symbols.base, symbols.zero)
    expected, lut = np.empty(case.count, f"u{split.bits // 8}"), case.job.tables.lut()
    ORACLE.rans_join(case.job, lut, case.states, case.offsets, case.words, symbols, split, rest, expected)
    rest = lay(rest)
    for backend in each():
        out = np.zeros_like(expected)
        backend.rans_join(case.job, lut, case.states, case.offsets, case.words, symbols, split, rest, out)
        assert np.array_equal(out, expected)
        if case.words.size:
            with pytest.raises(Corrupt, match="E-6"):
                backend.rans_join(case.job, lut, case.states ^ np.uint32(2**31), case.offsets, case.words, symbols, split, rest, out)


FLOATS = [Planes(16, rest, sign) for rest in range(5, 9) for sign in (0, 1, 2)]
FLOATS += [Planes(32, rest, sign) for rest in (17, 20, 23, 24) for sign in (0, 1, 2)]


def floats(rng: np.random.Generator, split: Planes, count: int) -> Any:
    x = rng.normal(0, 0.02, count).astype(np.float32) * (rng.random(count, np.float32) < 0.99)
    bits = x.astype(np.float32).view(np.uint32)
    return bits if split.bits == 32 else (bits >> 16).astype(np.uint16)


@needs_native
@pytest.mark.parametrize("split", FLOATS, ids=lambda s: f"{s.bits}-{s.rest}s{s.sign}")
def test_floats(split: Planes) -> None:
    """The fast paths, there and back, over several chunks of large blocks and with a ragged end."""
    x = floats(np.random.default_rng(1), split, 600_001)
    symbol, _ = ORACLE.split_planes(split, x)
    base = max(0, int(symbol.max()) - 255)
    widths = [8] * (split.rest // 8) + [split.rest % 8] * (split.rest % 8 > 0)
    made: list[Any] = []
    every = 4
    for backend in (ORACLE, *each()):
        tokens, rest = np.empty(x.size, np.uint8), [np.empty(-(-x.size * width // 8), np.uint8) for width in widths]
        made.append((*backend.split_tokens(split, x, base, every, tokens, rest), tokens, *rest))
        for mine, theirs in zip(made[-1], made[0], strict=True):
            assert np.array_equal(mine, theirs)
    tokens, rest = made[0][4], lay(list(made[0][5:]))
    symbols = Symbols(base, base > 0, split.rest % 8 > 0)
    case = make_case(Order(x.size, x.size, 32, block=2**16), Context(), 12, tokens)
    for backend in each():
        expected, lut = np.zeros_like(x), case.job.tables.lut()
        Backend.rans_join(backend, case.job, lut, case.states, case.offsets, case.words, symbols, split, rest, expected)
        assert np.array_equal(np.where(symbol > base, expected, 0), np.where(symbol > base, x, 0))
        room = np.zeros(x.size + 64, x.dtype)
        line = -room.ctypes.data % 64 // x.itemsize
        for at in (line, line + 1):  # large outputs go past the caches where they begin at a cache line
            out = room[at : at + x.size]
            backend.rans_join(case.job, lut, case.states, case.offsets, case.words, symbols, split, rest, out)
            assert np.array_equal(out, expected)
            assert not room[:at].any() and not room[at + x.size :].any()
            room[:] = 0


@needs_native
@given(
    st.sampled_from(splits()),
    st.integers(0, 9000),
    st.integers(0, 2**16 - 1),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(max_examples=200)
def test_split_tokens(split: Planes, count: int, base: int, every: int, zeros: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2**split.bits, count, dtype=f"u{split.bits // 8}")
    x = x * 0 if zeros else x
    base = base % 256 if split.bits - split.rest <= 8 else base
    made: list[Any] = []
    for backend in (ORACLE, *each()):
        tokens, rest = np.empty(count, np.uint8), [plane * 0 for plane in noise(rng, split, count, packed=True)]
        made.append((*backend.split_tokens(split, x, base, every, tokens, rest), tokens, *rest))
        for mine, theirs in zip(made[-1], made[0], strict=True):
            assert np.array_equal(mine, theirs)


@needs_native
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_bits(bits: int) -> None:
    rng = np.random.default_rng(bits)
    for width in range(1, bits + 1):
        for count in (0, 1, 2, 7, 8, 9, 100, 301):
            base = int(rng.integers(0, 2**bits, dtype=np.uint64)) if bits < 64 else int(rng.integers(0, 2**63))
            x = (
                rng.integers(0, 2**width, count, dtype=np.uint64).astype(f"u{bits // 8}")
                if width < 64
                else rng.integers(0, 2**63, count, np.uint64)
            )
            x = x + x.dtype.type(base)
            packed = ORACLE.pack_bits(x, width, base)
            for backend in each():
                assert np.array_equal(backend.pack_bits(x, width, base), packed)
                out = np.zeros_like(x)
                backend.unpack_bits(packed, width, base, out)
                assert np.array_equal(out, x)
            dirty = rng.integers(0, 256, packed.size + 3, dtype=np.uint8)
            expected, out = np.zeros_like(x), np.zeros_like(x)
            ORACLE.unpack_bits(dirty, width, base, expected)
            for backend in each():
                backend.unpack_bits(dirty, width, base, out)
                assert np.array_equal(out, expected)


@needs_native
@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 11), st.integers(1, 100_000), st.floats(-30, 30), st.integers(0, 2**32))
@settings(max_examples=200)
def test_choose_split(size: int, widest: int, count: int, skew: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = 2.0 ** rng.normal(skew, abs(skew), count).clip(-24, 15) * rng.choice([-1, 1, 1], count)
    x = x.astype(f"f{max(size, 2)}").view(f"u{max(size, 2)}")
    x = (x >> 8).astype(np.uint8) if size == 1 else x
    widest = min(widest, 8 * size - 1)
    for backend in each():
        assert backend.choose_split(x, widest) == ORACLE.choose_split(x, widest)


@needs_native
@given(st.integers(0, 100_000), st.integers(240, 256), st.integers(0, 2**32))
@settings(max_examples=100)
def test_is_noise(count: int, values: int, seed: int) -> None:
    plane = np.random.default_rng(seed).integers(0, values, count).astype(np.uint8)
    for backend in each():
        assert backend.is_noise(plane) == ORACLE.is_noise(plane)
