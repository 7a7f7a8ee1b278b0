"""The native backend against the oracle: every verb, every instruction set of this machine, sound and damaged bytes."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wcodec.backends import Backend, Planes, Symbols, available, choose, get_backend, native
from wcodec.backends.native import library
from wcodec.coding.rans import POLYNOMIALS, Context, Job, Order
from wcodec.coding.tables import Tables
from wcodec.errors import BackendUnavailable, Corrupt

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
        return Context("trellis", trellis=int(kind[7:]))
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


KINDS = ["none", "none", "r/", "/c", "r/c", *(f"trellis{v}" for v in POLYNOMIALS)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    lanes, precision = draw(st.sampled_from([1, 4, 32, 32, 32])), draw(st.integers(8, 12))
    rows, cols = draw(st.integers(0, 12)), draw(st.sampled_from([1, 3, 31, 128, 255, 512, 640, 1000]))
    kind, start = draw(st.sampled_from(KINDS)), 0
    if draw(st.booleans()):
        order = Order(rows * cols, cols, lanes, block=128 * draw(st.integers(1, 20)))
        start = order.block * draw(st.integers(0, 3))
    else:
        order = Order(rows * cols, cols, lanes, tile=(draw(st.integers(1, 5)), 4 * lanes * draw(st.integers(1, 4))))
        start = order.unit * draw(st.integers(0, 2))
    context = make_context(rng, kind, rows, cols, start)
    spread = draw(st.sampled_from([0, 0.5, 3, 40, 1000]))
    tokens = np.clip(rng.normal(120, spread, rows * cols), 0, 255).astype(np.uint8)
    return make_case(order, context, precision, tokens, start)


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


@needs_native
@given(cases())
@settings(max_examples=250, deadline=None)
def test_rans_verbs(case: Case) -> None:
    expected = ORACLE.rans_histogram(case.job, case.tokens)
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
@settings(max_examples=250, deadline=None)
def test_damage(case: Case, seed: int) -> None:
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
@settings(max_examples=200, deadline=None)
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
@settings(max_examples=200, deadline=None)
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
@given(st.integers(0, 3), st.binary(max_size=64))
@settings(deadline=None)
def test_same(size: int, data: bytes) -> None:
    a = np.frombuffer(data[: len(data) >> size << size], f"u{1 << size}")
    for backend in each():
        assert backend.same(a, a.copy())
        for at in range(a.size):
            b = a.copy()
            b[at] ^= 1
            assert not backend.same(a, b)


@needs_native
def test_other_layouts_go_to_numpy() -> None:
    """Strided arrays and unusual lanes are no case for C, but must work."""
    x = np.arange(200, dtype=np.uint16)[::2]
    for backend in each():
        symbol, rest = backend.split_planes(Planes(16, 8, 0), x)
        assert np.array_equal(symbol, x >> 8) and np.array_equal(rest[0], x & 255)
        assert backend.same(x, x.copy()) and np.array_equal(backend.pack_bits(x, 8, 0), x.astype(np.uint8))


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


def test_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_backend("numpy").name == "numpy" and get_backend("numpy") is get_backend("numpy")
    monkeypatch.setenv("WCODEC_BACKEND", "numpy")
    assert get_backend().name == "numpy"
    monkeypatch.setenv("WCODEC_BACKEND", "abacus")
    with pytest.raises(BackendUnavailable, match="abacus"):
        get_backend()
    monkeypatch.delenv("WCODEC_BACKEND")
    assert get_backend().name == available()[0] and available()[-1] == "numpy"


@needs_native
def test_stale_or_strange_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(library, "ABI", library.ABI + 1)
    with pytest.raises(BackendUnavailable, match="stale"):
        native.load()
    monkeypatch.undo()
    (tmp_path / "_wcodec.so").write_bytes(b"no library")
    monkeypatch.setattr(library, "_candidates", lambda: iter([tmp_path / "_wcodec.so"]))
    with pytest.raises(BackendUnavailable, match="does not load"):
        native.load()
    monkeypatch.undo()
    monkeypatch.setenv("WCODEC_ISA", "mmx")
    with pytest.raises(BackendUnavailable, match="mmx"):
        native.load()
    monkeypatch.setenv("WCODEC_ISA", "scalar")
    assert native.load().isa == "scalar"
    assert NATIVE is not None
    NATIVE.set_isa(native.ISAS[-1])  # the choice is the library's


def test_without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "load", lambda: (_ for _ in ()).throw(BackendUnavailable("not built")))
    cached = (choose._native, choose._best)
    try:
        for function in cached:
            function.cache_clear()
        assert available() == ["numpy"]
        with pytest.raises(BackendUnavailable, match="not built"):
            get_backend("native")
        with pytest.warns(RuntimeWarning, match="numpy.*not built"):
            assert get_backend().name == "numpy"
        assert get_backend().name == "numpy"  # and says so once
    finally:
        for function in cached:
            function.cache_clear()


def test_isa_variable_reaches_the_library() -> None:
    if NATIVE is None:
        pytest.skip("built without the native library")
    code = "from wcodec.backends import get_backend; print(get_backend('native').isa)"
    environment = {"WCODEC_ISA": "scalar", "PYTHONPATH": ":".join(p for p in sys.path if p)}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "scalar"


@needs_native
@given(st.integers(8, 12), st.integers(1, 3), st.integers(0, 2**32), st.booleans())
@settings(max_examples=300, deadline=None)
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
@settings(max_examples=300, deadline=None)
def test_fit_and_pack_tables(precision: int, count: int, seed: int, largest: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.stack([rng.integers(0, largest + 1, 256) * (rng.random(256) < rng.random() ** 2) for _ in range(count)]).astype(np.uint64)
    tables = ORACLE.fit_tables(counts, precision)
    assert (tables.frequencies[counts > 0] > 0).all()
    for backend in each():
        assert np.array_equal(backend.fit_tables(counts, precision).frequencies, tables.frequencies)
        assert backend.pack_tables(tables) == ORACLE.pack_tables(tables)


@needs_native
@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 11), st.integers(1, 100_000), st.floats(-30, 30), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
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
@settings(max_examples=100, deadline=None)
def test_is_noise(count: int, values: int, seed: int) -> None:
    plane = np.random.default_rng(seed).integers(0, values, count).astype(np.uint8)
    for backend in each():
        assert backend.is_noise(plane) == ORACLE.is_noise(plane)
