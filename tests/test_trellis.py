"""trellis: its verbs on every instruction set, sections of every kind in whole and in windows, the search, rules."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from battery import BACKENDS, altered, breaks, decoded, make_env, raw, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import ORACLE, Case, at_end_of_page, cases, each, lattice_of, make_case, needs_native, outcome
from strategies import finite, finite_tensors, windows

from wcodec.backends import Backend
from wcodec.codecs import CODECS, check
from wcodec.codecs.floats.trellis import assemble
from wcodec.codecs.integers.rans_encoder import alphabet_of
from wcodec.codecs.matrix import matrix_shape
from wcodec.coding.numbers import LOSSY, to_float32
from wcodec.coding.rans import Context, Order
from wcodec.coding.tokens import NONE, Alphabet, Beside
from wcodec.coding.trellis import Lattice, Quantised, code, factors
from wcodec.errors import BackendUnavailable, Corrupt, EncodeError
from wcodec.types import DTYPES, U8, Section, Spec


@st.composite
def symbol_cases(draw: st.DrawFn) -> tuple[Case, Lattice, str]:
    """A window of entropy-coded symbols, and what they stand for."""
    case = draw(cases([*(f"trellis{v}" for v in range(2, 9)), "trellis3 classes", "trellis8 classes"]))
    rng, cols = np.random.default_rng(draw(st.integers(0, 2**32))), case.job.order.cols
    rows = -(-(case.job.start % cols + case.count) // cols)
    return case, lattice_of(rng, case.job.context.trellis, rows, cols, 254), draw(st.sampled_from(LOSSY))


@needs_native
@given(symbol_cases())
@settings(max_examples=150)
def test_trellis_decode(drawn):
    case, lattice, dtype = drawn
    its = DTYPES[dtype]
    arguments = (case.job, case.job.tables.lut(), case.states, case.offsets, case.words, lattice, its)
    want = np.empty(case.count, its.storage)
    ORACLE.trellis_decode(*arguments, want)
    for backend in each():
        assert outcome(backend, case, tokens := np.empty(case.count, np.uint8)) is None and np.array_equal(tokens, case.tokens)
        out = np.full(case.count + 64, 7, its.storage)
        backend.trellis_decode(*arguments, out[: case.count])
        assert same_bits(out[: case.count], want) and (out[case.count :] == 7).all()


@needs_native
@given(symbol_cases(), st.integers(0, 2**32))
@settings(max_examples=80)
def test_damage(drawn, seed):
    """Every backend finds what breaks, or decodes the same."""
    (case, lattice, dtype), rng = drawn, np.random.default_rng(seed)
    words, its = case.words.copy(), DTYPES[dtype]
    if words.size:
        words[rng.integers(words.size, size=3)] ^= np.uint8(1) << rng.integers(8, size=3).astype(np.uint8)
    if rng.integers(4) == 0:
        case.job.tables.frequencies[rng.integers(len(case.job.tables.frequencies))] = 0
    found = set()
    for backend in (ORACLE, *each()):
        out = np.empty(case.count, its.storage)
        try:
            backend.trellis_decode(case.job, case.job.tables.lut(), case.states, case.offsets, words, lattice, its, out)
            found.add(out.tobytes())
        except Corrupt as error:
            found.add(error.rule)
    assert len(found) == 1


def beside_of(rng: np.random.Generator, case: Case, bits: int, escapes: bool) -> Beside:
    """Anything that may stand beside the tokens of a window; the commonest token may be an escape, or one that nobody uses."""
    escape = int(rng.choice([case.tokens[0] & 254 if case.count else 0, 100, 122, 0, 254])) if escapes else -1
    alphabet = Alphabet(bits, int(rng.choice([0, 1, 900, 2**32 - 1])), bool(rng.integers(2)), escape, True)
    wide, packed = np.uint8 if bits <= 8 else np.uint16, bool(rng.integers(2))
    raw = rng.integers(0, 1 << 8 * wide().itemsize, case.count).astype(wide) if bits else None
    if raw is not None and packed:
        raw = at_end_of_page(ORACLE.pack_bits(raw & wide((1 << bits) - 1), bits, 0))
    order = case.job.order
    block, _ = order.places(np.flatnonzero(alphabet.escapes(case.tokens))) if escapes else (NONE, NONE)
    counts = np.bincount(block, minlength=order.blocks).astype(np.uint32) if escapes else NONE
    outliers = rng.integers(0, 1 << rng.choice([4, 12, 32]), int(counts.sum())).astype(np.uint32)
    return Beside(alphabet, int(rng.integers(1, 3)), raw, packed and bits > 0, outliers, counts)


def join_outcome(backend: Backend, case: Case, words: U8, beside: Beside, lattice: Lattice, dtype: str) -> str | bytes:
    its = DTYPES[dtype]
    out = np.full(case.count + 64, 7, its.storage)
    try:
        backend.trellis_join(case.job, case.job.tables.lut(), case.states, case.offsets, words, beside, lattice, its, out[: case.count])
    except Corrupt as error:
        return str(error.rule)
    assert (out[case.count :] == 7).all()
    return out.tobytes()


@needs_native
@given(symbol_cases(), st.integers(0, 2**32), st.integers(0, 16), st.booleans())
@settings(max_examples=200)
def test_trellis_join(drawn, seed, bits, escapes):
    """Raw bits, packed or not, and escapes: the oracle's values on every instruction set, and its rules for damage."""
    (case, lattice, dtype), rng = drawn, np.random.default_rng(seed)
    beside = beside_of(rng, case, bits, escapes)
    want = join_outcome(ORACLE, case, case.words, beside, lattice, dtype)
    assert isinstance(want, bytes)
    for backend in each():
        assert join_outcome(backend, case, case.words, beside, lattice, dtype) == want
    counts, words = beside.counts.copy(), case.words.copy()
    if counts.size > 1 and rng.integers(2):  # too many escapes in a block, too few in another
        counts[rng.integers(counts.size)] += 1
        counts[rng.choice(np.flatnonzero(counts))] -= 1
    elif words.size:
        words[rng.integers(words.size, size=3)] ^= np.uint8(1) << rng.integers(8, size=3).astype(np.uint8)
    damaged = replace(beside, counts=counts)
    assert len({join_outcome(backend, case, words, damaged, lattice, dtype) for backend in (ORACLE, *each())}) == 1


