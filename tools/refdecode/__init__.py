"""The second decoder of the wcodec format, written from the pages under `spec/` alone.

It shares no code with the package, is laid out in the order of the pages, and prefers plainness to speed. A file on which this
decoder and the package disagree shows a page that is unclear.

Two refusals are no rule of the pages: LIMIT (the bound of container.md section 5) and MISSING (a file that is not there).
"""

from __future__ import annotations

from pathlib import Path

from . import codecs as codecs
from .container import Container as Container
from .records import BITS as BITS
from .rules import Refused as Refused
from .source import check_shards as check_shards
from .source import kept_header, rebuild_source

Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
"""name -> dtype, shape, bytes, in stored order."""


def open_file(path: str | Path, side: int = 0) -> Container:
    container = Container(Path(path).read_bytes(), side)
    container.check_extents_named_once()
    return container


def decode_all(container: Container) -> Tensors:
    """Every tensor. One that cannot be read (C-24) refuses the whole file here."""
    found = {
        name: (record.dtype, record.shape, container.tensor(index)) for index, (name, record) in enumerate(container.targets().items())
    }
    if "source_header" in container.manifest:
        kept_header(container)
    return found


def decode_file(path: str | Path, side: int = 0) -> Tensors:
    return decode_all(open_file(path, side))


def source_bytes(path: str | Path) -> bytes:
    """The safetensors file that `path` was made of (its decoded copy, where a tensor is not lossless)."""
    return rebuild_source(open_file(path))
