"""Tensor records, aliases, resources and sections: MessagePack on one side, `wcodec.types` on the other.

Sections are parsed structurally only; what depends on a codec's page is checked by the codec
(spec/container.md sections 4 and 5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from wcodec.container import msgpack
from wcodec.container.fields import check_requires, needed, optional
from wcodec.errors import Corrupt
from wcodec.types import DTYPES, MemoryStream, Part, Ref, Resource, Section, Spec, Stream

MAX_DEPTH = 8
MAX_PARTS = 1 << 16  # the largest cap that any codec's page states; the codec checks its own
INLINE = 256

_SECTION = frozenset({"codec", "params", "parts", "requires"})
_REF = frozenset({"ref", "requires"})
_RESOURCE = frozenset({"dtype", "shape", "section", "requires"})
_TENSOR = frozenset({"dtype", "shape", "section", "digest", "source", "tolerant", "requires"})
_ALIAS = frozenset({"alias", "tied", "requires"})


@dataclass(slots=True, eq=False)
class TensorRecord:
    """How one tensor is stored.

    digest: BLAKE3-256 of the decoded bytes, of the decoded parts when tolerant.
    source: None: lossless; 32 bytes: BLAKE3-256 of the source's bytes; empty: there was no source.
    memo: room for what the layers above work out once; it is no part of the value.
    """

    spec: Spec
    section: Section
    digest: bytes
    source: bytes | None = None
    tolerant: bool = False
    memo: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def lossless(self) -> bool:
        """Whether the source's bytes have the digest of the decoded ones."""
        return self.source is None


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that shares the data of the entry of this index; tied: frameworks share the storage too."""

    index: int
    tied: bool


Record: TypeAlias = TensorRecord | Alias


@dataclass(frozen=True, slots=True)
class SectionParser:
    """Parse sections of one file.

    stream: make the stream of an extent index; raises Corrupt [C-19].
    height: levels below a reference, given the resource's index and the levels left; raises Corrupt [C-19, C-21].
    """

    stream: Callable[[int], Stream]
    height: Callable[[int, int], int]

    def section(self, fields: Any, room: int = MAX_DEPTH) -> tuple[Section, int]:
        """Parse a section's map; return it and the number of levels it has, references followed.

        Raises Corrupt [C-19 to C-22], UnsupportedVersion [C-10].
        """
        if room < 1:
            raise Corrupt(f"sections nest more than {MAX_DEPTH} deep", rule="C-21")
        if type(fields) is not dict:
            raise Corrupt("a section is not a map", rule="C-20")
        check_requires(fields, _SECTION)
        codec = needed(fields, "codec", str, "C-20")
        params = optional(fields, "params", dict, "C-20") or {}
        wire = optional(fields, "parts", dict, "C-20") or {}
        if len(wire) > MAX_PARTS:
            raise Corrupt(f"{len(wire)} parts", rule="C-22")
        parts: dict[str, Part] = {}
        height = 0
        for key, value in wire.items():
            parts[key], levels = self._part(key, value, room - 1)
            height = max(height, levels)
        return Section(codec, params, parts), height + 1

    def _part(self, key: str, value: Any, room: int) -> tuple[Part, int]:
        """Parse one of the four kinds of C-19."""
        if type(value) is int:
            return self.stream(value), 0
        if type(value) is bytes:
            if len(value) > INLINE:
                raise Corrupt(f"part {key!r}: an inline stream of {len(value)} bytes", rule="C-19")
            return MemoryStream(np.frombuffer(value, np.uint8)), 0
        if type(value) is dict and ("codec" in value) != ("ref" in value):
            if "codec" in value:
                return self.section(value, room)
            check_requires(value, _REF)
            index = needed(value, "ref", int, "C-19")
            return Ref(index), self.height(index, room)
        raise Corrupt(f"part {key!r} is neither stream, section nor reference", rule="C-19")

    def resource(self, data: bytes, room: int = MAX_DEPTH) -> tuple[Resource, int]:
        """Parse a resource; return it and its section's levels. Raises Corrupt [C-16, C-18 to C-22, C-26]."""
        fields = msgpack.unpack(data, rule="C-16")
        if type(fields) is not dict:
            raise Corrupt("a resource is not a map", rule="C-16")
        check_requires(fields, _RESOURCE)
        spec = _spec(fields)
        section, height = self.section(needed(fields, "section", dict, "C-16"), room)
        return Resource(spec, section), height

    def record(self, data: bytes) -> Record:
        """Parse a tensor record or an alias. Raises Corrupt [C-16, C-18 to C-22, C-26], UnsupportedVersion [C-10]."""
        fields = msgpack.unpack(data, rule="C-16")
        if type(fields) is not dict or ("section" in fields) == ("alias" in fields):
            raise Corrupt("a record must hold either a section or an alias", rule="C-16")
        known, others = (_ALIAS, _TENSOR) if "alias" in fields else (_TENSOR, _ALIAS)
        check_requires(fields, known)
        if not (others - known).isdisjoint(fields):
            raise Corrupt("a record mixes the keys of tensors and aliases", rule="C-16")
        if "alias" in fields:
            return Alias(needed(fields, "alias", int, "C-16"), needed(fields, "tied", bool, "C-16"))
        digest, source = needed(fields, "digest", bytes, "C-16"), optional(fields, "source", bytes, "C-16")
        if len(digest) != 32 or (source is not None and len(source) not in (0, 32)):
            raise Corrupt("a digest does not have 32 bytes", rule="C-16")
        tolerant = optional(fields, "tolerant", bool, "C-16")
        if tolerant is False:
            raise Corrupt("tolerant is true or absent", rule="C-16")
        section, _ = self.section(needed(fields, "section", dict, "C-16"))
        return TensorRecord(_spec(fields), section, digest, source, bool(tolerant))


