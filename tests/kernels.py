"""The native backend in every instruction set of this machine, next to the oracle; streams of tokens to try both with."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from wcodec.backends import Backend, available, get_backend, native
from wcodec.coding.rans import POLYNOMIALS, Context, Job, Order
from wcodec.coding.tables import Tables
from wcodec.coding.trellis import Lattice, factors
from wcodec.errors import Corrupt

ORACLE = Backend()
NATIVE = get_backend("native") if "native" in available() else None
needs_native = pytest.mark.skipif(NATIVE is None, reason="built without the native library")


def each() -> Iterator[native.NativeBackend]:
    """Yield the native backend in every instruction set that runs here."""
    assert isinstance(NATIVE, native.NativeBackend)
    for isa in native.ISAS:
        if NATIVE.set_isa(isa) == isa:
            yield NATIVE
    NATIVE.set_isa(native.ISAS[-1])


@dataclass
class Case:
    """A window: its job, tokens, and the oracle's encoding."""

    job: Job
    tokens: Any
    states: Any
    offsets: Any
    words: Any

    @property
    def count(self) -> int:
        return self.tokens.size


def make_context(rng: np.random.Generator, kind: str, rows: int, cols: int, start: int) -> Context:
    if kind == "none":
        return Context()
    if kind.startswith("trellis"):
        v, _, classes = kind[7:].partition(" ")
        if not classes:
            return Context("trellis", trellis=int(v))
        table = rng.integers(0, 4, (int(rng.integers(1, 5)), 1)).astype(np.uint8)
        its = rng.integers(0, len(table), -(-(start + rows * cols) // cols)).astype(np.uint8)
        return Context("trellis", int(v), table, its if len(table) > 1 else None)
    row_classes = int(rng.integers(2, 5)) if "r" in kind else 1
    column_classes = int(rng.choice([2, 5, 16, 17, 60])) if "c" in kind else 1
    table = rng.integers(0, 6, (row_classes, column_classes)).astype(np.uint8)
    last = -(-(start + rows * cols) // cols)
    return Context(
        "classes",
        map=table,
        rows=rng.integers(0, row_classes, last).astype(np.uint8) if row_classes > 1 else None,
        columns=rng.integers(0, column_classes, cols).astype(np.uint8) if column_classes > 1 else None,
    )


KINDS = ["none", "none", "r/", "/c", "r/c", *(f"trellis{v}" for v in POLYNOMIALS), "trellis3 classes", "trellis6 classes"]


@st.composite
def cases(draw: st.DrawFn, kinds: list[str] = KINDS) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lanes, precision = draw(st.sampled_from([1, 4, 32, 32, 32])), draw(st.integers(8, 12))
    rows, cols = draw(st.integers(0, 12)), draw(st.sampled_from([1, 3, 31, 128, 255, 512, 640, 1000]))
    kind, start = draw(st.sampled_from(kinds)), 0
    if not kind.endswith(" classes") and draw(st.booleans()):
        order = Order(rows * cols, cols, lanes, block=128 * draw(st.integers(1, 20)))
        start = order.block * draw(st.integers(0, 3))
    else:
        order = Order(rows * cols, cols, lanes, tile=(draw(st.integers(1, 5)), 4 * lanes * draw(st.integers(1, 4))))
        start = order.unit * draw(st.integers(0, 2))
    context = make_context(rng, kind, rows, cols, start)
    spread = draw(st.sampled_from([0, 0.5, 3, 40, 1000]))
    tokens = np.clip(rng.normal(120, spread, rows * cols), 0, 255).astype(np.uint8)
    return make_case(order, context, precision, tokens, start)


def lattice_of(rng: np.random.Generator, v: int, rows: int, cols: int, most: int) -> Lattice:
    """A lattice with or without everything that one can have."""
    high = rows if rng.integers(2) else 1
    steps = np.exp2(rng.choice([0, -140, 120]) + rng.standard_normal(max(1, high))).astype(np.float32)
    columns = factors(rng.integers(0, 256, cols).astype(np.uint8)) if rng.integers(2) else None
    points = (rng.integers(0, 2**16, rng.choice([0, 1, 3, 64])) / 256).astype(np.float32)
    return Lattice(v, 2 * int(rng.integers(0, most // 2 + 1)), steps, columns, points)


def encoded(backend: Backend, job: Job, tokens: Any) -> tuple[Any, Any, Any]:
    """Encode into too little room, then into enough."""
    *_, size = backend.rans_encode(job, tokens, np.empty(0, np.uint8))
    words = np.empty(size, np.uint8)
    states, per_block, again = backend.rans_encode(job, tokens, words)
    assert again == size == 2 * per_block.sum(dtype=np.int64)
    return states, per_block, words


def make_case(order: Order, context: Context, precision: int, tokens: Any, start: int = 0) -> Case:
    job = Job(order, context, Tables(precision, np.zeros((context.tables, 256), np.uint16)), start)
    tables = Tables.fit(ORACLE.rans_histogram(job, tokens), precision)
    job = Job(order, context, tables, start)
    states, per_block, words = encoded(ORACLE, job, tokens)
    return Case(job, tokens, states, np.append(0, np.cumsum(per_block)).astype(np.uint32), words)


def outcome(backend: Backend, case: Case, out: Any) -> str | None:
    """Decode; return the rule that the bytes break."""
    try:
        backend.rans_decode(case.job, case.job.tables.lut(), case.states, case.offsets, case.words, out)
    except Corrupt as error:
        return error.rule
    return None


def at_end_of_page(data: Any) -> Any:
    """Return a copy of data behind which memory must not be read."""
    size = -(-data.size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    assert libc.mprotect(whole.ctypes.data + size, mmap.PAGESIZE, 0) == 0
    whole[size - data.size : size] = data
    return whole[size - data.size : size]


def at_odd_address(data: Any) -> Any:
    room = np.empty(data.size + 1, np.uint8)
    room[1:] = data
    return room[1:]


def damage(case: Case, seed: int) -> None:
    """Damage words, states, offsets or tables."""
    rng = np.random.default_rng(seed)
    case.words, case.states = case.words.copy(), case.states.copy()
    words, states, offsets = case.words, case.states.reshape(-1), case.offsets
    match rng.integers(6):
        case 0 if words.size:
            words[rng.integers(words.size, size=3)] ^= np.uint8(1) << rng.integers(8, size=3).astype(np.uint8)
        case 1:
            words[:] = rng.integers(256, size=words.size)
        case 2 if states.size:
            states[rng.integers(states.size)] = rng.integers(2**32)
        case 3 if offsets.size > 1:
            offsets[1:-1] = np.sort(rng.integers(0, words.size // 2 + 1, offsets.size - 2))
        case 4:  # the words of every block are one short
            case.words, case.offsets = words[: max(0, words.size - 2)], np.maximum(offsets, 1) - 1
            case.offsets = case.offsets.astype(np.uint32)
        case _:
            case.job.tables.frequencies[rng.integers(len(case.job.tables.frequencies))] = 0
