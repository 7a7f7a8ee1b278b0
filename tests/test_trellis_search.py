"""The Viterbi search: the same on every instruction set, never beaten by another path; and what the encoder makes of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from battery import BACKENDS, DEVICES, decoded, make_env, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import ORACLE, each, needs_native
from strategies import finite

from wcodec.codecs import CODECS, check
from wcodec.codecs.base import stored_size
from wcodec.codecs.floats.trellis_layout import Layout, choose_layout
from wcodec.codecs.floats.trellis_model import choose
from wcodec.coding.rans import Order, branches, next_trellis_state
from wcodec.coding.trellis_search import Moments, Piece, Search
from wcodec.types import Spec

EACH = [pytest.param(name, marks=pytest.mark.cuda if "@" in name else ()) for name in DEVICES]


@st.composite
def searches(draw):
    """A search, weights to look at, and all that it may have besides."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    v, entries, classes = draw(st.integers(2, 8)), draw(st.sampled_from([1, 6, 40, 600])), draw(st.sampled_from([0, 1, 3]))
    shape = (2 * max(1, classes), entries)
    shifts = (0.3 * rng.standard_normal(shape)).astype(np.float32) if rng.integers(2) else None
    how = Search(v, -(entries // 2), (8 * rng.random(shape)).astype(np.float32), draw(st.sampled_from([0, 20, 128])), shifts)
    rows, cols = draw(st.sampled_from([(1, 1), (2, 40), (30, 5), (70, 16), (9, 131), (0, 3), (3, 0)]))
    x = (draw(st.sampled_from([0.1, 3, 300, 1e6])) * rng.standard_normal((rows, cols))).astype(np.float32)
    x[rng.random((rows, cols)) < 0.2] = np.rint(x[rng.random((rows, cols)) < 0.2].sum())  # points, and halves between them: ties
    weights = rng.random((rows, cols)).astype(np.float32) if rng.integers(2) else None
    return (
        how,
        x,
        weights,
        rng.integers(0, classes, rows).astype(np.uint8) if classes else None,
        draw(st.sampled_from([np.uint8, np.uint16])),
    )


@needs_native
@given(searches())
@settings(max_examples=120, deadline=None)
def test_search(drawn):
    how, x, weights, classes, dtype = drawn
    want, moments = np.zeros(x.shape, dtype), Moments.zeros(how.costs.shape)
    ORACLE.trellis_search(how, x, weights, classes, want, moments)
    assert int(moments.counts.sum()) == x.size
    for backend in each():
        out, found = np.full((len(x), x.shape[1] + 3), 7, dtype), Moments.zeros(how.costs.shape)
        backend.trellis_search(how, x, weights, classes, out[:, : x.shape[1]], found)
        assert np.array_equal(out[:, : x.shape[1]], want) and (out[:, x.shape[1] :] == 7).all()
        assert np.array_equal(found.counts, moments.counts) and np.array_equal(found.sums, moments.sums)


@pytest.mark.parametrize("device", EACH)
@given(drawn=searches())
@settings(max_examples=60, deadline=None)
def test_search_on_a_device(device, drawn):
    """Tensors that stand there, and pieces of the host that are searched side by side."""
    how, x, weights, classes, dtype = drawn
    want, moments = np.zeros(x.shape, dtype), Moments.zeros(how.costs.shape)
    ORACLE.trellis_search(how, x, weights, classes, want, moments)
    backend, found = make_env(device).backend, Moments.zeros(how.costs.shape)
    there = [None if its is None else torch.from_numpy(its).to(backend.device) for its in (x, weights)]
    out = backend.empty(x.size, np.dtype(dtype)).view(x.shape)
    backend.trellis_search(how, *there, classes, out, found)
    assert same_bits(backend.to_host(out), want)
    assert np.array_equal(found.counts, moments.counts) and np.array_equal(found.sums, moments.sums)
    half, outs = x.shape[1] // 2, np.full((len(x), x.shape[1] + 3), 7, dtype)
    cuts = [(0, half), (half, x.shape[1])]
    pieces = [
        Piece(np.ascontiguousarray(x[:, a:b]), None if weights is None else np.ascontiguousarray(weights[:, a:b]), classes, outs[:, a:b])
        for a, b in cuts
    ]
    again = Moments.zeros(how.costs.shape)
    backend.trellis_search_pieces(how, iter([*pieces, Piece(x[:1], None, None, np.empty((1, x.shape[1]), dtype))]), again)
    ORACLE.trellis_search(how, x[:1], None, None, np.empty((len(x[:1]), x.shape[1]), dtype), moments)
    assert np.array_equal(outs[:, : x.shape[1]], want) and (outs[:, x.shape[1] :] == 7).all()
    assert np.array_equal(again.counts, moments.counts) and np.array_equal(again.sums, moments.sums)


@pytest.mark.parametrize("v", [2, 5, 8])
def test_no_path_is_better(v):
    """Tried for all of a few steps."""
    rng = np.random.default_rng(v)
    how = Search(v, -6, (1.2 * rng.random((2, 12))).astype(np.float32), 6, (0.2 * rng.standard_normal((2, 12))).astype(np.float32))
    x = (3 * rng.standard_normal((4, 3))).astype(np.float32)
    found = np.empty(x.shape, np.uint8)
    ORACLE.trellis_search(how, x, None, None, found)
    every = np.stack(np.meshgrid(*[np.arange(12)] * 4, indexing="ij"), -1).reshape(-1, 4).T

    def costs(symbols, column):
        state, total = np.zeros(symbols.shape[1], np.intp), np.zeros(symbols.shape[1])
        for u, symbol in zip(x[:, column], symbols, strict=True):
            z0 = state & 1
            total += (u - (2 * (symbol - 6) + z0 + how.shifts[z0, symbol])) ** 2 + how.costs[z0, symbol]
            state = next_trellis_state(state, symbol & 1, v)
        return total

    for column in range(x.shape[1]):
        assert costs(found[:, column : column + 1].astype(np.intp), column)[0] <= costs(every, column).min() + 1e-4


def mixed(rows, cols, spread=1.0, seed=0):
    """Rows of different size."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, cols)) * np.exp(spread * rng.standard_normal((rows, 1)))).astype(np.float32)


def encoded(x, backend="native" if "native" in BACKENDS else "numpy", workers=1, **options):
    spec = Spec.of("F32", *x.shape)
    env = make_env(backend)
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            return CODECS["trellis"].encode(x.reshape(-1).view(np.uint32), spec, env.spread(pool.map, workers), **options)
    return CODECS["trellis"].encode(x.reshape(-1).view(np.uint32), spec, env, **options)


@pytest.mark.parametrize("device", EACH)
@pytest.mark.parametrize(
    "options",
    [{"relative": 0.5, "states": 8}, {"relative": 0.02, "classes": 3}, {"relative": 1.2, "steps": "rows"}, {"tile": "linear", "states": 4}],
)
def test_same_bytes_on_a_device(device, options):
    x, env = mixed(130, 150, 0.3), make_env(device)
    spec = Spec.of("F32", *x.shape)
    found = CODECS["trellis"].encode(env.backend.from_host(x.reshape(-1).view(np.uint32)), spec, env, **options)
    assert same(found, encoded(x, **options))


def rate_and_error(x, **options):
    """Bits per weight of all that is stored, and the mean squared error."""
    section, spec = encoded(x, **options), Spec.of("F32", *x.shape)
    check(section, spec, make_env())
    values = decoded(section, spec, make_env("native" if "native" in BACKENDS else "numpy")).view(np.float32)
    return 8 * stored_size(section) / x.size, float(np.mean((values.astype(np.float64) - x.reshape(-1)) ** 2)), section


def same(a, b):
    return a.params == b.params and all(same(a.parts[k], b.parts[k]) if hasattr(a.parts[k], "parts") else bytes(a.parts[k].data) == bytes(b.parts[k].data) for k in a.parts)  # fmt: skip  # noqa: E501


@needs_native
@pytest.mark.parametrize(
    "options",
    [{"relative": 0.5, "states": 8}, {"relative": 0.02}, {"relative": 1.2, "steps": "rows"}, {"relative": 0.004, "tile": "linear"}],
)
def test_same_bytes(options):
    """On every backend, by any number of threads."""
    x = mixed(130, 150, 0.3)
    want = encoded(x, "numpy", **options)
    assert same(encoded(x, "native", **options), want) and same(encoded(x, "native", 3, **options), want)


@needs_native
@pytest.mark.parametrize("relative", [1.2, 0.7, 0.3, 0.1, 0.03, 0.008])
def test_gap_to_the_bound(relative):
    """At all rates, with all that is stored counted; a quarter of a million weights are few."""
    x = np.random.default_rng(0).standard_normal((1024, 256)).astype(np.float32)
    for states, most in ((8, 0.11), (256, 0.08)):
        rate, error, _ = rate_and_error(x, relative=relative, states=states)
        assert rate + 0.5 * np.log2(error) < most


@needs_native
def test_classes_pay():
    x = mixed(1024, 256)
    (plain, same_error, one), (less, error, several) = (rate_and_error(x, relative=0.1, classes=most) for most in (1, 4))
    assert "classes" not in one.parts["symbols"].params and several.parts["symbols"].params["classes"] == [4, 1]
    assert less < plain - 0.1 and error < 1.05 * same_error


@needs_native
def test_points_pay_at_low_rates():
    x = np.random.default_rng(0).standard_normal((512, 256)).astype(np.float32)
    bounds = []
    for points in (False, True):
        rate, error, section = rate_and_error(x, relative=1.3, points=points)
        assert ("points" in section.params) == points
        bounds.append(rate + 0.5 * np.log2(error))
    assert bounds[1] < bounds[0] - 0.02


@needs_native
def test_importance():
    """Weights that matter more come closer."""
    x = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    importance = np.ones(x.shape, np.float32)
    importance[:, ::2] = 8
    spec = Spec.of("F32", *x.shape)
    values = decoded(encoded(x, relative=0.8, importance=importance.reshape(-1)), spec, make_env()).view(np.float32).reshape(x.shape)
    errors = np.square(values - x).mean(0)
    assert errors[::2].mean() < 0.8 * errors[1::2].mean()


def test_tails():
    """Few far weights cost little: escapes and raw bits."""
    x = np.random.default_rng(0).standard_normal((128, 256)).astype(np.float32)
    x[5, 7], x[100, 3] = 900, -2000
    rate, error, section = rate_and_error(x, relative=0.02)
    assert section.params["wide"] and section.parts["symbols"].params["outliers"] >= 2 and rate + 0.5 * np.log2(error) < 0.2


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1), (3, 200), (70, 1), (100, 100), (64, 130), (2000, 300), (7, 3, 3)])
def test_layouts_hold_every_element_once(shape):
    rows, cols = shape[0], int(np.prod(shape[1:]))
    for v in (2, 8):
        for tile in (None, "linear", (16, 128)):
            layout = choose_layout(rows, cols, v, tile)
            found = [piece.elements().ravel() for piece in layout.pieces()]
            assert np.array_equal(np.sort(np.concatenate(found)) if found else [], np.arange(rows * cols))


def test_pieces_are_trellises():
    """A layout runs its columns as the decoder does."""
    rng = np.random.default_rng(0)
    for layout in (Layout(5, 77, 3), Layout(40, 150, 3, (16, 128)), Layout(1, 9000, 3)):
        symbols = rng.integers(0, 256, layout.rows * layout.cols).astype(np.uint8)
        want = np.empty_like(symbols)
        for piece in layout.pieces():
            state = np.zeros(piece.columns, np.intp)
            for row, out in zip(piece.of(symbols), piece.of(want), strict=True):
                out[:] = state & 1
                state = next_trellis_state(state, row.astype(np.intp), 3)
        assert np.array_equal(branches(order_of_layout(layout), 3, symbols), want)


def order_of_layout(layout):
    spec = Spec.of("F32", layout.rows, layout.cols)
    x = np.zeros(spec.count, np.float32)
    section = CODECS["trellis"].encode(x.view(np.uint32), spec, make_env(), step=1.0, states=8, tile=layout.tile or "linear", classes=1)
    params = section.parts["symbols"].params
    lanes = 1 << params.get("lanes", 5)
    return Order(
        spec.count, layout.cols, lanes, block=128 * params["block"] if "block" in params else 0, tile=tuple(params.get("tile", (0, 0)))
    )


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=30, deadline=None)
def test_models(seed, wide):
    """Lengths satisfy Kraft's inequality for what has tokens, and no symbol is impossible."""
    rng = np.random.default_rng(seed)
    size = 2048 if wide else 256
    counts = rng.geometric(0.5, (2, size)) - 1
    counts[:, np.abs(np.arange(size) - size // 2) > rng.integers(2, size // 2)] = 0
    counts[0, size // 2] += int(rng.integers(1, 10**6))
    model = choose(counts.astype(np.uint64), make_env(), wide)
    assert model.lengths.shape == counts.shape and np.isfinite(model.lengths).all()
    h = np.arange(-size // 2, size // 2) >> (model.bits + 1)
    inside = (h >= model.low) & (h <= model.high)
    assert (np.exp2(-model.lengths[:, inside].astype(np.float64)).sum(1) <= 1 + 1e-6).all()
    assert model.escape or not counts[:, ~inside].any()


def test_nothing_and_zeros():
    for shape in ((0, 4), (3, 0), (64, 128)):
        x, spec = np.zeros(shape, np.float32), Spec.of("F32", *shape)
        section = CODECS["trellis"].encode(x.reshape(-1).view(np.uint32), spec, make_env())
        assert same_bits(decoded(section, spec, make_env()), x.reshape(-1).view(np.uint32))
    assert finite(1, Spec.of("F32", 3, 3)).size == 9
