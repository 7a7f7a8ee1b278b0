"""Entropy coding on the native backend against the oracle: sound and damaged streams, tables."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import (
    NATIVE,
    ORACLE,
    Case,
    at_end_of_page,
    at_odd_address,
    cases,
    damage,
    each,
    encoded,
    make_case,
    make_context,
    needs_native,
    outcome,
)

from wcodec.coding.rans import Context, Job, Order
from wcodec.coding.tables import Tables
from wcodec.errors import Corrupt


@needs_native
@given(cases())
@settings(max_examples=250)
def test_rans_verbs(case: Case) -> None:
    expected = ORACLE.rans_histogram(case.job, case.tokens)
    order = case.job.order
    assert order.sizes().tolist() == [order.elements(block)[0].size for block in range(order.blocks)]
    if sys.platform == "linux":
        case.words = at_end_of_page(case.words)
    odd = at_odd_address(case.words)
    for backend in each():
        counts = backend.rans_histogram(case.job, case.tokens)
        assert counts.dtype == np.uint64 and np.array_equal(counts, expected)
        states, per_block, words = encoded(backend, case.job, case.tokens)
        assert states.dtype == per_block.dtype == np.uint32 and words.dtype == np.uint8
        assert np.array_equal(states, case.states) and np.array_equal(words, case.words)
        assert np.array_equal(np.append(0, np.cumsum(per_block)), case.offsets)
        for stored in (case.words, odd):
            case.words, out = stored, np.full(case.count + 64, 77, np.uint8)
            assert outcome(backend, case, out[: case.count]) is None
            assert np.array_equal(out[: case.count], case.tokens) and (out[case.count :] == 77).all()


@needs_native
@given(cases(), st.integers(0, 2**32))
@settings(max_examples=250)
def test_damage(case: Case, seed: int) -> None:
    damage(case, seed)
    if sys.platform == "linux":
        case.words = at_end_of_page(case.words)
    expected = outcome(ORACLE, case, np.empty(case.count, np.uint8))
    for backend in each():
        assert outcome(backend, case, np.empty(case.count, np.uint8)) == expected


@needs_native
@pytest.mark.parametrize("kind", ["none", "r/c", "trellis8"])
@pytest.mark.parametrize("span", [1024, 0])
def test_large_blocks(kind: str, span: int) -> None:
    rng, rows, cols = np.random.default_rng(5), 300, 1500
    order = Order(rows * cols, cols, 32, block=128 * span, tile=(0, 0) if span else (128, 1024))
    tokens = np.clip(rng.normal(120, 2, rows * cols), 0, 255).astype(np.uint8)
    case = make_case(order, make_context(rng, kind, rows, cols, 0), 12, tokens)
    for backend in each():
        out = np.empty(case.count, np.uint8)
        assert outcome(backend, case, out) is None
        assert np.array_equal(out, tokens)
        states, _, words = encoded(backend, case.job, tokens)
        assert np.array_equal(states, case.states) and np.array_equal(words, case.words)


@needs_native
@pytest.mark.parametrize("blocks", [1, 2])
def test_unused_table_is_an_error_even_when_the_words_fit(blocks: int) -> None:
    """Made so that the third step takes an unused table, and the fourth brings every state back to 2^16: E-7 but not E-6."""
    context = Context("classes", map=np.array([[0, 1]], np.uint8), columns=np.array([0, 0, 1, 0] * 32, np.uint8))
    frequencies = np.zeros((2, 256), np.uint16)
    frequencies[0, 3:5] = 4095, 1
    job = Job(Order(128 * blocks, 128, 32, block=128), context, Tables(12, frequencies))
    words = np.repeat(np.array([0, 1, 0] * blocks, "<u2"), 32).view(np.uint8)
    offsets = np.arange(blocks + 1, dtype=np.uint32) * 96
    case = Case(job, np.zeros(128 * blocks, np.uint8), np.full((blocks, 32), 2**16, np.uint32), offsets, words)
    for backend in (ORACLE, *each()):
        assert outcome(backend, case, np.empty(case.count, np.uint8)) == "E-7"


@needs_native
def test_threads_share_the_backend() -> None:
    rng = np.random.default_rng(2)
    tokens = rng.integers(0, 20, 40_000).astype(np.uint8)
    case = make_case(Order(tokens.size, tokens.size, 32, block=4096), Context("trellis", trellis=8), 11, tokens)
    assert NATIVE is not None

    def decode(_: int) -> bool:
        out = np.empty(case.count, np.uint8)
        return outcome(NATIVE, case, out) is None and np.array_equal(out, tokens)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(decode, range(64)))


@needs_native
@given(st.integers(8, 12), st.integers(1, 3), st.integers(0, 2**32), st.booleans())
@settings(max_examples=300)
def test_read_tables(precision: int, count: int, seed: int, damage: bool) -> None:
    rng = np.random.default_rng(seed)
    counts = np.stack([rng.integers(0, 50, 256) * (rng.random(256) < rng.random() ** 2) for _ in range(count)]).astype(np.uint64)
    data = np.frombuffer(Tables.fit(counts, precision).pack() + b"\x55\xaa", np.uint8).copy()
    if damage:
        data[rng.integers(data.size)] ^= 1 << rng.integers(8)
    made: list[Any] = []
    for backend in (ORACLE, *each()):
        try:
            tables, used, lut = backend.read_tables(data, count, precision)
            made.append((used, tables.frequencies.tobytes(), lut.tobytes()))
        except Corrupt as error:
            made.append((error.rule,))
    assert all(found == made[0] for found in made)


@needs_native
@given(st.integers(8, 12), st.integers(1, 3), st.integers(0, 2**32), st.sampled_from([0, 1, 50, 2**40]))
@settings(max_examples=300)
def test_fit_and_pack_tables(precision: int, count: int, seed: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.stack([rng.integers(0, largest + 1, 256) * (rng.random(256) < rng.random() ** 2) for _ in range(count)]).astype(np.uint64)
    tables = ORACLE.fit_tables(counts, precision)
    assert (tables.frequencies[counts > 0] > 0).all()
    for backend in each():
        assert np.array_equal(backend.fit_tables(counts, precision).frequencies, tables.frequencies)
        assert backend.pack_tables(tables) == ORACLE.pack_tables(tables)
