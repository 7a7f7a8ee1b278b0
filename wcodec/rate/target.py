"""What a file must keep to: bits per weight, bytes, or an error."""

from __future__ import annotations

import re
from dataclasses import dataclass

from wcodec.errors import RecipeError

UNDER = 0.005
"""Share of the target by which a file may be smaller, where the target binds."""


@dataclass(frozen=True, slots=True)
class Target:
    """One bound; the others are None.

    bpw: bits of the whole file per weight. size: bytes of the whole file, of all shards together. max_error: RMS error over RMS value,
    of every tensor that is approximated.
    """

    bpw: float | None = None
    size: int | None = None
    max_error: float | None = None

    @classmethod
    def of(cls, bpw: float | None, size: int | str | None, max_error: float | None) -> Target | None:
        """Read the arguments of ``wcodec.encode``; none of them: None. Raises RecipeError."""
        asked = [key for key, value in (("bpw", bpw), ("size", size), ("max_error", max_error)) if value is not None]
        if not asked:
            return None
        if len(asked) > 1:
            raise RecipeError(f"{' and '.join(asked)} exclude each other")
        found = cls(bpw, None if size is None else size_of(size), max_error)
        if not 0 < (found.bpw or found.size or found.max_error or 0) < float("inf"):
            raise RecipeError(f"{asked[0]} must be above 0")
        return found

    @property
    def text(self) -> str:
        """Return it as the command line takes it."""
        if self.bpw is not None:
            return f"--bpw {self.bpw:g}"
        return f"--size {self.size}" if self.size is not None else f"--max-error {self.max_error:g}"

    def limit(self, weights: int) -> int:
        """Return the bytes that a file of so many weights may have. Not for ``max_error``."""
        return int(self.bpw * weights / 8) if self.bpw is not None else self.size or 0


def size_of(text: int | str) -> int:
    """Read bytes with a decimal unit, such as ``7.5GB``. Raises RecipeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGTP]?)B?", str(text).strip(), re.IGNORECASE)
    if found is None:
        raise RecipeError(f"{text!r} is not a size such as 500MB or 1.5TB")
    return int(float(found[1]) * 1000 ** " kmgtp".index(found[2].lower() or " "))
