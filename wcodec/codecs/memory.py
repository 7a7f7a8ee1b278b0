"""Memory that is used again: decoding then touches few fresh pages."""

from __future__ import annotations

from threading import Lock
from types import TracebackType
from typing import Any

import numpy as np

from wcodec.coding.memory import aligned
from wcodec.types import U8, UInts

LARGE = 1 << 22
"""Bytes of memory worth giving back when it is too small for what is asked."""


class Pool:
    """Buffers that nobody uses now. Threads may share one."""

    __slots__ = ("_free", "_lock")

    def __init__(self) -> None:
        self._free: dict[int, list[U8]] = {}
        self._lock = Lock()

    def take(self, size: int) -> U8:
        """Return a buffer of at least so many bytes, uninitialised."""
        size = _rounded(size)
        with self._lock:
            fitting = (size, 2 * size, 4 * size) if size < LARGE else sorted(s for s in self._free if size <= s <= 4 * size)
            for its in fitting:
                if self._free.get(its):
                    return self._free[its].pop()
            if size >= LARGE:  # what is too small now would only lie about
                for smaller in [s for s in self._free if LARGE <= s < size]:
                    del self._free[smaller]
        return aligned(size)

    def give(self, buffer: U8) -> None:
        """Take a buffer back."""
        with self._lock:
            self._free.setdefault(buffer.size, []).append(buffer)

    def loan(self, count: int, dtype: np.dtype[Any]) -> Loan:
        """Lend an uninitialised array of count elements."""
        return Loan(self, count, dtype)


class Loan:
    """The context manager of ``Pool.loan``: written out because it is entered for every part of every tensor."""

    __slots__ = ("_buffer", "_pool", "_view")

    def __init__(self, pool: Pool, count: int, dtype: np.dtype[Any]) -> None:
        size = count * dtype.itemsize
        self._pool, self._buffer = pool, pool.take(size)
        self._view: UInts = self._buffer[:size].view(dtype)

    def __enter__(self) -> UInts:
        return self._view

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.give(self._buffer)


def _rounded(size: int) -> int:
    """Return the size of a buffer for so many bytes: few different ones, and little in excess where they are many."""
    if size <= 1 << 12:
        return 1 << 12
    step = size.bit_length() - 5 if size >= LARGE else (size - 1).bit_length()
    return -(-size >> step) << step
