"""The native backend: the topics together."""

from __future__ import annotations

import os

from wcodec.backends.base import Backend
from wcodec.backends.native.abi import open_library
from wcodec.backends.native.codebook import NativeCodebook
from wcodec.backends.native.net import NativeNet
from wcodec.backends.native.planes import NativePlanes
from wcodec.backends.native.random import NativeRandom
from wcodec.backends.native.search import NativeSearchVerbs
from wcodec.backends.native.trellis import NativeTrellis


class NativeBackend(NativeTrellis, NativeNet, NativePlanes, NativeCodebook, NativeRandom, NativeSearchVerbs, Backend):
    """C kernels; whatever they do not take goes to numpy. ``NativeTrellis`` brings those of entropy coding, masks and floats with it."""

    name = "native"


def load() -> NativeBackend:
    """Load the library; WCODEC_ISA caps its instruction set. Raises BackendUnavailable with the reason."""
    backend = NativeBackend(open_library())
    if cap := os.environ.get("WCODEC_ISA"):
        backend.set_isa(cap)
    return backend
