"""Which backend runs the verbs."""

from __future__ import annotations

import os
import warnings
from functools import cache

from wcodec.backends.base import Backend
from wcodec.backends.native import NativeBackend, load
from wcodec.errors import BackendUnavailable

NAMES = ("numpy", "native")


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


def get_backend(name: str = "auto") -> Backend:
    """Return a backend: ``numpy``, ``native`` or the best one (``auto``, which WCODEC_BACKEND overrides).

    Raises BackendUnavailable when this machine cannot run the one asked for.
    """
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
