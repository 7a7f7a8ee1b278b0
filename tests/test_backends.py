"""Which backend runs, how the native one loads, and what it leaves to numpy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels import (
    NATIVE,
    each,
    needs_native,
)

from wcodec.backends import Planes, available, choose, get_backend, native
from wcodec.backends.native import abi
from wcodec.errors import BackendUnavailable


@needs_native
@given(st.integers(0, 3), st.binary(max_size=64))
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
    monkeypatch.setattr(abi, "ABI", abi.ABI + 1)
    with pytest.raises(BackendUnavailable, match="stale"):
        native.load()
    monkeypatch.undo()
    (tmp_path / "_wcodec.so").write_bytes(b"no library")
    monkeypatch.setattr(abi, "_candidates", lambda: iter([tmp_path / "_wcodec.so"]))
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
