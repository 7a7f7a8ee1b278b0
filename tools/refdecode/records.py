"""container.md, sections 4 and 6: records of tensors and resources, and dtypes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from .manifest import canonical, check_requires
from .rules import is_uint, must

_NAMES = {
    64: "F64 I64 U64 C64",
    32: "F32 I32 U32",
    16: "F16 BF16 I16 U16",
    8: "I8 U8 BOOL F8_E4M3 F8_E5M2 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
    6: "F6_E2M3 F6_E3M2",
    4: "F4",
}
BITS = {name: bits for bits, names in _NAMES.items() for name in names.split()}


def storage_bits(dtype: str) -> int:
    return 32 if dtype == "C64" else max(BITS[dtype], 8)


def storage_shape(dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """planes.md: the tensor's shape, with one more dimension of 2 for C64."""
    return (*shape, 2) if dtype == "C64" else shape


@dataclass
class Record:
    dtype: str = ""
    shape: tuple[int, ...] = ()
    section: dict = field(default_factory=dict)
    digest: bytes = b""
    source: bytes | None = None
    tolerant: bool = False
    alias: int | None = None
    tied: bool = False


def read_record(data: bytes, name: str) -> Record:
    record = canonical(data, "C-16")
    must(isinstance(record, dict), "C-16", f"{name!r}: the record is not a map")
    check_requires(record, {"dtype", "shape", "section", "digest", "source", "tolerant", "alias", "tied"})
    must(("section" in record) != ("alias" in record), "C-16", f"{name!r}: not exactly one of section and alias")
    if "alias" in record:
        must(not record.keys() & {"dtype", "shape", "digest", "source", "tolerant"}, "C-16", f"{name!r}: an alias with a tensor's keys")
        must(is_uint(record["alias"]) and isinstance(record.get("tied"), bool), "C-16", f"{name!r}: keys of another type")
        return Record(alias=record["alias"], tied=record["tied"])
    must("tied" not in record, "C-16", f"{name!r}: `tied` without `alias`")
    dtype, shape, digest = record.get("dtype"), record.get("shape"), record.get("digest")
    must(isinstance(dtype, str) and isinstance(record["section"], dict), "C-16", f"{name!r}: keys of another type")
    must(isinstance(shape, list) and all(is_uint(n) for n in shape), "C-16", f"{name!r}: keys of another type")
    must(isinstance(digest, bytes) and len(digest) == 32, "C-16", f"{name!r}: the digest has not 32 bytes")
    source = record.get("source")
    must("source" not in record or (isinstance(source, bytes) and len(source) in (0, 32)), "C-16", f"{name!r}: `source`")
    must(record.get("tolerant", True) is True, "C-16", f"{name!r}: `tolerant` is not true")
    check_shape(dtype, shape)
    return Record(dtype, tuple(shape), record["section"], digest, source, "tolerant" in record)


def check_shape(dtype: str, shape: list[int]) -> None:
    must(dtype in BITS, "C-26", f"the dtype {dtype!r}")
    must(len(shape) <= 64, "C-18", f"{len(shape)} dimensions")
    must(prod(n for n in shape if n) * BITS[dtype] < 2**63 * 8, "C-18", "the shape is too large")
    must(prod(shape) * BITS[dtype] % 8 == 0, "C-26", "the tensor is not a whole number of bytes")


def read_resource(data: bytes, index: int) -> Record:
    resource = canonical(data, "C-16")
    must(isinstance(resource, dict), "C-16", f"resource {index} is not a map")
    check_requires(resource, {"dtype", "shape", "section"})
    dtype, shape, section = (resource.get(key) for key in ("dtype", "shape", "section"))
    good = isinstance(dtype, str) and isinstance(section, dict) and isinstance(shape, list) and all(is_uint(n) for n in shape)
    must(good, "C-16", f"resource {index}: keys of another type")
    check_shape(dtype, shape)
    return Record(dtype, tuple(shape), section)
