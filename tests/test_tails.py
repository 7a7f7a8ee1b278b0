"""Alphabets of quantised values: raw low bits, escaped tails."""

from __future__ import annotations

import numpy as np
import pytest
from battery import BACKENDS, decoded, make_env, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from wcodec.codecs import CODECS, check
from wcodec.codecs.base import stored_size
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.integers.tails import fit_tails
from wcodec.types import Spec


def spread(seed: int, count: int, sigma: float, freedom: float, shift: int = 0) -> np.ndarray:
    """Integers with tails that are the heavier the less freedom there is."""
    k = np.rint(np.random.default_rng(seed).standard_t(freedom, count) * sigma).clip(-20_000, 20_000).astype(np.int64)
    k += shift - int(k.min())
    return k.astype(np.uint8 if int(k.max()) < 256 else np.uint16)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9_000),
    st.floats(0.1, 3000),
    st.sampled_from((2.0, 5.0, 100.0)),
    st.sampled_from((0, 9, 300)),
)
@settings(max_examples=15, deadline=None)
def test_any(seed, count, sigma, freedom, shift):
    """All values come back on every backend, in hardly more than the bytes that were told."""
    x = spread(seed, count, sigma, freedom, shift)
    spec, (size, options) = Spec.of(f"U{8 * x.itemsize}", count), fit_tails(x, make_env())
    section = CODECS["rans"].encode(x, spec, make_env(), **options)
    check(section, spec, make_env())
    for name in BACKENDS:
        assert same_bits(decoded(section, spec, make_env(name)), x)
    assert stored_size(section) < 1.02 * size + 400


@pytest.mark.parametrize(("sigma", "freedom"), [(2.0, 4.0), (16.0, 4.0), (16.0, 1e9), (100.0, 5.0)])
def test_near_entropy(sigma, freedom):
    """Tails and tables together cost six parts in a thousand at most, of many symbols."""
    x = spread(1, 1 << 19, sigma, freedom)
    spec, counts = Spec.of(f"U{8 * x.itemsize}", x.size), np.bincount(x)
    entropy = -(counts[counts > 0] * np.log2(counts[counts > 0] / x.size)).sum() / 8
    cut = stored_size(smallest(x, spec, make_env(), tails=True))
    assert cut < 1.006 * entropy and cut < stored_size(smallest(x, spec, make_env()))
