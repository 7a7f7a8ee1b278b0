"""lowrank and tensortrain: stated error bounds, rules, and the factorings that encoders use."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from battery import BACKENDS, altered, breaks, decoded, make_env, raw, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import finite

from wcodec.codecs import CODECS, check
from wcodec.codecs.factors.factoring import balanced_svd, bond_limits, choose_rank, factorise, spectrum, train_size, tt_svd
from wcodec.coding.numbers import LOSSY, to_float32
from wcodec.types import MemoryStream, Ref, Resource, Section, Spec

SMALL = Spec.of("F32", 6, 7)
SAMPLE = finite(1, SMALL)


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
    monkeypatch.setattr("wcodec.codecs.factors.factoring.EXACT", 16)
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