@needs_native
def test_escapes_of_a_block():
    """One escape more or less than a block's count is RANS-3, whichever block lacks it."""
    rng, tokens = np.random.default_rng(1), np.full(4096, 6, np.uint8)
    tokens[[5, 700, 2000, 4095]] = 8, 9, 8, 9
    case = make_case(Order(4096, 4096, 32, block=1024), Context("trellis", trellis=4), 12, tokens)
    lattice, alphabet = lattice_of(rng, 4, 1, 4096, 254), Alphabet(2, 3, escape=8, trellis=True)
    raw = rng.integers(0, 4, 4096).astype(np.uint8)
    for counts, rule in (([2, 1, 0, 1], None), ([1, 1, 0, 2], "RANS-3"), ([2, 1, 1, 0], "RANS-3"), ([2, 1, 0, 0], "RANS-3")):
        numbers = np.array(counts, np.uint32)
        beside = Beside(alphabet, 2, raw, False, np.arange(70, 70 + numbers.sum(), dtype=np.uint32), numbers)
        found = {join_outcome(backend, case, case.words, beside, lattice, "F32") for backend in (ORACLE, *each())}
        assert len(found) == 1 and isinstance(one := found.pop(), str) == (rule is not None) and (rule is None or one == rule)


@needs_native
@given(symbol_cases(), st.integers(0, 2**32), st.booleans())
@settings(max_examples=100)
def test_trellis_dequantise(drawn, seed, wide):
    (case, lattice, dtype), rng = drawn, np.random.default_rng(seed)
    its, order, start = DTYPES[dtype], case.job.order, case.job.start
    symbols = rng.integers(0, 2**16, case.count).astype(np.uint16) if wide else case.tokens
    want = np.empty(case.count, its.storage)
    ORACLE.trellis_dequantise(order, start, symbols, lattice, its, want)
    for backend in each():
        out = np.full(case.count + 64, 7, its.storage)
        backend.trellis_dequantise(order, start, symbols, lattice, its, out[: case.count])
        assert same_bits(out[: case.count], want) and (out[case.count :] == 7).all()


