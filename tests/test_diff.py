"""Comparing tolerant tensors: by their parts, or within the bounds that the pages of their codecs state."""

from __future__ import annotations

import json

import numpy as np
import pytest
from battery import BACKENDS, decoded, make_env
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import wcodec
from wcodec import sections as s
from wcodec.api.tolerance import within
from wcodec.cli import main
from wcodec.codecs import CODECS
from wcodec.codecs.base import bound
from wcodec.codecs.factors.factoring import bond_limits, factorise
from wcodec.coding.numbers import LOSSY, from_float32, to_float32
from wcodec.types import DTYPES, Spec

RNG = np.random.default_rng(0)
LEFT, RIGHT = RNG.standard_normal((40, 9)).astype(np.float32), RNG.standard_normal((9, 50)).astype(np.float32)


def normal(rng, *shape):
    return (rng.standard_normal(shape) * np.exp(rng.standard_normal(shape) * 2)).astype(np.float32)


def wide(x, dtype):
    return x.view("<f8") if dtype == "F64" else to_float32(x, DTYPES[dtype]).astype(np.float64)


@given(st.integers(1, 20), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=40, deadline=None)
def test_bound_of_lowrank(rows, cols, rank, seed, data):
    """Every backend's product lies within the bound of the exact one, in any window; the bound is the page's, and no wider."""
    rng, rank = np.random.default_rng(seed), min(rank, cols)
    left, right = normal(rng, rows, rank), normal(rng, rank, cols)
    coded = s.lowrank(left, s.share(right))
    value = (left.astype(np.float64) @ right).reshape(-1)
    start = data.draw(st.integers(0, value.size - 1))
    stop = data.draw(st.integers(start, value.size))
    allowed = bound(coded.section, coded.spec, make_env(), start, stop)
    gamma = rank * 2.0**-24 / (1 - rank * 2.0**-24)
    page = gamma * (np.abs(left).astype(np.float64) @ np.abs(right)).reshape(-1)[start:stop] + rank * 2.0**-149
    assert allowed.shape == (stop - start,) and np.allclose(allowed, page, rtol=1e-8)
    for name in BACKENDS:
        found = decoded(coded.section, coded.spec, make_env(name), start, stop).view(np.float32)
        assert (np.abs(found - value[start:stop]) <= allowed).all()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=40, deadline=None)
def test_bound_of_tensortrain(rows, cols, sites, bond, seed, data):
    rng = np.random.default_rng(seed)
    o, i = factorise(rows, sites), factorise(cols, sites)
    bonds = [min(bond, most) for most in bond_limits(o, i)]
    cores = [normal(rng, *shape) for shape in zip((1, *bonds), o, i, (*bonds, 1), strict=True)]
    coded = s.tensortrain(cores, (rows, cols))
    start = data.draw(st.integers(0, rows * cols - 1))
    stop = data.draw(st.integers(start, rows * cols))
    allowed = bound(coded.section, coded.spec, make_env(), start, stop)
    size, value = (
        train([f(core.astype(np.float64)) for core in cores])[:rows, :cols].reshape(-1)[start:stop] for f in (np.abs, np.asarray)
    )
    page = sum(bonds) * 2.0**-24 / (1 - sum(bonds) * 2.0**-24) * size
    assert (allowed >= page).all() and (bonds == [] or (allowed <= page * (1 + 1e-6) + 1e-30).all())
    found = decoded(coded.section, coded.spec, make_env(), start, stop).view(np.float32)
    assert (np.abs(found - value) <= allowed + 1e-15 * size).all()


def train(cores):
    found = cores[0]
    for core in cores[1:]:
        found = np.einsum("aijb,bklc->aikjlc", found, core)
        a, i, k, j, n, c = found.shape
        found = found.reshape(a, i * k, j * n, c)
    return found[0, :, :, 0]


