"""rANS in Triton, interpreted, against the oracle: sound and damaged streams. Cases are small, as four symbols take a tenth of a second."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

from typing import Any

import numpy as np
import pytest
import torch
from battery import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import KINDS, ORACLE, Case, damage, lattice_of, make_case, make_context, outcome

from wcodec.api.files import STORAGE
from wcodec.api.opened import Opened
from wcodec.backends import Planes, Symbols
from wcodec.backends.torch import TorchBackend
from wcodec.backends.triton.rans_decode import Dequantise, Gather, Join, RansCall, rans_decode_many
from wcodec.backends.triton.rans_encode import rans_encode_many, rans_histogram_many
from wcodec.coding.numbers import LOSSY
from wcodec.coding.rans import Context, Job, Order
from wcodec.coding.tables import Tables
from wcodec.types import DTYPES

UNTOUCHED = 77
RULES = {0: None, 1: "E-6", 2: "E-7", 3: "E-7"}
SIZES = {1: (60, [1, 3, 31]), 4: (400, [3, 31, 128]), 32: (2000, [31, 128, 255, 512])}
"""By lanes: symbols, columns."""
quick = settings(max_examples=settings().max_examples // 33, deadline=None)


@st.composite
def small_cases(draw: st.DrawFn, kinds: list[str] = KINDS, tiled: bool = True) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lanes = draw(st.sampled_from([1, 4, 32, 32, 32]))
    most, widths = SIZES[lanes]
    cols = draw(st.sampled_from(widths))
    rows = draw(st.integers(0, most // cols))
    kind = draw(st.sampled_from(kinds))
    if not tiled or (not kind.endswith(" classes") and draw(st.booleans())):
        order = Order(rows * cols, cols, lanes, block=128 * draw(st.integers(1, 4)))
    else:
        order = Order(rows * cols, cols, lanes, tile=(draw(st.integers(1, 3)), 4 * lanes * draw(st.integers(1, 2))))
    start = order.unit * draw(st.integers(0, 2))
    tokens = np.clip(rng.normal(120, draw(st.sampled_from([0, 3, 1000])), rows * cols), 0, 255).astype(np.uint8)
    return make_case(order, make_context(rng, kind, rows, cols, start), draw(st.integers(8, 12)), tokens, start)


def tensor(x: Any) -> torch.Tensor:
    """Return the same bits as a tensor."""
    return torch.from_numpy(np.array(x).view(np.uint8 if x.itemsize == 1 else f"i{x.itemsize}"))


def room(count: int, bits: int, shift: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return memory, and an array inside it that begins ``shift`` elements late."""
    whole = torch.full((count + 64 + shift,), UNTOUCHED, dtype={8: torch.uint8, 16: torch.int16, 32: torch.int32, 64: torch.int64}[bits])
    return whole, whole[shift : shift + count]


def untouched(whole: torch.Tensor, count: int, shift: int = 0) -> bool:
    return bool((whole[:shift] == UNTOUCHED).all() and (whole[shift + count :] == UNTOUCHED).all())


def call_of(case: Case, out: torch.Tensor, then: Any = None) -> RansCall:
    status = torch.zeros(1, dtype=torch.int32)
    return RansCall(case.job, case.job.tables.lut(), case.states, case.offsets, tensor(case.words), out, status, then)


@given(st.lists(small_cases(), min_size=1, max_size=3), st.sampled_from([0, 0, 1]))
@quick
def test_decode(many: list[Case], shift: int) -> None:
    rooms = [room(case.count, 8, shift) for case in many]
    calls = [call_of(case, out) for case, (_, out) in zip(many, rooms, strict=True)]
    rans_decode_many(calls)
    for case, (whole, out), call in zip(many, rooms, calls, strict=True):
        assert np.array_equal(out.numpy(), case.tokens) and untouched(whole, case.count, shift)
        assert int(call.status) == 0


@pytest.mark.parametrize(("file", "name"), [("rans-3", "u8"), ("rans-5", "u16")])
def test_golden_streams(file: str, name: str) -> None:
    path = FIXTURES / "v1" / file / "case.wcodec"
    with Opened(path, STORAGE) as near, Opened(path, STORAGE, kernels="triton", device="cpu") as far:
        got = far.env.backend.to_host(far.get_tensors([name])[name])
        assert got.tobytes() == near.get_tensors([name])[name].tobytes()