def _spec(fields: dict[str, Any]) -> Spec:
    dtype, shape = needed(fields, "dtype", str, "C-16"), needed(fields, "shape", list, "C-16")
    if not all(type(d) is int and d >= 0 for d in shape):
        raise Corrupt("shape is not an array of unsigned integers", rule="C-16")
    if dtype not in DTYPES:
        raise Corrupt(f"unknown dtype {dtype!r}", rule="C-26")
    return Spec(DTYPES[dtype], tuple(shape))


def pack_record(record: Record, place: Callable[[Stream], int | bytes]) -> bytes:
    """Pack a record; place turns a stream into its extent's index or its bytes, called in stored order. Spec: section 4."""
    if isinstance(record, Alias):
        return msgpack.pack({"alias": record.index, "tied": record.tied})
    fields: dict[str, Any] = {
        "dtype": record.spec.dtype.name,
        "shape": record.spec.shape,
        "section": section_fields(record.section, place),
        "digest": record.digest,
    }
    if record.source is not None:
        fields["source"] = record.source
    if record.tolerant:
        fields["tolerant"] = True
    return msgpack.pack(fields)


def pack_resource(resource: Resource, place: Callable[[Stream], int | bytes]) -> bytes:
    """Pack a resource; place as in `pack_record`. Spec: section 5."""
    section = section_fields(resource.section, place)
    return msgpack.pack({"dtype": resource.spec.dtype.name, "shape": resource.spec.shape, "section": section})


def section_fields(section: Section, place: Callable[[Stream], int | bytes]) -> dict[str, Any]:
    """Turn a section into its map; place as in `pack_record`."""
    fields: dict[str, Any] = {"codec": section.codec}
    if section.params:
        fields["params"] = dict(section.params)
    parts: dict[str, Any] = {}
    for key in sorted(section.parts):
        part = section.parts[key]
        assert not isinstance(part, Resource), "the writer stores resources before the sections that name them"
        if isinstance(part, Section):
            parts[key] = section_fields(part, place)
        else:
            parts[key] = {"ref": part.index} if isinstance(part, Ref) else place(part)
    if parts:
        fields["parts"] = parts
    return fields


def height(section: Section, resources: list[int], room: int = MAX_DEPTH) -> int:
    """Count the levels of a section whose references name resources of these heights.

    Raises Corrupt [C-19] for an unknown resource, [C-21] beyond 8 levels, [C-22] for too many parts.
    """
    if room < 1:
        raise Corrupt(f"sections nest more than {MAX_DEPTH} deep", rule="C-21")
    if len(section.parts) > MAX_PARTS:
        raise Corrupt(f"{len(section.parts)} parts", rule="C-22")
    levels = 0
    for part in section.parts.values():
        if isinstance(part, Section):
            levels = max(levels, height(part, resources, room - 1))
        elif isinstance(part, Ref):
            if not 0 <= part.index < len(resources):
                raise Corrupt(f"there is no resource {part.index}", rule="C-19")
            levels = max(levels, resources[part.index])
    if levels >= room:
        raise Corrupt(f"sections nest more than {MAX_DEPTH} deep", rule="C-21")
    return levels + 1


def streams_of(section: Section) -> Iterator[Stream]:
    """Yield the streams of a section in stored order: by part key, depth first, references not followed."""
    for key in sorted(section.parts):
        part = section.parts[key]
        if isinstance(part, Section):
            yield from streams_of(part)
        elif not isinstance(part, Ref | Resource):
            yield part