def test_bounds_of_what_contains_products():
    """Sums, joins and fills hand on the bounds of their parts; what is exact has none."""
    env, product = make_env(), s.lowrank(LEFT, RIGHT)
    its = bound(product.section, product.spec, env, 0, 2000)
    joined = s.concat([product, np.ones((3, 50), np.float32), product])
    assert np.array_equal(bound(joined.section, joined.spec, env, 50, 4100), np.concatenate([its[50:], np.zeros(150), its[:1950]]))
    mask = RNG.random((40, 50)) < 0.3
    filled = s.sparse(mask, np.ones(int(mask.sum()), np.float32), fill=product)
    assert np.array_equal(bound(filled.section, filled.spec, env, 7, 1999), np.where(mask.reshape(-1), 0, its)[7:1999])
    layered = s.sum([product, np.full((40, 50), 2.0, np.float32)])
    more = bound(layered.section, layered.spec, env, 3, 1000)
    value = decoded(product.section, product.spec, env).view(np.float32)[3:1000].astype(np.float64)
    page = its[3:1000] + 2.0**-24 * (np.abs(value) + np.abs(value + 2))
    assert (more >= page * (1 - 1e-9)).all() and (more <= page * 1.001).all()
    plain = s.lossless(LEFT)
    assert not bound(plain.section, plain.spec, env, 0, 360).any()


def test_bounds_of_factors_that_are_products():
    env = make_env()
    inner = s.lowrank(LEFT, RNG.standard_normal((9, 9)).astype(np.float32))
    nested, plain = s.lowrank(inner, RIGHT), s.lowrank(decoded(inner.section, inner.spec, env).view(np.float32).reshape(40, 9), RIGHT)
    more, its = (bound(coded.section, coded.spec, env, 0, 2000) for coded in (nested, plain))
    moved = bound(inner.section, inner.spec, env, 0, 360).reshape(40, 9) @ np.abs(RIGHT).astype(np.float64)
    assert np.allclose(more, its + moved.reshape(-1), rtol=1e-4) and (more > its).all()


def test_bounds_that_no_page_states():
    """Where binary32 overflows, nothing is stated: then only equal bits are the same."""
    huge = s.lowrank(np.full((2, 2), 3e38, np.float32), np.full((2, 2), 2, np.float32))
    allowed = bound(huge.section, huge.spec, make_env(), 0, 4)
    x = np.full(4, np.inf, np.float32).view(np.uint32)
    assert np.isinf(allowed).all() and within(x, x, DTYPES["F32"], allowed)
    assert not within(x, np.ones(4, np.float32).view(np.uint32), DTYPES["F32"], allowed)


@pytest.mark.parametrize("dtype", LOSSY)
def test_within(dtype):
    """Values as near as allowed round to the same or the next number; further ones do not pass."""
    kind = DTYPES[dtype]
    rng = np.random.default_rng(1)
    exact = (rng.standard_normal(4000) * np.exp(rng.standard_normal(4000) * 4)).astype(np.float32)
    allowed = np.abs(exact.astype(np.float64)) * 2.0**-20
    with np.errstate(over="ignore"):
        x = from_float32((exact + allowed / 2).astype(np.float32), kind)
        y = from_float32((exact - allowed / 2 * 0.9).astype(np.float32), kind)
    assert within(x, y, kind, allowed) and within(x, x, kind, np.zeros(4000))
    far = from_float32((exact * np.float32(1.02)).astype(np.float32), kind)
    assert not any(within(far[i : i + 1], x[i : i + 1], kind, allowed[i : i + 1]) for i in range(100))
    top = {"F16": 65519.0, "BF16": 3.394e38}.get(dtype)
    if top is not None:  # one side overflows, the other one does not
        pair = [from_float32(np.array([v], np.float32), kind) for v in (top * (1 - 1e-4), top * (1 + 1e-3))]
        assert np.isinf(wide(pair[1], dtype)).all() and np.isfinite(wide(pair[0], dtype)).all()
        assert within(*pair, kind, np.array([top * 2e-3]))


def write(path, **tensors):
    with wcodec.Writer(path) as file:
        for name, tensor in tensors.items():
            file.add(name, tensor)


