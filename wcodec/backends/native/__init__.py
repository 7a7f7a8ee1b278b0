"""The verbs in C (``wcodec/native``), called through ctypes, which lets other threads run meanwhile; a file for each topic."""

from wcodec.backends.native.abi import ISAS
from wcodec.backends.native.backend import NativeBackend, load

__all__ = ["ISAS", "NativeBackend", "load"]
