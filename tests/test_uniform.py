"""uniform: its verbs on every instruction set, rounding bit for bit, steps and rules."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from battery import altered, breaks, decoded, make_env, raw, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import ORACLE, each, needs_native
from strategies import finite, finite_tensors, windows

from wcodec.codecs import CODECS, check, decode_all
from wcodec.codecs.matrix import matrix_shape
from wcodec.coding.numbers import LOSSY, to_float32
from wcodec.coding.uniform import Grid
from wcodec.errors import BackendUnavailable, Corrupt
from wcodec.types import DTYPES, Section, Spec

SMALL = Spec.of("F32", 6, 7)
SAMPLE = finite(1, SMALL)


@st.composite
def grids(draw: st.DrawFn):
    """A grid, a window of it, and the number of steps of that window."""
    cols, rows = draw(st.integers(1, 700)), draw(st.integers(1, 9))
    group = draw(st.sampled_from((1, 3, 64, cols)))
    grid = Grid(cols, group, draw(st.sampled_from((0, -(-cols // group)))))
    start, stop = draw(windows(rows * cols))
    return grid, start, stop


@needs_native
@given(grids(), st.sampled_from(LOSSY), st.sampled_from((1, 2, 4)), st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_dequantise(window, dtype, width, seed):
    (grid, start, stop), rng, its = window, np.random.default_rng(seed), DTYPES[dtype]
    levels = {1: 256, 2: 65_536, 4: 2**24 + 5}[width] - int(rng.integers(0, 3))
    zero = int(rng.integers(0, min(levels, 2**24)))
    symbols = rng.integers(0, levels, stop - start).astype(f"u{width}")
    low, high = grid.span(start, stop)
    steps = rng.integers(0, 2**32, high - low, np.uint32).view(np.float32)
    steps[~np.isfinite(steps)] = 1e-40
    want = np.empty(stop - start, its.storage)
    ORACLE.dequantise(grid, start, symbols, steps, zero, levels, its, want)
    for backend in each():
        out = np.full(want.size + 16, 7, its.storage)
        backend.dequantise(grid, start, symbols, steps, zero, levels, its, out[: want.size])
        assert same_bits(out[: want.size], want) and (out[want.size :] == 7).all()
        if symbols.size and int(symbols.max()):
            with pytest.raises(Corrupt, match="UNIFORM-3"):
                backend.dequantise(grid, start, symbols, steps, zero, int(symbols.max()), its, out[: want.size])


@needs_native
@given(grids(), st.sampled_from((1, 2, 4)), st.integers(0, 2**32 - 1))
@settings(max_examples=150)
def test_quantise(window, width, seed):
    (grid, start, stop), rng = window, np.random.default_rng(seed)
    most = {1: 127, 2: 32767, 4: 2**24 - 1}[width]
    low, high = grid.span(start, stop)
    steps = np.exp(rng.standard_normal(high - low)).astype(np.float32)
    steps[rng.random(steps.size) < 0.1] = 0
    x = (rng.standard_normal(stop - start) * rng.choice([1, 100, 1e9])).astype(np.float32)
    x[rng.random(x.size) < 0.2] = rng.choice([0.5, 1.5, 2.5, -0.5])
    want = np.empty(x.size, f"u{width}")
    ORACLE.quantise(grid, start, x, steps, most, 2 * most + 1, want)
    for backend in each():
        out = np.empty_like(want)
        backend.quantise(grid, start, x, steps, most, 2 * most + 1, out)
        assert same_bits(out, want)


def every_float():
    """All that rounding can meet: every half, every pair of neighbours around one, and random bits."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    brains = (np.arange(2**16, dtype=np.uint32) << 16).view(np.float32)
    bits = np.concatenate([halves.view(np.uint32), brains.view(np.uint32)]).astype(np.int64)
    near = [bits + d for d in (-1, 0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001)]
    return np.concatenate([*near, np.random.default_rng(0).integers(0, 2**32, 10**5)]).astype(np.uint32).view(np.float32)


