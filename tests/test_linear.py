"""uniform, sum, lowrank, tensortrain: the battery for approximating codecs, their rules, rounding bit for bit, and stated error bounds."""

from __future__ import annotations

from math import prod

import ml_dtypes
import numpy as np
import pytest
from battery import BACKENDS, breaks, decoded, make_env, pass_battery, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import specs, windows
from test_backends import ORACLE, each, needs_native

from wcodec.codecs import CODECS, check, decode_all
from wcodec.codecs.base import exact
from wcodec.codecs.factoring import balanced_svd, bond_limits, choose_rank, factorise, spectrum, train_size, tt_svd
from wcodec.codecs.matrix import matrix_shape
from wcodec.coding.numbers import LOSSY, from_float32, to_float32
from wcodec.coding.uniform import Grid
from wcodec.errors import BackendUnavailable, Corrupt, EncodeError, RecipeError, UnsupportedVersion
from wcodec.types import DTYPES, MemoryStream, Ref, Resource, Section, Spec

NAMES = ("uniform", "sum", "lowrank", "tensortrain")
EXAMPLES = [pytest.param(name, options, id=f"{name}-{i}") for name in NAMES for i, options in enumerate(CODECS[name].examples)]
SMALL = Spec.of("F32", 6, 7)


def raw(x) -> Section:
    return Section("raw", {}, {"data": MemoryStream(np.ascontiguousarray(x).reshape(-1).view(np.uint8))})


