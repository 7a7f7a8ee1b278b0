"""The archive method: exponents by classes of rows and columns, every bit kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from battery import BACKENDS, DEVICES, make_env
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import tensors

import wcodec
from wcodec.codecs import decode
from wcodec.codecs.base import stored_size
from wcodec.codecs.floats.archive import archive
from wcodec.codecs.lossless import lossless
from wcodec.numpy import save_file
from wcodec.types import DTYPES, Section, Spec, UInts

KINDS = {"BF16": np.uint16, "F16": np.uint16, "F32": np.uint32}


def scaled(rows: int, cols: int, kind: str, seed: int = 0, zeros: bool = False) -> tuple[UInts, Spec]:
    """Gaussian weights whose rows and columns differ in scale."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, cols)) * np.exp(rng.standard_normal((rows, 1))) * np.exp(0.5 * rng.standard_normal(cols)) * 0.02
    if zeros:
        x[rng.random(x.shape) < 0.01] = 0
    values = x.astype(np.float16 if kind == "F16" else np.float32)
    found = (values.view(np.uint32) >> 16).astype(np.uint16) if kind == "BF16" else values.view(KINDS[kind])
    return found.reshape(-1), Spec(DTYPES[kind], (rows, cols))


def decoded(section: Section, spec: Spec, backend: str, start: int, stop: int) -> UInts:
    env = make_env(backend)
    out = env.backend.empty(stop - start, spec.dtype.storage)
    with env.backend.apart():
        decode(section, spec, env, start, stop, out)
    return env.backend.to_host(out)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zeros", [False, True], ids=["", "zeros"])
def test_scales_pay(kind: str, zeros: bool) -> None:
    x, spec = scaled(300, 517, kind, zeros=zeros)
    env = make_env()
    plain = lossless(x, spec, env)
    found = archive(plain, spec, env)
    assert stored_size(found) < stored_size(plain) - 0.4 * spec.count / 8  # bits of an exponent
    assert found.parts["symbol"].params["classes"]
    for backend in (*BACKENDS, *DEVICES):
        for start, stop in ((0, spec.count), (1000, 1001), (70_000, 140_001)):
            assert np.array_equal(decoded(found, spec, backend, start, stop), x[start:stop])


@given(tensors(), st.integers(0, 9))
@settings(max_examples=60)
def test_any_array_comes_back(tensor: tuple[Spec, UInts], seed: int) -> None:
    spec, x = tensor
    env = make_env()
    plain = lossless(x, spec, env)
    found = archive(plain, spec, env)
    assert stored_size(found) <= stored_size(plain)
    assert np.array_equal(decoded(found, spec, "numpy", 0, len(x)), x)


def test_nothing_to_gain_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((64, 128)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).reshape(-1)
    spec = Spec(DTYPES["BF16"], (64, 128))
    plain = lossless(x, spec, make_env())
    assert archive(plain, spec, make_env()) is plain


def test_recipe(tmp_path: Path) -> None:
    x, spec = scaled(128, 300, "F32")
    arrays = {"a.weight": x.view(np.float32).reshape(spec.shape), "a.bias": np.ones(7, np.float32), "n": np.arange(9000)}
    source = tmp_path / "model.wcodec"
    save_file(arrays, source)
    wcodec.decode(source, tmp_path / "model.safetensors")
    report = wcodec.encode(tmp_path / "model.safetensors", tmp_path / "small.wcodec", recipe="archive")
    assert report.lossless and not any(row.why for row in report.tensors)
    assert (tmp_path / "small.wcodec").stat().st_size < source.stat().st_size
    wcodec.decode(tmp_path / "small.wcodec", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
