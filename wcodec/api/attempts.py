"""What a target's attempts at a file have in common: the sections of tensors whose setting stays."""

from __future__ import annotations

from dataclasses import dataclass, field

from wcodec.api.outcome import Outcome
from wcodec.codecs.base import stored_size
from wcodec.recipes.base import Encoded, Method

ROOM = 1 << 28
"""Bytes of sections that are kept; other tensors are encoded again."""


@dataclass(slots=True)
class Attempts:
    """Sections of the last attempt by name of their tensor, with the method that made each and what became of it."""

    _known: dict[str, tuple[Method, Encoded, Outcome]] = field(default_factory=dict)
    _size: int = 0

    def find(self, name: str, method: Method) -> tuple[Encoded, Outcome] | None:
        """Return what this very method made of a tensor, if that is kept."""
        known = self._known.get(name)
        return known[1:] if known is not None and known[0] is method else None

    def keep(self, name: str, method: Method, encoded: Encoded, outcome: Outcome) -> None:
        """Keep a section in place of an earlier one, where there is room."""
        earlier = self._known.pop(name, None)
        self._size -= stored_size(earlier[1].section) if earlier is not None else 0
        size = stored_size(encoded.section)
        if self._size + size <= ROOM:
            self._known[name] = method, encoded, outcome
            self._size += size
