"""What is printed: sizes, tables, names that cannot harm a terminal, JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Any


def safe(text: str) -> str:
    r"""Escape what is not printable, such as ``\x1b``, so that a name can neither move the cursor nor break a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """Print a line of the result, escaped."""
    print(safe(text))


def emit(value: dict[str, Any]) -> None:
    """Print the result as one JSON object, in ASCII; byte strings as hex."""
    print(json.dumps(value, default=lambda item: item.hex() if isinstance(item, bytes) else str(item)))


def human(size: int) -> str:
    """Return bytes as people read them: ``90.9 MB`` (decimal units)."""
    if size < 1000:
        return f"{size} bytes" if size != 1 else "1 byte"
    amount = float(size)
    for unit in ("KB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1000:.2f} TB"


def percent(part: int, whole: int) -> str:
    """Return part of whole as ``81.7 %``."""
    return f"{100 * part / whole:.1f} %" if whole else "100.0 %"


def counted(count: int, what: str) -> str:
    """Return ``1 tensor``, ``2 tensors``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def shape_of(shape: Sequence[int]) -> str:
    """Return ``30522×384``; a tensor without dimensions is a scalar."""
    return "×".join(map(str, shape)) or "scalar"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> Iterator[str]:
    """Yield aligned lines. right: columns that align there. On a narrow terminal, codecs, names and contents are shortened."""
    lines = [list(header), *([safe(cell) for cell in row] for row in rows)]
    widths = dict(zip(header, (max(map(len, cells)) for cells in zip(*lines, strict=True)), strict=True))
    if sys.stdout.isatty():
        excess = sum(widths.values()) + 2 * (len(widths) - 1) - shutil.get_terminal_size().columns
        for name, least in (("codec", 12), ("name", 24), ("holds", 20)):
            taken = max(0, min(excess, widths.get(name, 0) - least))
            if taken:
                widths[name] -= taken
                excess -= taken
    for line in lines:
        cells = zip(header, line, widths.values(), strict=True)
        yield "  ".join(_shorten(cell, w).rjust(w) if name in right else _shorten(cell, w).ljust(w) for name, cell, w in cells).rstrip()


def _shorten(text: str, width: int) -> str:
    """Cut a text in its middle: of a tensor's name the end says most."""
    if len(text) <= width:
        return text
    head = width // 5
    return f"{text[:head]}…{text[head + 1 - width :]}"