@pytest.mark.parametrize("dtype", LOSSY)
def test_diff(tmp_path, dtype, capsys):
    """A decoded copy from a machine that sums in another order is the same; one of other factors is not."""
    product = s.lowrank(LEFT, RIGHT, dtype=dtype)
    write(tmp_path / "a.wcodec", w=product, b=s.lossless(LEFT))
    write(tmp_path / "b.wcodec", w=product, b=s.lossless(LEFT))
    report = wcodec.diff(tmp_path / "a.wcodec", tmp_path / "b.wcodec")
    assert report.same and report.parts == ["w"] and not report.within and report.same_count == 2
    wcodec.decode(tmp_path / "a.wcodec", tmp_path / "c.safetensors")
    assert wcodec.diff(tmp_path / "a.wcodec", tmp_path / "c.safetensors").within == []

    order = np.random.default_rng(2).permutation(9)
    write(tmp_path / "other.wcodec", w=s.lowrank(LEFT[:, order], RIGHT[order], dtype=dtype), b=s.lossless(LEFT))
    exact = LEFT.astype(np.float64) @ RIGHT
    moved = exact + 0.9 * bound(product.section, product.spec, make_env(), 0, 2000).reshape(40, 50)
    x = from_float32(moved.astype(np.float32).reshape(-1), DTYPES[dtype])
    spec = Spec.of(dtype, 40, 50)
    write(tmp_path / "near.wcodec", w=s.Coded(spec, CODECS["raw"].encode(x, spec, make_env())), b=s.lossless(LEFT))
    for path in ("other.wcodec", "near.wcodec"):
        for pair in ((tmp_path / "a.wcodec", tmp_path / path), (tmp_path / path, tmp_path / "a.wcodec")):
            report = wcodec.diff(*pair)
            assert report.same and not report.parts and report.within in ([], ["w"])
    if dtype == "F32":
        assert report.within == ["w"]
        assert main(["diff", str(tmp_path / "a.wcodec"), str(tmp_path / "near.wcodec")]) == 0
        out = capsys.readouterr().out
        assert out == "the same within the bound of its codec: w\nsame: 2 tensors, 1 bit for bit, 1 within the bounds of their codecs\n"
        assert main(["diff", str(tmp_path / "a.wcodec"), str(tmp_path / "b.wcodec"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["parts"] == ["w"]

    bad = LEFT.copy()
    bad[5, 3] *= np.float32(1.1)
    write(tmp_path / "bad.wcodec", w=s.lowrank(bad, RIGHT, dtype=dtype), b=s.lossless(LEFT))
    report = wcodec.diff(tmp_path / "a.wcodec", tmp_path / "bad.wcodec")
    assert report.values == ["w"] and not report.same and not report.within and report.same_count == 1


def test_exact_tensors_have_no_room(tmp_path):
    one = np.ones((4, 4), np.float32)
    save_file({"w": one}, tmp_path / "a.safetensors")
    write(tmp_path / "b.wcodec", w=s.lossless(np.nextafter(one, np.float32(2))))
    assert wcodec.diff(tmp_path / "a.safetensors", tmp_path / "b.wcodec").values == ["w"]


def test_equal_digests_of_other_parts(tmp_path):
    """Parts whose bytes only run together to the same ones are not the same parts."""
    numbers = np.arange(1, 13, dtype=np.float32)
    write(tmp_path / "a.wcodec", w=s.lowrank(numbers[:6].reshape(3, 2), numbers[6:].reshape(2, 3)))
    write(tmp_path / "b.wcodec", w=s.lowrank(numbers[:6].reshape(3, 2), numbers[6:].reshape(2, 3), shape=(3, 3)))
    assert wcodec.diff(tmp_path / "a.wcodec", tmp_path / "b.wcodec").parts == ["w"]
    cores = [numbers[:4].reshape(1, 2, 2, 1), numbers[4:8].reshape(1, 2, 2, 1)]
    write(tmp_path / "c.wcodec", w=s.tensortrain(cores, (4, 4)))
    write(tmp_path / "d.wcodec", w=s.tensortrain([numbers[:4].reshape(1, 4, 1, 1), numbers[4:8].reshape(1, 1, 4, 1)], (4, 4)))
    assert wcodec.diff(tmp_path / "c.wcodec", tmp_path / "d.wcodec").values == ["w"]