@st.composite
def sections(draw: st.DrawFn) -> tuple[Spec, Section]:
    """Sections of symbols that nobody searched for, with every kind of part."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, cols = draw(st.sampled_from([(1, 1), (3, 7), (40, 131), (130, 128), (9, 700), (300, 2), (0, 5), (5, 0)]))
    spec = Spec.of(draw(st.sampled_from(LOSSY)), rows, cols)
    rows, cols = matrix_shape(spec)
    most = draw(st.sampled_from([3, 40, 255, 700, 65_535]))
    symbols = np.minimum(rng.geometric(4 / most if most > 4 else 0.5, rows * cols), most).astype(np.uint8 if most < 256 else np.uint16)
    tile = draw(st.sampled_from([None, (16, 128), (7, 256), (1024, 128)]))
    factor = lambda count: rng.integers(0, 256, count).astype(np.uint8) if rng.integers(2) else None  # noqa: E731
    classes = (np.array([0, 1, 0], np.uint8), rng.integers(0, 3, rows).astype(np.uint8)) if tile and rng.integers(2) else None
    points = tuple(rng.integers(0, 2**16, rng.choice([0, 2, 64])).tolist())
    bits = 0 if most < 300 else 1 if most < 1000 else 8
    alphabet = alphabet_of(symbols, bits, True)
    its = Quantised(
        symbols, most // 4 * 2, np.float32(0.1), int(rng.integers(2, 9)), tile, factor(rows), factor(cols), points, classes, alphabet
    )
    return spec, assemble(its, spec, make_env())


@given(sections(), st.data())
@settings(max_examples=80)
def test_sections(drawn, data):
    """All backends decode the same bits, whole and in windows."""
    spec, section = drawn
    check(section, spec, make_env())
    want = decoded(section, spec, make_env())
    for name in BACKENDS:
        for start, stop in (data.draw(windows(spec.count)), (0, spec.count)):
            fresh = Section("trellis", section.params, section.parts)
            assert same_bits(decoded(fresh, spec, make_env(name), start, stop), want[start:stop])


@given(finite_tensors(), st.sampled_from((0.1, 1.0)), st.sampled_from((4, 16)), st.sampled_from(("tensor", "rows", "columns")))
@settings(max_examples=25, deadline=None)
def test_encode(tensor, relative, states, steps):
    """Any weights come back within a few steps; on every backend in the same bytes and bits."""
    spec, x = tensor
    if spec.count > 6000:
        return
    section = CODECS["trellis"].encode(x, spec, make_env(), relative=relative, states=states, steps=steps)
    check(section, spec, make_env())
    got, want = (to_float32(y, spec.dtype).astype(np.float64) for y in (decoded(section, spec, make_env()), x))
    rows, cols = matrix_shape(spec)
    step = np.array([section.params["step"]], np.uint32).view(np.float32)[0].astype(np.float64)
    size = np.full((rows, cols), step)
    for axis, name in enumerate(("rows", "columns")):
        if name in section.parts:
            codes = decoded(section.parts[name], Spec.of("U8", (rows, cols)[axis]), make_env())
            size *= np.expand_dims(factors(codes), 1 - axis)
    assert (np.abs(got - want) <= 8 * size.reshape(-1) + np.abs(want) * 2.0**-8).all()
    for name in BACKENDS:
        assert same_bits(decoded(section, spec, make_env(name)), decoded(section, spec, make_env()))


@cache
def gaussian():
    return np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)


def error_of(**options):
    spec = Spec.of("F32", 256, 256)
    section = CODECS["trellis"].encode(gaussian().reshape(-1).view(np.uint32), spec, make_env(), **options)
    values = decoded(section, spec, make_env()).view(np.float32)
    error = float(np.mean((values.astype(np.float64) - gaussian().reshape(-1)) ** 2))
    data = section.parts["symbols"].parts["data"].size
    return 8 * data / spec.count - 0.5 * np.log2(1 / error)


@pytest.mark.parametrize(("states", "gap"), [(4, 0.14), (8, 0.125), (32, 0.11)])
def test_gap_to_the_bound(states, gap):
    """Far below the quarter of a bit of scalar quantisation; a tile of 2^16 symbols costs 0.03 itself."""
    assert error_of(states=states, relative=0.4) < gap


def test_factors():
    codes = np.arange(256, dtype=np.uint8)
    values = factors(codes)
    assert values[128] == 1 and np.allclose(values, np.exp2((np.arange(256) - 128) / 16), rtol=1e-7)
    assert np.array_equal(code(values), codes) and code(np.array([0.0, np.inf])).tolist() == [0, 255]


SMALL = Spec.of("F32", 40, 131)


def test_options():
    x, codec = finite(1, SMALL), CODECS["trellis"]
    for options in ({"states": 7}, {"states": 512}, {"step": 1.0, "relative": 1.0}, {"step": 0.0}, {"step": -1.0}, {"step": 1e-9},
                    {"step": float("nan")}, {"relative": 1e40}, {"steps": "cells"}):  # fmt: skip
        with pytest.raises(EncodeError):
            codec.encode(x, SMALL, make_env(), **options)
    for bad in (np.nan, np.inf):
        x.view(np.float32)[7] = bad
        with pytest.raises(EncodeError):
            codec.encode(x, SMALL, make_env())


def test_rules():
    section = CODECS["trellis"].encode(finite(1, SMALL), SMALL, make_env(), tile=(8, 128), states=4)
    for bad in ({"zero": 1}, {"zero": -2}, {"zero": 256}, {"step": 0}, {"step": 0x76800000}, {"wide": 0}, {"rows": 1}, {"points": []},
                {"points": [-1]}, {"points": [65_536]}, {"points": [0] * 65}, {"step": None}, {"zero": None}):  # fmt: skip
        breaks("TRELLIS-1", altered(section, **bad), SMALL)
    symbols = decoded(section.parts["symbols"], Spec.of("U8", 40, 131), make_env())
    breaks("TRELLIS-2", altered(section, {"symbols": raw(symbols)}), SMALL)
    breaks("C-20", altered(section, {"symbols": raw(symbols).parts["data"]}), SMALL)
    breaks("C-20", altered(section, rows=True), SMALL)
    breaks("RANS-1", altered(section, {"symbols": altered(section.parts["symbols"], trellis=9)}), SMALL)


@needs_native
def test_flushed_subnormals():
    """With subnormals flushed, C sets its own mode, and numpy refuses rather than decode other bits."""
    torch = pytest.importorskip("torch")
    section = CODECS["trellis"].encode(finite(3, SMALL, 1e-39), SMALL, make_env(), states=4)
    want = decoded(section, SMALL, make_env())
    assert want.any()
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        assert same_bits(decoded(section, SMALL, make_env("native")), want)
        with pytest.raises(BackendUnavailable, match="subnormal"):
            decoded(section, SMALL, make_env("numpy"))
    finally:
        torch.set_flush_denormal(False)


@needs_native
@pytest.mark.parametrize("relative, dtype", [(0.5, "BF16"), (0.2, "F32"), (0.08, "F16"), (0.2, "F64"), (0.01, "BF16"), (0.004, "F32")])
@pytest.mark.parametrize("steps", ["tensor", "rows", "columns"])
def test_many_symbols(relative, dtype, steps):
    """Enough symbols for native code to make codebooks of lattices: of 64, 128 and 256 entries, and none; or to join on the way."""
    spec = Spec.of(dtype, 131, 400)
    x = finite(3, spec)
    for tile in ("linear", None):
        section = CODECS["trellis"].encode(x, spec, make_env("native"), relative=relative, states=4, tile=tile, steps=steps)
        want = decoded(section, spec, make_env("numpy"))
        for _ in each():
            assert same_bits(decoded(section, spec, make_env("native")), want)
