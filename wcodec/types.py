"""Plain values that every layer shares: dtypes, specs, streams, sections, limits."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.errors import Corrupt

U8: TypeAlias = npt.NDArray[np.uint8]
U32: TypeAlias = npt.NDArray[np.uint32]
U64: TypeAlias = npt.NDArray[np.uint64]
UInts: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
Params: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DType:
    """A safetensors dtype.

    name: safetensors' name. bits: of one element. storage: numpy dtype of a storage element (spec/container.md section 6).
    exponent, mantissa: field widths of a float, 0 otherwise.
    """

    name: str
    bits: int
    storage: np.dtype[Any]
    exponent: int = 0
    mantissa: int = 0


def _dtypes() -> dict[str, DType]:
    rows = [
        ("F64", 64, "u8", 11, 52), ("F32", 32, "u4", 8, 23), ("F16", 16, "u2", 5, 10), ("BF16", 16, "u2", 8, 7),
        ("I64", 64, "u8", 0, 0), ("I32", 32, "u4", 0, 0), ("I16", 16, "u2", 0, 0), ("I8", 8, "u1", 0, 0),
        ("U64", 64, "u8", 0, 0), ("U32", 32, "u4", 0, 0), ("U16", 16, "u2", 0, 0), ("U8", 8, "u1", 0, 0),
        ("BOOL", 8, "u1", 0, 0), ("C64", 64, "u4", 8, 23),
        ("F8_E4M3", 8, "u1", 4, 3), ("F8_E5M2", 8, "u1", 5, 2), ("F8_E8M0", 8, "u1", 8, 0),
        ("F8_E4M3FNUZ", 8, "u1", 4, 3), ("F8_E5M2FNUZ", 8, "u1", 5, 2),
        ("F6_E2M3", 6, "u1", 2, 3), ("F6_E3M2", 6, "u1", 3, 2), ("F4", 4, "u1", 2, 1),
    ]  # fmt: skip
    return {name: DType(name, bits, np.dtype("<" + store), e, m) for name, bits, store, e, m in rows}


DTYPES: Mapping[str, DType] = _dtypes()


@dataclass(frozen=True, slots=True)
class Spec:
    """The dtype and shape that a section decodes to. Raises Corrupt [C-18, C-26] when no tensor can have them.

    size: bytes. count: storage elements.
    """

    dtype: DType
    shape: tuple[int, ...]
    size: int = field(init=False, repr=False, compare=False)
    count: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        bits = prod(self.shape) * self.dtype.bits
        if len(self.shape) > 64 or (bits or prod(d for d in self.shape if d) * self.dtype.bits) >= 2**66:
            raise Corrupt(f"shape {self.shape} of {self.dtype.name} is too large", rule="C-18")
        if bits % 8:
            raise Corrupt(f"{self.shape} elements of {self.dtype.name} are not whole bytes", rule="C-26")
        object.__setattr__(self, "size", bits // 8)
        object.__setattr__(self, "count", bits // 8 // self.dtype.storage.itemsize)

    @classmethod
    def of(cls, dtype: str, *shape: int) -> Spec:
        """Make the spec of an array of a dtype given by name."""
        return cls(DTYPES[dtype], shape)

    @property
    def storage_shape(self) -> tuple[int, ...]:
        """Shape of the storage elements: C64 has a last dimension of 2, sub-byte dtypes are flat."""
        if self.dtype.bits < 8:
            return (self.count,)
        return (*self.shape, 2) if self.dtype.name == "C64" else self.shape

    def __str__(self) -> str:
        return f"{self.dtype.name} {list(self.shape)}"


class Stream(Protocol):
    """A run of stored bytes; reading yields checked bytes that are valid inside the ``with`` block only."""

    @property
    def size(self) -> int: ...
    def read(self, start: int, stop: int) -> AbstractContextManager[U8]: ...


@dataclass(frozen=True, slots=True, eq=False)
class MemoryStream:
    """A stream whose bytes are an array in memory: what encoders make."""

    data: U8

    @property
    def size(self) -> int:
        return self.data.size

    def read(self, start: int, stop: int) -> AbstractContextManager[U8]:
        return nullcontext(self.data[start:stop])


@dataclass(frozen=True, slots=True)
class Ref:
    """Names a resource of the file by index."""

    index: int


@dataclass(slots=True, eq=False)
class Section:
    """One codec's encoding of one array: codec name, params, parts.

    memo holds what a codec worked out once for decoding (tables, offsets); it is no part of the value.
    """

    codec: str
    params: Params = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """A shared section and the spec it decodes to; as a part, one that the writer has yet to store and to name by a Ref."""

    spec: Spec
    section: Section


Part: TypeAlias = Stream | Section | Ref | Resource


@dataclass(frozen=True, slots=True)
class Limits:
    """What a caller lets a file ask for.

    decoded: bound on the sum of decoded bytes of all sections reached; None: 64 × file size + 1 GiB.
    """

    decoded: int | None = None

    def bound(self, file_size: int) -> int:
        """Bytes that a file of this size may decode to."""
        return 64 * file_size + 2**30 if self.decoded is None else self.decoded
