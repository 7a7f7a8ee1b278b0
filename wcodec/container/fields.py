"""Typed access to the maps of the format; `requires` (spec/container.md, C-10)."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, TypeVar

from wcodec.errors import Corrupt, UnsupportedVersion

T = TypeVar("T")


def check_requires(fields: Mapping[str, Any], known: Set[str]) -> None:
    """Check that every key that a map requires is known.

    Raises UnsupportedVersion for one that is not, Corrupt for a `requires` that is no array of strings. Spec: C-10.
    """
    if "requires" not in fields:
        return
    keys = fields["requires"]
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise Corrupt("requires is not an array of strings", rule="C-10")
    for key in keys:
        if key not in known:
            raise UnsupportedVersion(f"needs the unknown key {key!r}", required=key, rule="C-10")


def optional(fields: dict[str, Any], key: str, kind: type[T], rule: str) -> T | None:
    """Take the value of a key, None where absent. Raises Corrupt [rule] for another type; bool is no int."""
    if key not in fields:
        return None
    value = fields[key]
    if type(value) is not kind:
        raise Corrupt(f"{key} is of type {type(value).__name__}, expected {kind.__name__}", rule=rule)
    return value


def needed(fields: dict[str, Any], key: str, kind: type[T], rule: str) -> T:
    """Take the value of a key. Raises Corrupt [rule] where absent or of another type."""
    value = optional(fields, key, kind, rule)
    if value is None:
        raise Corrupt(f"{key} is missing", rule=rule)
    return value
