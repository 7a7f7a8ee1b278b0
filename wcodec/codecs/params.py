"""Strict readers of a section's params: absent, of the wrong type or out of range is Corrupt with the page's rule."""

from __future__ import annotations

from wcodec.errors import Corrupt
from wcodec.types import Params


def uint(params: Params, key: str, low: int, high: int, rule: str, default: int | None = None) -> int:
    """Read an integer in low … high."""
    value = params.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise Corrupt(f"param {key!r} is {value!r}, expected {low} to {high}", rule=rule)
    return value


def uints(params: Params, key: str, low: int, high: int, rule: str, lengths: range) -> tuple[int, ...]:
    """Read an array of integers in low … high whose length is in ``lengths``."""
    value = params.get(key)
    if not isinstance(value, list | tuple) or len(value) not in lengths:
        raise Corrupt(f"param {key!r} is not an array of {lengths.start} to {lengths.stop - 1} integers", rule=rule)
    return tuple(uint({key: item}, key, low, high, rule) for item in value)


def flag(params: Params, key: str, rule: str) -> bool:
    """Read a bool, false when absent."""
    value = params.get(key, False)
    if not isinstance(value, bool):
        raise Corrupt(f"param {key!r} is {value!r}, expected a bool", rule=rule)
    return value


def blob(params: Params, key: str, size: int, rule: str) -> bytes:
    """Read a byte string of a given size."""
    value = params.get(key)
    if not isinstance(value, bytes) or len(value) != size:
        raise Corrupt(f"param {key!r} is not {size} bytes", rule=rule)
    return value