def values(seed: int, spec: Spec, scale: float = 1.0):
    """Storage elements of Gaussian weights with exact zeros among them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(spec.count).astype(np.float32) * np.float32(scale)
    x[rng.random(spec.count) < 0.1] = 0
    return from_float32(x, spec.dtype)


@st.composite
def floats(draw: st.DrawFn):
    spec = draw(specs(LOSSY))
    return spec, values(draw(st.integers(0, 2**32 - 1)), spec, draw(st.sampled_from((1.0, 1e-3, 50.0, 0.0))))


SAMPLE = values(1, SMALL)


@pytest.mark.parametrize(("codec", "options"), EXAMPLES)
@given(data=st.data())
@settings(max_examples=20)
def test_battery(codec, options, data):
    spec, x = data.draw(floats())
    pass_battery(codec, options, spec, x, data.draw(st.lists(windows(x.size), max_size=2)))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5, 0), (0, 5), (1, 1), (9,), (2, 3, 5), (17, 19), (1,) * 64], ids=str)
@pytest.mark.parametrize("dtype", LOSSY)
def test_every_shape(dtype, shape):
    spec = Spec.of(dtype, *shape)
    x = values(len(shape), spec)
    for name in NAMES:
        for options in CODECS[name].examples:
            pass_battery(name, options, spec, x, [(x.size // 3, x.size // 2)])


@pytest.mark.parametrize(("codec", "options"), EXAMPLES)
def test_params_and_parts(codec, options):
    good = CODECS[codec].encode(SAMPLE, SMALL, make_env(), **options)
    want = decoded(good, SMALL, make_env())
    assert same_bits(decoded(altered(good, requires=list(good.params), later=1), SMALL, make_env()), want)
    breaks("C-10", altered(good, requires=["later"], later=1), SMALL, UnsupportedVersion)
    stream = MemoryStream(np.zeros(1, np.uint8))
    breaks("C-20", Section(codec, good.params, {**good.parts, "more": stream}), SMALL)
    for name in good.parts:
        breaks("C-20", Section(codec, good.params, {key: part for key, part in good.parts.items() if key != name}), SMALL)
        breaks("C-20", Section(codec, good.params, {**good.parts, name: stream}), SMALL)


def altered(section: Section, **params) -> Section:
    kept = {key: value for key, value in {**section.params, **params}.items() if value is not None}
    return Section(section.codec, kept, section.parts)


BAD_PARAMS = {
    "uniform": [
        {"levels": None}, {"levels": 0}, {"levels": True}, {"levels": 2**25}, {"zero": None}, {"zero": -1}, {"zero": 2**24},
        {"per": "tensor"}, {"per": "rows"}, {"per": 3}, {"per": "group"}, {"group": 4}, {"per": "group", "group": 0},
        {"per": "group", "group": 2**32},
    ],
    "sum": [{"layers": None}, {"layers": 0}, {"layers": 257}, {"layers": "2"}, {"tolerant": False}, {"tolerant": 1}],
    "lowrank": [{"rank": None}, {"rank": 0}, {"rank": 8}, {"rank": True}],
    "tensortrain": [{"rows": None}, {"rows": []}, {"rows": [6]}, {"columns": [2, 2, 0]}, {"bonds": [1]}, {"bonds": [1, "1"]}, {"bonds": 3}],
}  # fmt: skip


@pytest.mark.parametrize("codec", BAD_PARAMS)
def test_params_out_of_range(codec):
    section = CODECS[codec].encode(SAMPLE, SMALL, make_env())
    for params in BAD_PARAMS[codec]:
        breaks(f"{codec.upper()}-1", altered(section, **params), SMALL)
    breaks(f"{codec.upper()}-1", section, Spec.of("I32", 6, 7))
    for dtype in sorted(DTYPES.keys() - set(LOSSY)):
        with pytest.raises(EncodeError, match=codec):
            CODECS[codec].encode(np.zeros(Spec.of(dtype, 8).count, DTYPES[dtype].storage), Spec.of(dtype, 8), make_env())
    for bad in (np.inf, -np.inf, np.nan):
        x = SAMPLE.copy().view(np.float32)
        x[3] = bad
        with pytest.raises(EncodeError, match="finite"):
            CODECS[codec].encode(x.view(np.uint32), SMALL, make_env())
    with pytest.raises(EncodeError, match="float32"):
        CODECS[codec].encode(np.array([1e300]).view(np.uint64), Spec.of("F64", 1), make_env())


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("uniform", {"bits": 1}), ("uniform", {"bits": 17}), ("uniform", {"step": 0.0}), ("uniform", {"step": -1.0}),
        ("uniform", {"step": 1e-9}),
        ("uniform", {"step": 1.0, "bits": 4}), ("uniform", {"per": "cell"}), ("uniform", {"per": "group", "group": 0}),
        ("uniform", {"relative": float("nan")}), ("sum", {"layers": []}), ("sum", {"layers": [{"codec": "no"}]}), ("lowrank", {"rank": 0}),
        ("lowrank", {"keep": 1.5}), ("lowrank", {"keep": 0.5, "rank": 2}), ("tensortrain", {"bond": 0}), ("tensortrain", {"sites": 0}),
        ("tensortrain", {"bond": 2, "error": 0.1}), ("tensortrain", {"rows": (9, 9), "columns": (2, 4)}),
    ],
)  # fmt: skip
def test_options_that_make_no_sense(codec, options):
    with pytest.raises((EncodeError, RecipeError)):
        CODECS[codec].encode(SAMPLE, SMALL, make_env(), **options)


# uniform


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


@given(floats(), st.sampled_from(("tensor", "row", "column", "group")), st.sampled_from(({"bits": 5}, {"step": 0.25}, {"relative": 0.3})))
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
    x = values(3, spec)
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


# sum


def test_layers():
    """Each layer comes nearer; a reader may stop after any of them."""
    spec = Spec.of("BF16", 40, 50)
    x = values(5, spec)
    layers = [{"codec": "uniform", "relative": r} for r in (2.0, 0.5, 0.1)] + [None]
    section = CODECS["sum"].encode(x, spec, make_env(), layers=layers)
    errors = []
    for count in (0, 1, 2, 3, 4, 9, None):
        found = {name: decoded(section, spec, make_env(name, layers=count)) for name in BACKENDS}
        assert len({y.tobytes() for y in found.values()}) == 1
        errors.append(float(np.abs(to_float32(found["numpy"], spec.dtype) - to_float32(x, spec.dtype)).max()))
    assert errors[0] == errors[1] > errors[2] > errors[3] > errors[4] == errors[5] == errors[6] == 0
    part = decoded(section, spec, make_env(layers=1), 13, 700)
    assert same_bits(part, decoded(section, spec, make_env(layers=1))[13:700])


def test_sum_rules():
    one, tiny = np.ones(42, np.float32), np.zeros(42, np.float32)
    good = Section("sum", {"layers": 2}, {"0": raw(one), "1": raw(tiny)})
    assert same_bits(decoded(good, SMALL, make_env()), one.view(np.uint32))
    for bad in (np.inf, -np.inf, np.nan):
        tiny = np.zeros(42, np.float32)
        tiny[-1] = bad
        breaks("SUM-2", Section("sum", {"layers": 2}, {"0": raw(one), "1": raw(tiny)}), SMALL)
    product = CODECS["lowrank"].encode(SAMPLE, SMALL, make_env(), rank=2)
    mixed = CODECS["sum"].encode(SAMPLE, SMALL, make_env(), layers=[{"codec": "lowrank", "rank": 2}, {"codec": "uniform", "bits": 4}])
    assert mixed.params["tolerant"] is True and not exact(mixed, make_env()) and exact(good, make_env())
    breaks("SUM-3", altered(good, tolerant=True), SMALL)
    breaks("SUM-3", Section("sum", {"layers": 1}, {"0": product}), SMALL)
    large = np.full(42, 3e38, np.float32)
    overflowing = Section("sum", {"layers": 2}, {"0": raw(large), "1": raw(large)})
    for name in BACKENDS:
        assert np.isinf(decoded(overflowing, SMALL, make_env(name)).view(np.float32)).all()


# lowrank


def bound_of_rounding(value, dtype: str):
    half = {"F64": 0.0, "F32": 0.0, "F16": 2.0**-11, "BF16": 2.0**-8}[dtype]
    return np.abs(value) * half + 2.0**-25 * (dtype == "F16")


@given(st.integers(1, 20), st.integers(1, 40), st.integers(1, 40), st.sampled_from(LOSSY), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_lowrank_keeps_its_bound(rows, cols, rank, dtype, seed):
    rng, spec = np.random.default_rng(seed), Spec.of(dtype, rows, cols)
    rank = min(rank, cols)
    left = (rng.standard_normal((rows, rank)) * np.exp(rng.standard_normal((rows, rank)) * 3)).astype(np.float32)
    right = rng.standard_normal((rank, cols)).astype(np.float32)
    section = Section("lowrank", {"rank": rank}, {"left": raw(left), "right": Resource(Spec.of("F32", rank, cols), raw(right))})
    exact_product = left.astype(np.float64) @ right.astype(np.float64)
    gamma = rank * 2.0**-24 / (1 - rank * 2.0**-24)
    allowed = gamma * (np.abs(left).astype(np.float64) @ np.abs(right).astype(np.float64)) + rank * 2.0**-149
    allowed += bound_of_rounding(exact_product, dtype) * 1.001 + 1e-15 * np.abs(exact_product)
    for name in BACKENDS:
        check(section, spec, make_env(name))
        with np.errstate(over="ignore"):
            found = decoded(section, spec, make_env(name))
        value = (found.view(np.float64) if dtype == "F64" else to_float32(found, spec.dtype).astype(np.float64)).reshape(rows, cols)
        assert (np.abs(value - exact_product) <= allowed)[np.isfinite(value)].all() and (np.isfinite(value).all() or dtype == "F16")


def test_lowrank_of_integers_is_exact():
    rng, spec = np.random.default_rng(0), Spec.of("F32", 50, 70)
    left, right = rng.integers(-90, 90, (50, 33)), rng.integers(-90, 90, (33, 70))
    section = Section("lowrank", {"rank": 33}, {"left": raw(left.astype(np.float32)), "right": raw(right.astype(np.float32))})
    want = (left @ right).astype(np.float32).reshape(-1).view(np.uint32)
    for name in BACKENDS:
        for start, stop in ((0, 3500), (70, 140), (71, 139), (3499, 3500), (0, 0)):
            assert same_bits(decoded(section, spec, make_env(name), start, stop), want[start:stop])


def test_lowrank_reads_the_rows_it_needs():
    spec = Spec.of("F32", 1000, 64)

    class Watched(MemoryStream):
        def read(self, start, stop):
            touched.append(stop - start)
            return MemoryStream.read(self, start, stop)

    left, right = np.ones((1000, 4), np.float32), np.ones((4, 64), np.float32)
    touched: list[int] = []
    watched = Section("raw", {}, {"data": Watched(left.reshape(-1).view(np.uint8))})
    section = Section("lowrank", {"rank": 4}, {"left": watched, "right": raw(right)})
    decoded(section, spec, make_env(), 640, 704)
    assert touched == [16]


def test_factors_must_be_finite():
    ones = np.ones(42, np.float32)
    bad = ones.copy()
    bad[5] = np.nan
    for left, right in ((bad, ones[:7]), (ones, bad[:7])):
        breaks("LOWRANK-2", Section("lowrank", {"rank": 1}, {"left": raw(left[:6]), "right": raw(right)}), SMALL)
    breaks(
        "C-23",
        Section("lowrank", {"rank": 1}, {"left": raw(ones[:6]), "right": Ref(0)}),
        SMALL,
        resource=lambda i: Resource(SMALL, raw(ones)),
    )
    train = CODECS["tensortrain"].encode(SAMPLE, SMALL, make_env(), bond=1)
    size = CODECS["tensortrain"].parts(train, SMALL)["0"].count
    breaks("TENSORTRAIN-3", Section("tensortrain", train.params, {**train.parts, "0": raw(np.full(size, np.inf, np.float32))}), SMALL)


# tensortrain


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_tensortrain_keeps_its_bound(rows, cols, sites, bond, seed):
    rng, spec = np.random.default_rng(seed), Spec.of("F32", rows, cols)
    o, i = factorise(rows, sites), factorise(cols, sites)
    bonds = [min(bond, most) for most in bond_limits(o, i)]
    cores = [rng.standard_normal(shape).astype(np.float32) for shape in zip((1, *bonds), o, i, (*bonds, 1), strict=True)]
    section = Section(
        "tensortrain", {"rows": list(o), "columns": list(i), "bonds": bonds}, {str(n): raw(core) for n, core in enumerate(cores)}
    )
    m = sum(bonds)
    want, size = (contracted([f(core.astype(np.float64)) for core in cores])[:rows, :cols] for f in (np.asarray, np.abs))
    for name in BACKENDS:
        check(section, spec, make_env(name))
        value = decoded(section, spec, make_env(name)).view(np.float32).reshape(rows, cols)
        assert (np.abs(value - want) <= m * 2.0**-24 / (1 - m * 2.0**-24) * size + 1e-15 * size).all()
        at, end = spec.count // 3, spec.count // 2
        part = decoded(section, spec, make_env(name), at, end).view(np.float32)
        assert np.allclose(part, value.reshape(-1)[at:end], rtol=1e-4, atol=1e-5)


def contracted(cores):
    """The matrix of a train by its definition: one matrix product per element."""
    o, i = [core.shape[1] for core in cores], [core.shape[2] for core in cores]
    found = np.empty((prod(o), prod(i)))
    for r, row in enumerate(np.ndindex(*o)):
        for c, column in enumerate(np.ndindex(*i)):
            product = np.ones((1, 1))
            for core, a, b in zip(cores, row, column, strict=True):
                product = product @ core[:, a, b, :]
            found[r, c] = product[0, 0]
    return found


def test_tensortrain_rules():
    good = CODECS["tensortrain"].encode(SAMPLE, SMALL, make_env(), bond=2)
    assert good.params["rows"] == list(factorise(6, 3))
    for rows in ([1, 2, 2], [2, 2, 4], [2**31, 2, 2]):
        breaks("TENSORTRAIN-2", altered(good, rows=rows), SMALL)
    breaks("TENSORTRAIN-2", altered(good, columns=[1, 1, 6]), SMALL)
    breaks("TENSORTRAIN-2", altered(good, bonds=[2, 99]), SMALL)


# factoring


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (40, 40), (1, 9), (9, 1)])
def test_balanced_svd(shape):
    w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    s = np.linalg.svd(w.astype(np.float64), compute_uv=False)
    assert np.allclose(spectrum(w)[: s.size], s**2, rtol=1e-6, atol=1e-9)
    for rank in {1, min(shape) // 2 or 1, min(shape)}:
        left, right = balanced_svd(w, rank)
        assert left.shape == (shape[0], rank) and right.shape == (rank, shape[1])
        assert np.allclose(np.linalg.norm(w - left @ right), np.sqrt((s[rank:] ** 2).sum()), rtol=1e-4, atol=1e-5)
        assert np.allclose(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1), rtol=1e-4)
    left, right = balanced_svd(np.zeros(shape, np.float32), 1)
    assert not left.any() and not right.any()


@pytest.mark.parametrize("decay", [0.0, 0.5, 2.0])
def test_subspace_iteration_is_within_one_percent(decay, monkeypatch):
    monkeypatch.setattr("wcodec.codecs.factoring.EXACT", 16)
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((420, 300)) * np.arange(1, 301) ** -decay @ rng.standard_normal((300, 300))).astype(np.float32)
    s = np.linalg.svd(w.astype(np.float64), compute_uv=False)
    for rank in (10, 80, 200):
        left, right = balanced_svd(w, rank)
        assert np.linalg.norm(w - left @ right) <= 1.01 * np.sqrt((s[rank:] ** 2).sum())
        flipped = balanced_svd(np.ascontiguousarray(w.T), rank)
        assert np.linalg.norm(w.T - flipped[0] @ flipped[1]) <= 1.01 * np.sqrt((s[rank:] ** 2).sum())


def test_choose_rank():
    assert choose_rank(2 * 4096, 4096, None, keep=0.8) == 2184  # Q and K of LLaMA-7B
    assert choose_rank(4096, 4096, None, keep=0.8) == 1638
    assert choose_rank(2 * 11008, 4096, None, keep=0.8) == 2762
    squares = np.array([4.0, 3.0, 2.0, 1.0])
    assert [choose_rank(9, 4, squares, energy=e) for e in (0.1, 0.4, 0.41, 0.7, 0.9, 1.0)] == [1, 1, 2, 2, 3, 4]
    assert [choose_rank(9, 4, squares, error=e) for e in (1.0, 0.6**0.5, 0.3**0.5, 0.1)] == [1, 1, 2, 4]
    assert choose_rank(9, 4, None, rank=99) == 4 and choose_rank(9, 4, None, keep=0.01) == 1


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_factorise(number, sites):
    found = factorise(number, sites)
    assert len(found) == sites and max(1, number) <= prod(found) <= 2 * max(1, number)


def test_factorise_known():
    assert factorise(216, 3) == (6, 6, 6) and factorise(4096, 3) == (16, 16, 16) and factorise(7, 1) == (7,)
    assert train_size((6, 6, 6), (6, 6, 6), 10) == 36 * 10 + 36 * 100 + 36 * 10  # CompactifAI's count


@pytest.mark.parametrize("shape", [(12, 18), (13, 7), (1, 30), (30, 1), (2, 2)])
@pytest.mark.parametrize("sites", [1, 2, 3])
def test_tt_svd(shape, sites):
    w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    o, i = factorise(shape[0], sites), factorise(shape[1], sites)
    for error in (0.0, 0.3, 0.8):
        found = contracted([core.astype(np.float64) for core in tt_svd(w, o, i, None, error)])
        assert np.linalg.norm(found[: shape[0], : shape[1]] - w) <= (error + 1e-5) * np.linalg.norm(w)
    cores = tt_svd(w, o, i, 2, None)
    assert all(core.shape[3] <= 2 for core in cores) and sum(core.size for core in cores) <= train_size(o, i, 2)
