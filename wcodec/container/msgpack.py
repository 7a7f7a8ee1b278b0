"""Canonical MessagePack: one value, one byte string (spec/container.md, C-8)."""

from __future__ import annotations

from itertools import chain
from typing import Any

import msgpack

from wcodec.errors import Corrupt, LimitExceeded, WcodecError

MAX_DEPTH = 32
MAX_VALUES = 1 << 23  # five per tensor of a manifest of 100 MB; a bomb of empty arrays would need 60 times its size otherwise

_LEAVES = frozenset({bool, int, str, bytes})


def pack(value: Any) -> bytes:
    """Pack dicts, lists, tuples, str, bytes, bool and int canonically.

    Raises TypeError for any other type, OverflowError for integers beyond 64 bits. Spec: C-8.
    """
    packed: bytes = msgpack.packb(_ordered(value), use_bin_type=True, strict_types=True)
    return packed


def unpack(data: bytes, rule: str = "C-8") -> Any:
    """Unpack one canonical value into dict, list, str, bytes, bool and int.

    Raises Corrupt [rule] for whatever `pack` would not have written, LimitExceeded beyond 2^23 values. Spec: C-8.
    """
    # A value takes a byte at least, and arrays and maps count twice: only large data can hold too many.
    budget = _Budget() if 2 * len(data) > MAX_VALUES else None
    most = min(len(data), MAX_VALUES)
    try:
        value = msgpack.unpackb(data, strict_map_key=False, list_hook=budget, object_hook=budget, max_array_len=most, max_map_len=most)
        _check(value, MAX_DEPTH)
        # Shortest forms and distinct keys: whatever was not canonical packs to other bytes than those it came from.
        same = msgpack.packb(value, use_bin_type=True) == data
    except (WcodecError, MemoryError):
        raise
    except Exception as e:
        raise Corrupt(f"MessagePack: {e or type(e).__name__}", rule=rule) from e
    if not same:
        raise Corrupt("MessagePack is not in canonical form", rule=rule)
    return value


class _Budget:
    """Count values while they are unpacked, so that a bomb stops before it fills the memory."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_VALUES

    def __call__(self, value: Any) -> Any:
        self.left -= len(value) + 1
        if self.left < 0:
            raise LimitExceeded(f"MessagePack of more than {MAX_VALUES} values")
        return value


def _ordered(value: Any) -> Any:
    """Rebuild with sorted keys. The order of code points is that of UTF-8 bytes."""
    if type(value) in _LEAVES:
        return value
    if isinstance(value, dict):
        if set(map(type, value)) - {str}:
            raise TypeError("keys must be str")
        return {key: its if type(its := value[key]) in _LEAVES else _ordered(its) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return list(value) if set(map(type, value)) <= _LEAVES else [_ordered(item) for item in value]
    raise TypeError(f"{type(value).__name__} does not go into a file")


def _check(value: Any, room: int) -> None:
    """Raise ValueError for a type, an order of keys or a depth that C-8 does not have."""
    kind = type(value)
    if kind in _LEAVES:
        return
    if kind is dict:
        keys = list(value)
        # Sorting strings with anything else raises an error of its own.
        if keys and (type(keys[0]) is not str or keys != sorted(keys)):
            raise ValueError("map keys must be strings in increasing order")
        items = value.values()
    elif kind is list:
        items = value
    else:
        raise ValueError(f"a value of type {kind.__name__}")
    if not room:
        raise ValueError("nested too deep")
    kinds = set(map(type, items))
    if kinds <= _LEAVES:
        return
    if kinds == {list} and room > 1 and set(map(type, chain.from_iterable(items))) <= _LEAVES:
        return  # the 91,000 pairs of a manifest, without a call for each
    for item in items:
        if type(item) not in _LEAVES:
            _check(item, room - 1)
