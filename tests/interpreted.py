"""The Triton backend under the interpreter, next to the oracle; arrays as tensors of the same bits."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

from typing import Any

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from wcodec.backends import Backend
from wcodec.backends.triton.backend import TritonBackend
from wcodec.backends.triton.tile import TILE

ORACLE = Backend()
TRITON = TritonBackend(torch.device("cpu"), ORACLE)
UNTOUCHED = 0x55
GUARD = 32
"""Bytes around an array that kernels must leave alone."""
quick = settings(max_examples=settings().max_examples // 25, deadline=None)
counts = st.sampled_from([0, 1, 7, 130, TILE.value - 1, TILE.value, TILE.value + 1, 2 * TILE.value + 5])
seeds = st.integers(0, 2**32)


def tensor(x: Any) -> torch.Tensor:
    """Return the same bits as a tensor; floats stay floats."""
    return view(np.array(x))


def view(memory: Any) -> torch.Tensor:
    """Return memory itself as a tensor of the same bits."""
    return torch.from_numpy(memory.view(memory.dtype if memory.dtype.kind == "f" or memory.itemsize == 1 else f"i{memory.itemsize}"))


def array(x: torch.Tensor) -> Any:
    """Return a tensor's bits as numpy's unsigned elements."""
    found = x.numpy()
    return found.view(f"u{found.itemsize}")


class Room:
    """Memory for a result, with a guard around it. shift: elements by which it misses the alignment of vectors."""

    def __init__(self, count: int, dtype: Any, shift: int = 0) -> None:
        size = np.dtype(dtype).itemsize
        self.whole = np.full(count * size + 2 * GUARD + shift * size, UNTOUCHED, np.uint8)
        self.begin, self.end = GUARD + shift * size, GUARD + (shift + count) * size
        self.out = view(self.whole[self.begin : self.end].view(dtype))

    def holds(self, want: Any) -> bool:
        """Tell whether the result is this one and the guard as it was."""
        around = np.concatenate((self.whole[: self.begin], self.whole[self.end :]))
        return bool((around == UNTOUCHED).all()) and np.array_equal(array(self.out), want.view(f"u{want.itemsize}"))


def integers(rng: np.random.Generator, count: int, size: int) -> Any:
    """Draw any storage elements."""
    return rng.integers(0, 256, count * size, dtype=np.uint8).view(f"u{size}")
