"""container.md, section 5: sections, their params and parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from .manifest import check_requires
from .records import BITS, Record, check_shape, read_resource, storage_bits
from .rules import Refused, is_uint, must

if TYPE_CHECKING:
    from .container import Container

FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass
class Codec:
    """A page of `codecs/`."""

    decode: Callable[[Node], np.ndarray]
    tolerant: bool
    most_parts: int


CODECS: dict[str, Codec] = {}


def codec(name: str, *, tolerant: bool = False, most_parts: int = 256) -> Callable:
    """Enter a function that decodes a section of the codec `name` to its storage elements, one flat array."""

    def enter(decode: Callable[[Node], np.ndarray]) -> Callable[[Node], np.ndarray]:
        CODECS[name] = Codec(decode, tolerant, most_parts)
        return decode

    return enter


def part_kind(part: object) -> str:
    if is_uint(part):
        return "extent"
    if isinstance(part, bytes):
        must(len(part) <= 256, "C-19", f"an inline stream of {len(part)} bytes")
        return "inline"
    if isinstance(part, dict) and ("codec" in part) != ("ref" in part):
        must("ref" not in part or is_uint(part["ref"]), "C-19", "a reference that is no index")
        return "section" if "codec" in part else "reference"
    raise Refused("C-19", "a part of none of the four kinds")


class Node:
    """One section of a tree, with the dtype and shape that its parent derived.

    `resources` is the number of resources that it may refer to. A param that is missing, has another type or is out of range
    breaks the codec's rule 1, where the call does not name another one.
    """

    def __init__(self, container: Container, section: dict, dtype: str, shape: tuple[int, ...], depth: int, resources: int):
        must(depth <= 8, "C-21", "sections nest too deep")
        check_requires(section, {"codec", "params", "parts"})
        name = section.get("codec")
        must(isinstance(name, str), "C-20", "a section without a codec")
        must(name in CODECS, "C-24", f"unknown codec {name!r}")
        self.name, self.codec, self.rule = name, CODECS[name], f"{name.upper()}-1"
        self.params, self.parts = section.get("params", {}), section.get("parts", {})
        must(isinstance(self.params, dict) and isinstance(self.parts, dict), "C-20", f"{name}: params or parts of another type")
        must(len(self.parts) <= self.codec.most_parts, "C-22", f"{len(self.parts)} parts")
        check_shape(dtype, list(shape))
        self.container, self.dtype, self.shape = container, dtype, shape
        self.depth, self.resources = depth, resources
        self.children: dict[str, Node] = {}
        self.storage_bits = storage_bits(dtype)
        self.count = prod(shape) * BITS[dtype] // self.storage_bits  # storage elements
        self.size = self.count * self.storage_bits // 8  # bytes
        self.decoded: np.ndarray | None = None

    # -- what the section decodes to

    def decode(self) -> np.ndarray:
        """The storage elements, as one flat array."""
        if self.decoded is None:
            self.container.spend(self.size)
            self.decoded = self.codec.decode(self)
            assert self.decoded.dtype == self.numpy_dtype and self.decoded.shape == (self.count,)
        return self.decoded

    @property
    def numpy_dtype(self) -> np.dtype:
        return np.dtype(f"<u{self.storage_bits // 8}")

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns, of elements of the tensor."""
        rows = self.shape[0] if len(self.shape) >= 2 else 1
        return rows, prod(self.shape) // rows if rows else 0

    @property
    def tolerant(self) -> bool:
        """Of a decoded section: whether its codec or one below it is tolerant."""
        return self.codec.tolerant or any(child.tolerant for child in self.children.values())

    def digested(self) -> bytes:
        """The bytes that C-30 digests."""
        if not self.tolerant:
            return self.decode().tobytes()
        names = sorted(self.parts, key=lambda name: name.encode())
        return b"".join(self.children[name].digested() if name in self.children else self.stream(name) for name in names)

    # -- params

    def takes(self, *dtypes: str) -> None:
        must(self.dtype in dtypes, self.rule, f"{self.name}: the dtype {self.dtype}")

    def knows(self, *names: str) -> None:
        """The params that the codec's page names; others are ignored, unless required."""
        check_requires(self.params, set(names))

    def uint(self, name: str, low: int, high: int, default: int | None = None, rule: str = "") -> int:
        """A param between `low` and `high`; one without a default is needed."""
        value = self.params.get(name, default)
        if name in self.params or default is None:
            must(is_uint(value, low, high), rule or self.rule, f"{self.name}: the param {name!r} is {value!r}")
        return value

    def uints(self, name: str, least: int, most: int, low: int, high: int) -> list[int]:
        """A needed param: an array of `least` to `most` entries between `low` and `high`."""
        value = self.params.get(name)
        good = isinstance(value, list) and least <= len(value) <= most and all(is_uint(entry, low, high) for entry in value)
        must(good, self.rule, f"{self.name}: the param {name!r} is absent, of another type, length or range")
        return value

    def flag(self, name: str) -> bool:
        value = self.params.get(name, False)
        must(isinstance(value, bool), self.rule, f"{self.name}: the param {name!r} has another type")
        return value

    # -- parts

    def has_parts(self, *names: str) -> None:
        must(set(self.parts) == set(names), "C-20", f"{self.name}: parts {sorted(self.parts)} where {sorted(names)} are expected")

    def stream(self, name: str) -> bytes:
        part = self.parts[name]
        kind = part_kind(part)
        must(kind in ("extent", "inline"), "C-20", f"{self.name}: the part {name!r} is not a stream")
        return part if kind == "inline" else self.container.extent(part)

    def array(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        """The storage elements of a part that is an array."""
        part = self.parts[name]
        kind = part_kind(part)
        must(kind in ("section", "reference"), "C-20", f"{self.name}: the part {name!r} is not an array")
        section, resources = part, self.resources
        if kind == "reference":
            resources = part["ref"]
            section = self.resource(part, dtype, shape).section
        self.children[name] = Node(self.container, section, dtype, shape, self.depth + 1, resources)
        return self.children[name].decode()

    def resource(self, part: dict, dtype: str, shape: tuple[int, ...]) -> Record:
        check_requires(part, {"ref"})
        index = part["ref"]
        must(index < len(self.container.resources), "C-19", f"no resource {index}")
        must(index < self.resources, "C-21", "a resource refers to itself or a later one")
        resource = read_resource(self.container.resources[index], index)
        must((resource.dtype, resource.shape) == (dtype, shape), "C-23", f"resource {index} has another dtype or shape")
        return resource
