"""Which backend runs the verbs."""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib import import_module

from wcodec.backends.base import Backend
from wcodec.backends.native import NativeBackend, load
from wcodec.errors import BackendUnavailable

NAMES = ("numpy", "native", "torch", "triton")


@cache
def _numpy() -> Backend:
    return Backend()


@cache
def _native() -> NativeBackend | BackendUnavailable:
    """Load the native backend, or tell why there is none; a failure stays one until the process ends."""
    try:
        return load()
    except BackendUnavailable as reason:
        return reason


@cache
def _best() -> Backend:
    native = _native()
    if isinstance(native, NativeBackend):
        return native
    warnings.warn(f"wcodec runs on numpy, which is much slower: {native}", RuntimeWarning, stacklevel=3)
    return _numpy()


@cache
def _on_device(name: str, device: str) -> Backend:
    """Load a backend of tensors, which alone imports torch."""
    try:
        made: Backend = import_module(f"wcodec.backends.{name}").load(device, _native_or_numpy())
    except ImportError as error:
        raise BackendUnavailable(f"the {name} backend needs {error.name or name}, which is not installed") from None
    return made


def best_on(device: str) -> Backend:
    """Return the best backend of a device, proved or not. Raises BackendUnavailable."""
    try:
        return _on_device("triton" if device.startswith("cuda") else "torch", device)
    except BackendUnavailable:
        return _on_device("torch", device)


@cache
def for_device(device: str) -> Backend:
    """Return the best backend of a device that is not the cpu, once it has proved here that it computes what numpy does.

    Raises BackendUnavailable with the reason why there is none; it stays one until the process ends.
    """
    reasons = []
    for name in ("triton", "torch") if device.startswith("cuda") else ("torch",):
        try:
            backend = _on_device(name, device)
        except BackendUnavailable as reason:
            reasons.append(reason.message)
            continue
        wrong = import_module("wcodec.backends.torch.proof").prove(backend)
        if wrong is None:
            return backend
        reasons.append(f"{name}: {wrong}")
    raise BackendUnavailable("; ".join(reasons))


def _native_or_numpy() -> Backend:
    native = _native()
    return native if isinstance(native, NativeBackend) else _numpy()


def get_backend(name: str = "auto", device: str = "cpu") -> Backend:
    """Return a backend: ``numpy``, ``native`` or the best one (``auto``, which WCODEC_BACKEND overrides); ``torch`` or ``triton``.

    device: of the tensors that the last two work on. Raises BackendUnavailable when this machine cannot run the one asked for.
    """
    if name in ("torch", "triton"):
        return _on_device(name, device)
    if name == "auto":
        name = os.environ.get("WCODEC_BACKEND") or "auto"
    if name == "auto":
        return _best()
    if name == "numpy":
        return _numpy()
    if name != "native":
        raise BackendUnavailable(f"no backend {name!r}: there are {', '.join(NAMES)}")
    native = _native()
    if isinstance(native, NativeBackend):
        return native
    raise BackendUnavailable(native.message, at=native.at)


def available() -> list[str]:
    """Return the names of the backends that run here, best first."""
    return ["native", "numpy"] if isinstance(_native(), NativeBackend) else ["numpy"]
