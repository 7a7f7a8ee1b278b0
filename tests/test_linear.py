"""uniform, sum, lowrank, tensortrain: the battery for approximating codecs and their params; layers of sums."""

from __future__ import annotations

import numpy as np
import pytest
from battery import BACKENDS, altered, breaks, decoded, make_env, pass_battery, raw, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import finite, finite_tensors, windows

from wcodec.codecs import CODECS
from wcodec.codecs.base import exact
from wcodec.coding.numbers import LOSSY, to_float32
from wcodec.errors import EncodeError, RecipeError, UnsupportedVersion
from wcodec.types import DTYPES, MemoryStream, Section, Spec

NAMES = ("uniform", "sum", "lowrank", "tensortrain")
EXAMPLES = [pytest.param(name, options, id=f"{name}-{i}") for name in NAMES for i, options in enumerate(CODECS[name].examples)]
SMALL = Spec.of("F32", 6, 7)
SAMPLE = finite(1, SMALL)


@pytest.mark.parametrize(("codec", "options"), EXAMPLES)
@given(data=st.data())
@settings(max_examples=20)
def test_battery(codec, options, data):
    spec, x = data.draw(finite_tensors())
    pass_battery(codec, options, spec, x, data.draw(st.lists(windows(x.size), max_size=2)))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (5, 0), (0, 5), (1, 1), (9,), (2, 3, 5), (17, 19), (1,) * 64], ids=str)
@pytest.mark.parametrize("dtype", LOSSY)
def test_every_shape(dtype, shape):
    spec = Spec.of(dtype, *shape)
    x = finite(len(shape), spec)
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


def test_layers():
    """Each layer comes nearer; a reader may stop after any of them."""
    spec = Spec.of("BF16", 40, 50)
    x = finite(5, spec)
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
