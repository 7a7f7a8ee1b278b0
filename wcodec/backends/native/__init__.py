"""The verbs in C (``wcodec/native``), called through ctypes, which lets other threads run meanwhile; a file for each topic."""

from wcodec.backends.native.backend import NativeBackend, load
from wcodec.backends.native.library import ISAS

__all__ = ["ISAS", "NativeBackend", "load"]
