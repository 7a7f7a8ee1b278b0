"""Trellises whose symbols have raw bits and escapes: several verbs of a tape that one kernel does, interpreted, against the oracle."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted import ORACLE, TRITON, Room, seeds, tensor
from kernels import Case, damage, lattice_of
from test_triton_rans import TRELLISES, small_cases

from wcodec.backends.triton import TritonBackend
from wcodec.coding.numbers import LOSSY
from wcodec.coding.rans import Order
from wcodec.coding.tokens import Alphabet
from wcodec.errors import WcodecError
from wcodec.types import DTYPES

quick = settings(max_examples=settings().max_examples // 25, deadline=None)
alphabets = st.builds(
    Alphabet,
    bits=st.sampled_from([0, 0, 1, 3, 8, 9, 16]),
    base=st.sampled_from([0, 5, 130, 2**32 - 1]),
    zero=st.booleans(),
    escape=st.sampled_from([-1, 0, 118, 120, 122]),
    trellis=st.just(True),
)


def decode(backend: Any, case: Case, inputs: tuple[Any, ...], name: str, out: Any) -> None:
    """Call the verbs that decode a window of a trellis."""
    alphabet, kind, raw, counts, outliers, lattice = inputs
    order, found = case.job.order, backend.empty(case.count, np.dtype(np.uint8))
    backend.rans_decode(case.job, case.job.tables.lut(), case.states, case.offsets, backend.from_host(case.words), found)
    values = backend.empty(0, np.dtype(np.uint32))
    if alphabet.escape >= 0:
        values = backend.order_outliers(alphabet, order, counts, found, backend.from_host(outliers))
    symbols = backend.empty(case.count, np.dtype(kind))
    backend.join_tokens(alphabet, found, None if raw is None else backend.from_host(raw), values, symbols)
    backend.trellis_dequantise(order, case.job.start, symbols, lattice, DTYPES[name], out)


def inputs_of(case: Case, alphabet: Alphabet, kind: str, rng: np.random.Generator) -> tuple[Any, ...]:
    order, counts = case.job.order, None
    if alphabet.escape >= 0:
        block, _ = order.places(np.flatnonzero(alphabet.escapes(case.tokens)))
        counts = np.bincount(block, minlength=order.blocks).astype(np.uint32)
    outliers = rng.integers(0, 2**32, 0 if counts is None else int(counts.sum()), np.uint32)
    raw = rng.integers(0, 256, case.count * (1 + (alphabet.bits > 8)), np.uint8)
    raw = raw.view(np.uint16) if alphabet.bits > 8 else raw
    rows = -(-(case.job.start % order.cols + case.count) // order.cols)
    lattice = lattice_of(rng, case.job.context.trellis, rows, order.cols, 254 if kind == "u1" else 65534)
    return alphabet, kind, raw if alphabet.bits else None, counts, outliers, lattice


def outcome(backend: Any, case: Case, inputs: tuple[Any, ...], name: str, out: Any) -> str | None:
    try:
        if backend is ORACLE:
            decode(backend, case, inputs, name, out)
        else:
            with backend.batch() as batch, batch.tape(""):
                decode(backend, case, inputs, name, out)
    except WcodecError as error:
        return error.rule
    return None


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The verbs that were run."""
    found: list[str] = []
    run = TritonBackend.run
    monkeypatch.setattr(TritonBackend, "run", lambda self, name, calls: (found.append(name), run(self, name, calls))[1])
    return found


@given(small_cases(TRELLISES), alphabets, st.sampled_from(["u1", "u2"]), st.sampled_from(LOSSY), seeds, st.sampled_from([0, 0, 1]))
@quick
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # the interpreter's numpy
def test_symbols_with_raw_bits_and_escapes(case: Case, alphabet: Alphabet, kind: str, name: str, seed: int, shift: int) -> None:
    dtype, inputs = DTYPES[name], inputs_of(case, alphabet, kind, np.random.default_rng(seed))
    want, room = np.empty(case.count, dtype.storage), Room(case.count, dtype.storage, shift)
    assert outcome(ORACLE, case, inputs, name, want) is None
    assert outcome(TRITON, case, inputs, name, room.out) is None
    assert room.holds(want)


@given(small_cases(TRELLISES), alphabets, seeds)
@quick
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_damage(case: Case, alphabet: Alphabet, seed: int) -> None:
    """Words and counts of escapes that do not fit give the rule that numpy gives, and nothing is written elsewhere."""
    rng = np.random.default_rng(seed)
    inputs = inputs_of(case, alphabet, "u2", rng)
    counts, sized = inputs[3], Room(case.count, "u2")
    if counts is not None and counts.size > 1 and counts[0] and rng.integers(2):
        counts[0] -= 1
        counts[-1] += 1
    else:
        damage(case, seed)
    rule = outcome(ORACLE, case, inputs, "BF16", np.empty(case.count, np.uint16))
    assert outcome(TRITON, case, inputs, "BF16", sized.out) == rule
    around = np.concatenate((sized.whole[: sized.begin], sized.whole[sized.end :]))
    assert (around == sized.whole[0]).all()


def test_one_call_for_all(launched: list[str]) -> None:
    """Tapes of many tensors go together; calls that others read stay."""
    rng, alphabet = np.random.default_rng(0), Alphabet(bits=3, base=1, escape=120, trellis=True)
    case = small(rng)
    inputs = inputs_of(case, alphabet, "u2", rng)
    want = np.empty(case.count, np.uint16)
    decode(ORACLE, case, inputs, "BF16", want)
    rooms = [Room(case.count, "u2") for _ in range(3)]
    with TRITON.batch() as batch:
        for room in rooms:
            with batch.tape("x"):
                decode(TRITON, case, inputs, "BF16", room.out)
    assert launched == ["trellis_values"] and all(room.holds(want) for room in rooms)
    launched.clear()
    with TRITON.batch() as batch, batch.tape("x"):  # symbols that came another way
        symbols = tensor(rng.integers(0, 256, case.count).astype(np.uint8))
        TRITON.trellis_dequantise(case.job.order, 0, symbols, inputs[-1], DTYPES["BF16"], rooms[0].out)
    assert launched == ["trellis_dequantise"]


def small(rng: np.random.Generator) -> Case:
    from kernels import make_case, make_context

    tokens = rng.integers(100, 130, 3 * 256).astype(np.uint8)
    return make_case(Order(768, 256, 32, tile=(3, 128)), make_context(rng, "trellis3", 3, 256, 0), 10, tokens)
