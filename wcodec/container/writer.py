"""Write a `.wcodec` file in one pass (spec/container.md)."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from wcodec.container import zstdframe
from wcodec.container.atomic import Target, open_target
from wcodec.container.layout import CHUNK, Prologue, Trailer, align, checksum
from wcodec.container.manifest import Manifest, check_names
from wcodec.container.records import INLINE, Alias, SectionParser, TensorRecord, height, pack_record, pack_resource
from wcodec.container.streams import FileStream, Pool, chunk_checksums
from wcodec.errors import EncodeError, FormatError
from wcodec.types import Part, Ref, Resource, Section, Spec, Stream

LEVEL = 9
_PIECE = 16 * CHUNK


class ContainerWriter:
    """A file in the making, which exists under its name only once it is whole.

    target: a path, or a binary buffer that can be written, read and sought. source_header: the source's first bytes where its
    canonical header differs. encoder: how the file was made. force: overwrite. minor: required minor version.
    metadata, source_header, encoder and minor are attributes too, read by `close`, and so is order: names in the order of the
    source, where they were added in another one.
    Use as a context manager: an exception leaves no file. Raises FileExistsError, OSError.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        metadata: dict[str, str] | None = None,
        source_header: bytes | None = None,
        encoder: dict[str, Any] | None = None,
        force: bool = False,
        minor: int = 0,
    ) -> None:
        self.metadata, self.source_header, self.encoder, self.minor = metadata, source_header, encoder, minor
        self.order: Sequence[str] | None = None
        self._names: dict[str, int] = {}
        self._records: list[bytes] = []
        self._aliases: dict[int, Alias] = {}
        self._resources: list[bytes] = []
        self._heights: list[int] = []
        self._shared: dict[Resource, Ref] = {}
        self._extents, self._checksums, self._first_chunk = array("Q"), array("Q"), array("Q")
        self._pool = Pool()
        self._usable = True
        self._target: Target = open_target(target, force)
        try:
            self._target.write(Prologue().pack())
            self._target.write(self._padding())
        except BaseException:
            self.abort()
            raise

    def add(self, name: str, spec: Spec, section: Section, digest: bytes, source: bytes | None = None, tolerant: bool = False) -> int:
        """Write a tensor's streams and keep its record; return its position.

        digest, source, tolerant: as in `TensorRecord`. A Resource among the parts is stored when first met.
        Raises EncodeError [C-15, C-16, C-19, C-21, C-22] before anything is written;
        any other error leaves a writer that can only be aborted.
        """
        self._check_name(name)
        if len(digest) != 32 or (source is not None and len(source) not in (0, 32)):
            raise EncodeError("a digest does not have 32 bytes", at=name, rule="C-16")
        section = self._with_refs(section)
        self._measure(section, name)
        return self._keep(name, pack_record(TensorRecord(spec, section, digest, source, tolerant), self._placing()))

    def add_alias(self, name: str, index: int, tied: bool) -> int:
        """Let a name share the data of the tensor at an earlier position; return its own. Raises EncodeError [C-15, C-17]."""
        self._check_name(name)
        if not 0 <= index < len(self._records) or index in self._aliases:
            raise EncodeError(f"alias of {index}, which is no tensor", at=name, rule="C-17")
        self._aliases[len(self._records)] = Alias(index, tied)
        return self._keep(name, pack_record(Alias(index, tied), self._place))

    def add_resource(self, spec: Spec, section: Section) -> Ref:
        """Write a resource's streams and keep it; return the reference to it. Raises as `add`."""
        section = self._with_refs(section)
        levels = self._measure(section, f"resource {len(self._resources)}")
        self._resources.append(pack_resource(Resource(spec, section), self._placing()))
        self._usable = True
        self._heights.append(levels)
        return Ref(len(self._resources) - 1)

    def written(self, index: int) -> TensorRecord:
        """Parse a tensor's record as a reader would, with streams that read what was written. Raises FormatError, KeyError for an alias."""
        parser = SectionParser(self._stream, lambda resource, room: self._heights[resource])
        record = parser.record(self._records[index])
        if isinstance(record, Alias):
            raise KeyError(index)
        return record

    def written_resource(self, index: int) -> Resource:
        """Parse a resource as a reader would. Raises FormatError."""
        parser = SectionParser(self._stream, lambda resource, room: self._heights[resource])
        return parser.resource(self._resources[index])[0]

    def close(self) -> int:
        """Write manifest and trailer, make the file durable under its name, and return its size.

        Raises EncodeError [C-9], FileExistsError, OSError; then the file does not exist.
        """
        if not self._usable:
            raise ValueError("the writer is closed, or an earlier error left it incomplete")
        try:
            self._finish()
        except BaseException:
            self.abort()
            raise
        self._usable = False
        return self._target.position

    def size(self) -> int:
        """Return the size that the file would have if it were closed now. Raises EncodeError [C-9]."""
        return align(self._target.position) + len(self._packed()[0]) + Trailer.SIZE

    def abort(self) -> None:
        """Remove what was written; harmless after `close`."""
        self._usable = False
        self._target.abort()

    def __enter__(self) -> ContainerWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._usable:
            self.close()
        else:
            self.abort()

    def _finish(self) -> None:
        self._target.write(self._padding())
        stored, compressed = self._packed()
        trailer = Trailer(self._target.position, len(stored), self.minor, compressed)
        trailer = Trailer(trailer.offset, trailer.length, trailer.minor, compressed, checksum(stored, trailer.head()))
        self._target.write(stored)
        self._target.write(trailer.pack())
        self._target.commit()

    def _packed(self) -> tuple[bytes, bool]:
        """Return the manifest as it is stored, and whether it is compressed."""
        names, records = self._ordered()
        manifest = Manifest(
            names=names,
            records=records,
            extents=np.array(self._extents, np.uint64).reshape(-1, 2),
            checksums=np.array(self._checksums, np.uint64),
            resources=self._resources,
            metadata=self.metadata,
            encoder=self.encoder,
            source_header=None if self.source_header is None else zstdframe.compress(self.source_header, LEVEL),
        )
        try:
            packed = manifest.pack()
        except FormatError as e:
            raise EncodeError(e.message, rule=e.rule) from None
        smaller = zstdframe.compress(packed, LEVEL)
        return (smaller, True) if len(smaller) < len(packed) else (packed, False)

    def _ordered(self) -> tuple[list[str], list[bytes]]:
        """Return names and records in the order that is asked for, which must have them all."""
        names = list(self._names)
        if self.order is None:
            return names, self._records
        asked = {name: place for place, name in enumerate(self.order)}
        indexes = sorted(range(len(names)), key=lambda index: asked[names[index]])
        places = {index: place for place, index in enumerate(indexes)}
        moved = {index: Alias(places[its.index], its.tied) for index, its in self._aliases.items()}
        records = [pack_record(moved[i], self._place) if i in moved else self._records[i] for i in indexes]
        return [names[i] for i in indexes], records

    def _check_name(self, name: str) -> None:
        if not self._usable:
            raise ValueError("the writer is closed, or an earlier error left it incomplete")
        try:
            check_names([name])
            name.encode()
        except (FormatError, UnicodeEncodeError) as e:
            raise EncodeError(str(getattr(e, "message", e)), at=repr(name[:80]), rule="C-15") from None
        if name in self._names:
            raise EncodeError("two tensors have the same name", at=name, rule="C-15")

    def _with_refs(self, section: Section) -> Section:
        """Store the resources below a section that are new, and return it with references in their places."""
        parts: dict[str, Part] = {}
        for key in sorted(section.parts):
            part = section.parts[key]
            if isinstance(part, Resource):
                ref = self._shared.get(part)
                parts[key] = self._shared[part] = self.add_resource(part.spec, part.section) if ref is None else ref
            else:
                parts[key] = self._with_refs(part) if isinstance(part, Section) else part
        return Section(section.codec, section.params, parts) if parts != section.parts else section

    def _measure(self, section: Section, at: str) -> int:
        try:
            return height(section, self._heights)
        except FormatError as e:
            raise EncodeError(e.message, at=at, rule=e.rule) from None

    def _keep(self, name: str, record: bytes) -> int:
        self._usable = True
        self._names[name] = len(self._records)
        self._records.append(record)
        return len(self._records) - 1

    def _placing(self) -> partial[int | bytes]:
        """Streams go to the file from here on: until their record is kept, an error leaves streams that nothing names."""
        self._usable = False
        return partial(self._place)

    def _place(self, stream: Stream) -> int | bytes:
        """Write a stream at the next multiple of 64 and return its index, or return the bytes of a small one."""
        if stream.size <= INLINE:
            with stream.read(0, stream.size) as data:
                return data.tobytes()
        begin = align(self._target.position)
        self._extents.extend((begin, stream.size))
        self._first_chunk.append(len(self._checksums))
        for start in range(0, stream.size, _PIECE):
            with stream.read(start, min(start + _PIECE, stream.size)) as data:
                self._checksums.extend(chunk_checksums(data))
                self._target.write(self._padding(), data)
        return len(self._extents) // 2 - 1

    def _padding(self) -> bytes:
        return bytes(align(self._target.position) - self._target.position)

    def _stream(self, index: int) -> Stream:
        offset, size = self._extents[2 * index : 2 * index + 2]
        first = self._first_chunk[index]
        sums = np.array(self._checksums[first : first + -(-size // CHUNK)], np.uint64)
        return FileStream(self._target, self._pool, offset, size, sums)
