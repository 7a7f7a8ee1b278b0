"""Backends: the same verbs on arrays, in numpy (the oracle) or native code."""

from wcodec.backends.base import Backend
from wcodec.backends.choose import available, best_on, for_device, get_backend
from wcodec.backends.numpy.planes import COUNTED, Planes, Symbols

__all__ = ["COUNTED", "Backend", "Planes", "Symbols", "available", "best_on", "for_device", "get_backend"]