@needs_native
@pytest.mark.parametrize("dtype", LOSSY)
def test_rounding(dtype):
    """Every backend rounds as ml_dtypes and numpy do; NaNs stay NaNs."""
    x, its = every_float(), DTYPES[dtype]
    x = x[~np.isnan(x)]
    kinds = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    with np.errstate(over="ignore"):
        want = x.astype(kinds[dtype]).view(its.storage)
    for backend in (ORACLE, *each()):
        out = np.empty(x.size, its.storage)
        backend.round_floats(x, its, out)
        assert same_bits(out, want)
        nan = np.empty(2, its.storage)
        backend.round_floats(np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32), its, nan)
        assert np.isnan(to_float32(nan, its)).all()


@needs_native
def test_flushed_subnormals():
    """With subnormals flushed, C sets its own mode, and numpy refuses rather than decode other bits."""
    torch = pytest.importorskip("torch")
    spec = Spec.of("F32", 64)
    x = (np.arange(64, dtype=np.uint32) * 3).astype(np.uint32)
    section = CODECS["uniform"].encode(x, spec, make_env(), bits=8)
    want = decoded(section, spec, make_env())
    assert want.any()
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        assert same_bits(decoded(section, spec, make_env("native")), want)
        with pytest.raises(BackendUnavailable, match="subnormal"):
            decoded(section, spec, make_env("numpy"))
    finally:
        torch.set_flush_denormal(False)


@given(
    finite_tensors(),
    st.sampled_from(("tensor", "row", "column", "group")),
    st.sampled_from(({"bits": 5}, {"step": 0.25}, {"relative": 0.3})),
)
@settings(max_examples=60)
def test_uniform_is_as_near_as_its_step(tensor, per, option):
    spec, x = tensor
    section = CODECS["uniform"].encode(x, spec, make_env(), per=per, group=7, **option)
    check(section, spec, make_env())
    params = section.params
    got, want = (to_float32(y, spec.dtype).astype(np.float64) for y in (decoded(section, spec, make_env()), x))
    steps = decode_all(section.parts["steps"], Spec.of("F32", section_steps(section, spec)), make_env()).view(np.float32).astype(np.float64)
    rows, cols = matrix_shape(spec)
    r, c = np.divmod(np.arange(spec.count), max(cols, 1))
    at = {"row": r, "column": c, "group": r * -(-cols // 7) + c // 7}.get(params.get("per"), r * 0)
    assert (
        params.get("per", "tensor") == per and steps.size == {"tensor": 1, "row": rows, "column": cols, "group": rows * -(-cols // 7)}[per]
    )
    room = 1e-2 if spec.dtype.bits < 32 else 1e-5
    assert (np.abs(got - want) <= steps[at] * 0.5000001 + np.abs(want) * room).all()


def section_steps(section: Section, spec: Spec) -> int:
    return CODECS["uniform"].parts(section, spec)["steps"].count


def test_weighing_bits_pays():
    spec = Spec.of("F32", 300, 200)
    x = finite(3, spec)
    size, error = {}, {}
    for rdo in (0, 0.1):
        section = CODECS["uniform"].encode(x, spec, make_env(), relative=1.5, rdo=rdo)
        size[rdo] = section.parts["symbols"].parts["data"].size
        error[rdo] = np.linalg.norm(decoded(section, spec, make_env()).view(np.float32) - x.view(np.float32))
    assert size[0.1] < 0.95 * size[0] and error[0.1] < 1.05 * error[0]


def test_uniform_rules():
    section = CODECS["uniform"].encode(SAMPLE, SMALL, make_env(), bits=4)
    for bad in (np.inf, np.nan):
        steps = raw(np.array([1, bad, 1, 1, 1, 1], np.float32))
        breaks("UNIFORM-2", Section("uniform", section.params, {**section.parts, "steps": steps}), SMALL)
    breaks("UNIFORM-3", altered(section, levels=section.params["levels"] - 1), SMALL)
