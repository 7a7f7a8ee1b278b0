"""Storage elements as torch tensors: the same bits, of signed dtypes where torch has no arithmetic on unsigned ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

STORAGE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Dtypes of tensors by the bytes of a storage element."""
SIGNED = {1: "u1", 2: "i2", 4: "i4", 8: "i8"}


def dtype_of(dtype: np.dtype[Any]) -> torch.dtype:
    """Return the dtype of tensors that hold these storage elements."""
    return STORAGE[dtype.itemsize]


def as_tensor(array: npt.NDArray[Any]) -> Tensor:
    """View numpy's memory, or a copy where that cannot be written to, as a flat tensor of the same bits."""
    flat = np.ascontiguousarray(array).reshape(-1).view(SIGNED[array.itemsize])
    return torch.from_numpy(flat if flat.flags.writeable else flat.copy())


def as_array(tensor: Tensor) -> npt.NDArray[Any]:
    """Return a tensor of storage elements as numpy's unsigned ones: a view of cpu tensors, else a copy."""
    found: npt.NDArray[Any] = tensor.detach().cpu().contiguous().numpy()
    return found.view(f"u{found.itemsize}")


def unsigned(x: Tensor) -> Tensor:
    """Return the values of storage elements of at most 32 bits as int64, of 16 and 8 bits as int32; int64 stays."""
    if x.dtype == torch.int64:
        return x
    if x.dtype == torch.int32:
        return x.long() & 0xFFFFFFFF
    return x.int() & 0xFFFF if x.dtype == torch.int16 else x.int()


def shifted(x: Tensor, places: int) -> Tensor:
    """Shift int32 or int64 elements right, zeros coming in from the left."""
    if not places:
        return x
    return (x >> places) & ((1 << (8 * x.element_size() - places)) - 1)


def signed(value: int, bits: int) -> int:
    """Return the integer of so many bits, two's complement, that has the low bits of a value."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def positions(x: Tensor, count: int) -> Tensor:
    """Return u32 positions as indices that lie below ``count``: damage is found elsewhere, but must never reach other memory."""
    return unsigned(x).clamp_(max=max(count - 1, 0))
