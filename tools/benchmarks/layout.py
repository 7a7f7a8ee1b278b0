"""What the benchmark must know of a safetensors file: where its header ends and where each tensor lies. Standard library only."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

WIDTH = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2, "F16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    """Offset from the end of the header."""
    size: int


@dataclass(frozen=True)
class Layout:
    """The header of one safetensors file."""

    path: Path
    header: int
    """Bytes before the first tensor's data."""
    size: int
    tensors: tuple[Tensor, ...]

    @property
    def data(self) -> int:
        return self.size - self.header

    @property
    def form(self) -> str:
        """The dtype that most of the bytes have."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size
        return max(sizes, key=lambda dtype: sizes[dtype])


def parse(header: bytes) -> list[Tensor]:
    """Tensors described by a JSON header (without the length before it)."""
    records = json.loads(header)
    records.pop("__metadata__", None)
    return [
        Tensor(name, one["dtype"], tuple(one["shape"]), one["data_offsets"][0], one["data_offsets"][1] - one["data_offsets"][0])
        for name, one in records.items()
    ]


def read(path: Path) -> Layout:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return Layout(path, 8 + length, path.stat().st_size, tuple(parse(file.read(length))))
