"""Open a `.wcodec` file: check what it says, hand out records and streams (spec/container.md)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import cast

import numpy as np
from blake3 import blake3

from wcodec.container import safetensors, sniff
from wcodec.container.digest import content_digest
from wcodec.container.layout import CHUNK, BytesLike, Prologue, Trailer, align
from wcodec.container.manifest import Manifest
from wcodec.container.records import MAX_DEPTH, Alias, Record, SectionParser, TensorRecord
from wcodec.container.streams import FileStream, Pool, Source, open_source
from wcodec.errors import Corrupt, NotAContainer, WcodecError
from wcodec.types import U8, Resource, Spec, Stream

TAIL = 1 << 16
_PIECE = 16 * CHUNK


class ContainerReader:
    """An open file. Opening checks prologue, trailer and manifest; records are parsed when first asked for.

    source: path, bytes-like object, or `Source`. backend: "pread" into private buffers, or "mmap" for views of the file.
    Safe for many threads, and for processes forked after opening. Raises FormatError, LimitExceeded, OSError.
    """

    def __init__(self, source: str | os.PathLike[str] | BytesLike | Source, *, backend: str = "pread") -> None:
        self._where = os.fspath(source) if isinstance(source, str | os.PathLike) else None
        ready = isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | np.ndarray)
        self._source: Source = open_source(cast(BytesLike, source), backend) if ready else cast(Source, source)
        self._pool = Pool()
        self._records: dict[int, Record] = {}
        self._resources: dict[int, tuple[Resource, int]] = {}
        self.size = self._source.size
        try:
            self._open()
        except WcodecError as e:
            self.close()
            raise (e.inside(self._where) if self._where else e) from None
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Check sections 1 to 3 in the order of their rules."""
        head = self._bytes(0, min(self.size, 4096))
        try:
            Prologue.unpack(head[: Prologue.LAYOUT.size])
        except NotAContainer as e:
            raise NotAContainer(f"not a wcodec file: {sniff.describe(head, self.size)}", rule=e.rule) from None
        tail_at = max(0, self.size - TAIL)
        tail = self._bytes(tail_at, self.size)
        end = tail[-Trailer.SIZE :]
        trailer = Trailer.unpack(end, self.size)
        if trailer.offset >= tail_at:
            stored = tail[trailer.offset - tail_at : -Trailer.SIZE]
        else:
            stored = self._bytes(trailer.offset, trailer.offset + trailer.length)
        trailer.check(stored, end)
        self.minor = trailer.minor
        self.manifest = Manifest.unpack(stored, trailer.compressed, trailer.offset)
        self._trailer, self._stored = trailer, (stored if trailer.length < TAIL else None)

    def __enter__(self) -> ContainerReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; streams handed out cannot be read afterwards."""
        self._source.close()
        self._pool.clear()

    @property
    def names(self) -> Sequence[str]:
        """Tensor names in stored order."""
        return self.manifest.names

    @property
    def manifest_digest(self) -> bytes:
        """BLAKE3-256 of the stored manifest. Spec: section 9."""
        offset, length = self._trailer.offset, self._trailer.length
        stored = self._bytes(offset, offset + length) if self._stored is None else self._stored
        return bytes(blake3(stored).digest())

    def record(self, key: int | str) -> Record:
        """Parse the record of a tensor by position or name; later calls return the same object.

        Raises Corrupt [C-16 to C-22, C-26], UnsupportedVersion [C-10] with `at` = the name; KeyError, IndexError.
        """
        index = self.manifest.index[key] if isinstance(key, str) else range(len(self.names))[key]
        record = self._records.get(index)
        if record is None:
            record = self._records.setdefault(index, self._parse(index, self._stream))
        return record

    def target(self, key: int | str) -> TensorRecord:
        """Return the record that holds the data of a name: its own, or its alias's. Raises as `record`."""
        record = self.record(key)
        return cast(TensorRecord, self.record(record.index)) if isinstance(record, Alias) else record

    def resource(self, index: int) -> Resource:
        """Parse a resource; later calls return the same object. Raises Corrupt [C-16, C-18 to C-22, C-26], UnsupportedVersion [C-10]."""
        return self._resource(index, MAX_DEPTH)[0]

    def stream(self, index: int) -> Stream:
        """Return the stream of an extent. Raises Corrupt [C-19] where there is none."""
        return self._stream(index)

    def content_digest(self) -> bytes:
        """Digest names, dtypes, shapes and digests of all tensors. Spec: section 8. Raises as `record`."""
        return content_digest((name, target.spec, target.digest) for name, target in zip(self.names, self._targets(), strict=True))

    def specs(self) -> list[tuple[str, Spec]]:
        """Names and specs in stored order, aliases having their target's."""
        return [(name, target.spec) for name, target in zip(self.names, self._targets(), strict=True)]

    def _targets(self) -> list[TensorRecord]:
        return [self.target(i) for i in range(len(self.names))]

    def check_header(self) -> None:
        """Check that a kept source header says what the manifest says. Raises Corrupt [C-9, C-27], and as `record`."""
        header = self.manifest.kept_header()
        if header is not None and not safetensors.header_matches(header, self.specs(), self.manifest.metadata):
            raise Corrupt("the kept header differs from the manifest", at=self._where, rule="C-27")

    def check_everything(self, progress: Callable[[int], object] | None = None) -> None:
        """Read the whole file: every chunk's checksum, padding, every record, and that every extent is named once.

        progress: called with the number of stream bytes read since the last call.
        Raises FormatError [C-13, C-14, C-16 to C-22, C-25 to C-27].
        """
        self._check_named_once()
        self.check_header()
        # Extents and voids lie in order and without holes but for the padding, so that only their ends matter.
        regions = np.concatenate([self.manifest.extents, self.manifest.voids])
        ends = [Prologue.LAYOUT.size, *(int(offset) + int(length) for offset, length in regions)]
        for end in ends:
            if end != align(end) and self._bytes(end, align(end)).strip(b"\0"):
                raise Corrupt(f"padding at byte {end} is not zero", at=self._where, rule="C-14")
        for index in range(len(self.manifest.extents)):
            stream = self._stream(index, at=f"stream {index}")
            for start in range(0, stream.size, _PIECE):
                stop = min(start + _PIECE, stream.size)
                with stream.read(start, stop):
                    pass
                if progress:
                    progress(stop - start)

    def _check_named_once(self) -> None:
        """Parse everything and count. Spec: C-25."""
        named = np.zeros(len(self.manifest.extents), np.int64)

        def count(index: int, at: str | None = None) -> FileStream:
            stream = self._stream(index, at)
            named[index] += 1
            return stream

        for i in range(len(self.names)):
            self._parse(i, count)
        for i in range(len(self.manifest.resources)):
            self._parse_resource(i, MAX_DEPTH, count)
        wrong = np.flatnonzero(named != 1)
        if wrong.size:
            raise Corrupt(f"stream {wrong[0]} is named {named[wrong[0]]} times", at=self._where, rule="C-25")

    def _bytes(self, start: int, stop: int) -> bytes:
        out: U8 = np.empty(stop - start, np.uint8)
        self._source.read_into(start, out)
        return out.tobytes()

    def _stream(self, index: int, at: str | None = None) -> FileStream:
        if not 0 <= index < len(self.manifest.extents):
            raise Corrupt(f"there is no stream {index}", rule="C-19")
        offset, length = self.manifest.extents[index].tolist()
        first, last = self.manifest.first_chunk[index : index + 2].tolist()
        return FileStream(self._source, self._pool, offset, length, self.manifest.checksums[first:last], at)

    def _parse(self, index: int, stream: Callable[..., FileStream]) -> Record:
        """Parse one record and check where an alias points."""
        name = self.names[index]
        parser = SectionParser(partial(stream, at=name), partial(self._height, below=len(self.manifest.resources)))
        try:
            record = parser.record(self.manifest.records[index])
            if isinstance(record, Alias):
                self._check_alias(record)
        except WcodecError as e:
            raise e.inside(name) from None
        return record

    def _check_alias(self, alias: Alias) -> None:
        if not 0 <= alias.index < len(self.names):
            raise Corrupt(f"alias of tensor {alias.index}, which is not there", rule="C-17")
        # A parser of its own: record() would follow a ring of aliases for ever.
        parser = SectionParser(self._stream, partial(self._height, below=len(self.manifest.resources)))
        if alias.index not in self._records and isinstance(parser.record(self.manifest.records[alias.index]), Alias):
            raise Corrupt("alias of an alias", rule="C-17")
        if isinstance(self._records.get(alias.index), Alias):
            raise Corrupt("alias of an alias", rule="C-17")

    def _resource(self, index: int, room: int) -> tuple[Resource, int]:
        """Parse a resource whose section may have that many levels, and remember it with the levels it has."""
        known = self._resources.get(index)
        if known is None:
            known = self._resources.setdefault(index, self._parse_resource(index, room, self._stream))
        return known

    def _parse_resource(self, index: int, room: int, stream: Callable[..., FileStream]) -> tuple[Resource, int]:
        at = f"resource {index}"
        if not 0 <= index < len(self.manifest.resources):
            raise Corrupt(f"there is no {at}", rule="C-19")
        parser = SectionParser(partial(stream, at=at), partial(self._height, below=index))
        try:
            return parser.resource(self.manifest.resources[index], room)
        except WcodecError as e:
            raise e.inside(at) from None

    def _height(self, index: int, room: int, *, below: int) -> int:
        """Levels below a reference; every step of the recursion takes one from room, so that no chain is long."""
        if below <= index < len(self.manifest.resources):
            raise Corrupt(f"a resource refers to resource {index}, which is not before it", rule="C-21")
        height = self._resource(index, room)[1] if room else MAX_DEPTH
        if height > room:
            raise Corrupt(f"sections nest more than {MAX_DEPTH} deep", rule="C-21")
        return height