@pytest.mark.parametrize("lanes", [1, 4, 32])
@pytest.mark.parametrize("kind", ["none", "r/c", "trellis8"])
@pytest.mark.parametrize("tiled", [False, True])
def test_decode_every_kind(kind: str, lanes: int, tiled: bool) -> None:
    rng, cols, rows = np.random.default_rng(lanes), 12 * lanes, 6
    order = Order(rows * cols, cols, lanes, tile=(2, 8 * lanes)) if tiled else Order(rows * cols, cols, lanes, block=128)
    tokens = rng.integers(0, 40, order.count).astype(np.uint8)
    case = make_case(order, make_context(rng, kind, rows, cols, 0), 10, tokens)
    whole, out = room(case.count, 8)
    call = call_of(case, out)
    rans_decode_many([call])
    assert np.array_equal(out.numpy(), tokens) and untouched(whole, case.count) and int(call.status) == 0


@given(st.lists(small_cases(), min_size=1, max_size=3), st.integers(0, 2**32))
@quick
def test_damage(many: list[Case], seed: int) -> None:
    for i, case in enumerate(many):
        damage(case, seed + i)
    rooms = [room(case.count, 8) for case in many]
    calls = [call_of(case, out) for case, (_, out) in zip(many, rooms, strict=True)]
    rans_decode_many(calls)
    for case, (whole, _), call in zip(many, rooms, calls, strict=True):
        assert RULES[int(call.status)] == outcome(ORACLE, case, np.empty(case.count, np.uint8))
        assert untouched(whole, case.count)


def test_unused_table_is_an_error_even_when_the_words_fit() -> None:
    context = Context("classes", map=np.array([[0, 1]], np.uint8), columns=np.array([0, 0, 1, 0] * 32, np.uint8))
    frequencies = np.zeros((2, 256), np.uint16)
    frequencies[0, 3:5] = 4095, 1
    job = Job(Order(128, 128, 32, block=128), context, Tables(12, frequencies))
    words = np.repeat(np.array([0, 1, 0], "<u2"), 32).view(np.uint8)
    case = Case(job, np.zeros(128, np.uint8), np.full((1, 32), 2**16, np.uint32), np.array([0, 96], np.uint32), words)
    call = call_of(case, room(128, 8)[1])
    rans_decode_many([call])
    assert int(call.status) == 2


SPLITS = [
    (8, 3, 0), (8, 4, 1), (16, 8, 1), (16, 7, 0), (16, 7, 2), (16, 9, 1), (16, 0, 0),
    (32, 24, 1), (32, 23, 2), (32, 16, 1), (64, 52, 0), (64, 48, 1),
]  # fmt: skip
"""Bits, rest and place of the sign."""


