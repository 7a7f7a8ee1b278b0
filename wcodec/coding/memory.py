"""Memory to decode into: fresh pages often cost more than what is written to them."""

from __future__ import annotations

import numpy as np

from wcodec.types import U8

LINE = 64
"""Bytes of a cache line: kernels write whole ones past the caches."""
ALONE = 1 << 22
"""Bytes from which numpy asks the system for huge pages, so that an array is best allocated alone."""
HUGE = 1 << 21
"""Bytes of a huge page, which only an aligned one can be: what lies before it is never touched."""


def aligned(size: int) -> U8:
    """Allocate uninitialised bytes that begin where a cache line does, from ALONE on where a huge page does."""
    step = LINE if size < ALONE else HUGE
    room: U8 = np.empty(size + step, np.uint8)
    start = -room.ctypes.data % step
    return room[start : start + size]
