"""Sections as plain values, for people and scripts."""

from __future__ import annotations

from typing import Any

from wcodec.types import Ref, Resource, Section


def stored_bytes(section: Section) -> int:
    """Return the bytes of all streams below a section; shared resources not included."""
    return sum(part_sizes(section).values())


def part_sizes(section: Section) -> dict[str, int]:
    """Return the bytes of all streams below each part; 0 for shared resources."""
    sizes: dict[str, int] = {}
    for name, part in section.parts.items():
        if isinstance(part, Section):
            sizes[name] = stored_bytes(part)
        else:
            sizes[name] = 0 if isinstance(part, Ref | Resource) else part.size
    return sizes


def tree(section: Section) -> dict[str, Any]:
    """Return a section as plain values: codec, params, parts with their sizes."""
    params = {key: value.hex() if isinstance(value, bytes) else value for key, value in section.params.items()}
    parts: dict[str, Any] = {}
    for name, part in section.parts.items():
        if isinstance(part, Section):
            parts[name] = tree(part)
        elif isinstance(part, Ref):
            parts[name] = {"ref": part.index}
        elif not isinstance(part, Resource):
            parts[name] = {"stream": part.size}
    return {"codec": section.codec, "params": params, "parts": parts}