@given(small_cases(["none"], tiled=False), st.sampled_from(SPLITS), st.data())
@settings(max_examples=settings().max_examples // 16, deadline=None)
def test_join(case: Case, split_: tuple[int, int, int], data: st.DataObject) -> None:
    split = Planes(*split_)
    packed = bool(split.rest % 8) and data.draw(st.booleans())
    symbols = Symbols(data.draw(st.sampled_from([0, 1, 100, 200, 60000])), data.draw(st.booleans()), packed)
    shift, rng = data.draw(st.sampled_from([0, 0, 1])), np.random.default_rng(case.count)
    planes = [rng.integers(0, 256, case.count, np.uint8) for _ in range(split.count)]
    if symbols.packed:
        planes[-1] = rng.integers(0, 256, -(-case.count * (split.rest % 8) // 8), np.uint8)
    expected = np.empty(case.count, f"u{split.bits // 8}")
    ORACLE.rans_join(case.job, case.job.tables.lut(), case.states, case.offsets, case.words, symbols, split, planes, expected)
    whole, out = room(case.count, split.bits, shift)
    call = call_of(case, out, Join(symbols, split, [tensor(plane) for plane in planes]))
    rans_decode_many([call])
    assert np.array_equal(out.numpy().view(expected.dtype), expected) and untouched(whole, case.count, shift)
    assert int(call.status) == 0


@given(small_cases(), st.sampled_from([8, 16, 32, 64]), st.sampled_from([1, 1, 3]), st.sampled_from([256, 400, 121]))
@quick
def test_gather(case: Case, bits: int, width: int, entries: int) -> None:
    centroids = np.random.default_rng(bits).integers(0, 2**bits, entries * width, f"u{bits // 8}")
    whole, out = room(case.count * width, bits)
    call = call_of(case, out, Gather(tensor(centroids), width))
    rans_decode_many([call])
    known = case.tokens < entries
    assert bool(int(call.status) & 4) == (not known.all()) and untouched(whole, case.count * width)
    got = out.numpy().view(centroids.dtype).reshape(-1, width)[known]
    assert np.array_equal(got, centroids.reshape(-1, width)[case.tokens[known]])


TRELLISES = [kind for kind in KINDS if kind.startswith("trellis")]


@given(small_cases(TRELLISES), st.sampled_from(LOSSY), st.integers(0, 2**32), st.sampled_from([0, 0, 1]))
@quick
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # the interpreter's numpy
def test_dequantise(case: Case, name: str, seed: int, shift: int) -> None:
    order, dtype = case.job.order, DTYPES[name]
    rows = -(-(case.job.start % order.cols + case.count) // order.cols)
    lattice = lattice_of(np.random.default_rng(seed), case.job.context.trellis, rows, order.cols, 254)
    expected = np.empty(case.count, dtype.storage)
    arguments = case.job, case.job.tables.lut(), case.states, case.offsets
    ORACLE.trellis_decode(*arguments, case.words, lattice, dtype, expected)
    whole, out = room(case.count, dtype.bits, shift)
    call = call_of(case, out, Dequantise(lattice, dtype))
    rans_decode_many([call])
    assert np.array_equal(out.numpy().view(expected.dtype), expected) and untouched(whole, case.count, shift)
    assert int(call.status) == 0
    out.zero_()
    TorchBackend(torch.device("cpu"), ORACLE).trellis_decode(*arguments, tensor(case.words), lattice, dtype, out)
    assert np.array_equal(out.numpy().view(expected.dtype), expected)


@given(st.lists(small_cases(), min_size=1, max_size=2))
@quick
def test_encode(many: list[Case]) -> None:
    tokens = [tensor(case.tokens) for case in many]
    for case, counts in zip(many, rans_histogram_many([(case.job, its) for case, its in zip(many, tokens, strict=True)]), strict=True):
        assert np.array_equal(counts, ORACLE.rans_histogram(case.job, case.tokens))
    rooms = [room(case.words.size, 8) for case in many]
    made = rans_encode_many([(case.job, its, out) for case, its, (_, out) in zip(many, tokens, rooms, strict=True)])
    for case, (whole, out), (states, per_block, size) in zip(many, rooms, made, strict=True):
        assert states.dtype == per_block.dtype == np.uint32 and size == case.words.size
        assert np.array_equal(states, case.states) and np.array_equal(np.append(0, np.cumsum(per_block)), case.offsets)
        assert np.array_equal(out.numpy(), case.words) and untouched(whole, size)


def test_encode_into_too_little_room() -> None:
    tokens = np.random.default_rng(0).integers(0, 200, 512).astype(np.uint8)
    case = make_case(Order(512, 512, 32, block=256), Context(), 12, tokens)
    whole, out = room(case.words.size - 2, 8)
    ((_, _, size),) = rans_encode_many([(case.job, tensor(tokens), out)])
    assert size == case.words.size and untouched(whole, out.numel())


def test_histogram_of_many_tables() -> None:
    rng, tokens = np.random.default_rng(1), np.random.default_rng(2).integers(0, 256, 640).astype(np.uint8)
    context = Context("classes", map=np.arange(40, dtype=np.uint8)[None], columns=rng.integers(0, 40, 64).astype(np.uint8))
    job = Job(Order(640, 64, 32, block=640), context, Tables(8, np.zeros((40, 256), np.uint16)))
    (counts,) = rans_histogram_many([(job, tensor(tokens))])
    assert np.array_equal(counts, ORACLE.rans_histogram(job, tokens))


@given(st.integers(1, 4095), st.integers(0, 2**32 - 1))
@settings(max_examples=2000)
def test_reciprocal_is_too_small_by_one_at_most(frequency: int, state: int) -> None:
    reciprocal = min(2**32 // frequency, 2**32 - 1)
    assert 0 <= state // frequency - (state * reciprocal >> 32) <= 1
