"""Backends: the same verbs on arrays, in numpy (the oracle) or native code."""

from wcodec.backends.base import COUNTED, Backend, Planes, Symbols
from wcodec.backends.choose import available, get_backend

__all__ = ["COUNTED", "Backend", "Planes", "Symbols", "available", "get_backend"]
