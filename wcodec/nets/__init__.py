"""Nets that come with this package (spec/net.md): files may name them by their digest instead of holding them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import blake3
import numpy as np

from wcodec.types import U8

_HERE = Path(__file__).parent

IDENTITY = "identity"
"""The net that adds nothing."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of all nets."""
    return tuple(sorted(path.name.removesuffix(".bin") for path in _HERE.iterdir() if path.name.endswith(".bin")))


@cache
def load(name: str) -> U8:
    """Return the bytes of a net by its name."""
    return np.frombuffer((_HERE / f"{name}.bin").read_bytes(), np.uint8)


@cache
def digest(name: str) -> bytes:
    """Return the BLAKE3 digest that files name it by, 32 bytes."""
    return blake3.blake3(load(name).tobytes()).digest()


def find(wanted: bytes) -> U8 | None:
    """Return the bytes of the net with a digest, if there is one."""
    return next((load(name) for name in names() if digest(name) == wanted), None)
