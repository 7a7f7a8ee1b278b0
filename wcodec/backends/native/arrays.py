"""Arrays as pointers."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_void_p
from typing import Any

import numpy.typing as npt

from wcodec.types import U8

_ANYTHING = ctypes.c_char * 0


def fits(array: npt.NDArray[Any], kind: Any, size: int) -> bool:
    """Whether C may take ``size`` items of ``kind`` from array: the last check before pointers."""
    return array.dtype == kind and array.size >= size and array.flags.c_contiguous


def address(array: npt.NDArray[Any]) -> int:
    """Return the address of an array; numpy's own way, which takes several times as long, where ctypes refuses to write."""
    return ctypes.addressof(_ANYTHING.from_buffer(array.data)) if array.flags.writeable else array.ctypes.data


def pointers(arrays: Sequence[U8]) -> ctypes.Array[c_void_p]:
    """Return the addresses of up to eight arrays, for C to take as an array of pointers."""
    return (c_void_p * 8)(*map(address, arrays))
