"""Where bytes come from, and streams that check every chunk they touch (spec/container.md, C-13)."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
from xxhash import xxh3_64_intdigest

from wcodec.coding.memory import ALONE, aligned
from wcodec.container.layout import CHUNK, BytesLike, octets
from wcodec.errors import Corrupt, Truncated
from wcodec.types import U8, U64

_RETAINED = 1 << 28


class Source(Protocol):
    """Random access to the bytes of a file. Reading a closed one raises OSError."""

    @property
    def size(self) -> int: ...
    def view(self, start: int, stop: int) -> U8 | None:
        """Return the bytes without copying them, None where this source cannot."""

    def read_into(self, start: int, out: U8) -> None:
        """Fill out. Raises Truncated when the source ends before."""

    def close(self) -> None: ...


class FileSource:
    """A file read by pread: safe for threads and after fork."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            mode = os.fstat(self._fd)
            if not stat.S_ISREG(mode.st_mode):
                raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
            self.size = mode.st_size
        except BaseException:
            self.close()
            raise

    def view(self, start: int, stop: int) -> U8 | None:
        return None

    def read_into(self, start: int, out: U8) -> None:
        pread_into(self._fd, start, out)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # Streams may outlive the reader that made them; the last of them closes the file.
        if getattr(self, "_fd", -1) >= 0:
            self.close()


class ViewSource:
    """Bytes that are addressable: a buffer or a memory map."""

    def __init__(self, data: BytesLike | mmap.mmap) -> None:
        found = np.frombuffer(data, np.uint8)
        self._data: U8 | None = found
        self.size = found.size

    @classmethod
    def map(cls, path: str | os.PathLike[str]) -> ViewSource:
        """Map a file. A file that is cut while it is mapped kills the process: callers opt in."""
        with Path(path).open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                return cls(b"")
            return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def view(self, start: int, stop: int) -> U8:
        if self._data is None:
            raise OSError(errno.EBADF, "the file is closed")
        return self._data[start:stop]

    def read_into(self, start: int, out: U8) -> None:
        if start + out.size > self.size:
            raise Truncated(f"the file ends at byte {self.size}")
        out[:] = self.view(start, start + out.size)

    def close(self) -> None:
        # Views handed out keep the map alive; without any it is unmapped here.
        self._data = None


def open_source(source: str | os.PathLike[str] | BytesLike, backend: str) -> Source:
    """Open a path by backend "pread" or "mmap", or a bytes-like object. Raises ValueError, OSError."""
    if backend not in ("pread", "mmap"):
        raise ValueError(f"backend {backend!r} is neither 'pread' nor 'mmap'")
    if not isinstance(source, str | os.PathLike):
        return ViewSource(source)
    return ViewSource.map(source) if backend == "mmap" else FileSource(source)


_seek_lock = threading.Lock()


def pread_into(fd: int, start: int, out: U8) -> None:
    """Fill out from byte start of a file. Raises Truncated when the file ends before."""
    view = octets(out)
    at = 0
    while at < out.size:
        if hasattr(os, "preadv"):
            got = os.preadv(fd, [view[at:]], start + at)
        else:  # Windows
            with _seek_lock:
                os.lseek(fd, start + at, os.SEEK_SET)
                data = os.read(fd, min(out.size - at, 1 << 30))
            view[at : at + len(data)] = data
            got = len(data)
        if not got:
            raise Truncated(f"the file ends at byte {start + at}, {out.size - at} more were expected")
        at += got


class Pool:
    """Buffers to read into, kept because touching fresh memory costs more than reading does.

    Keeps at most 256 MiB, or one larger buffer. Nobody waits for its lock, so that a fork cannot leave it locked for ever:
    who does not get it goes without.
    """

    def __init__(self) -> None:
        self._free: list[U8] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> U8:
        """Return a buffer of at least size bytes."""
        if self._lock.acquire(blocking=False):
            try:
                fits = [i for i, b in enumerate(self._free) if size <= b.size <= max(4 * size, 4 * CHUNK)]
                if fits:
                    return self._free.pop(min(fits, key=lambda i: self._free[i].size))
            finally:
                self._lock.release()
        step = CHUNK if size <= CHUNK else ALONE
        return aligned(-(-size // step) * step)

    def give(self, buffer: U8) -> None:
        """Take a buffer back."""
        if self._lock.acquire(blocking=False):
            try:
                self._free.append(buffer)
                while len(self._free) > 1 and sum(b.size for b in self._free) > _RETAINED:
                    self._free.pop(0)
            finally:
                self._lock.release()

    def clear(self) -> None:
        """Let all buffers go."""
        self._free = []


@dataclass(slots=True, eq=False)
class FileStream:
    """A stream of a file.

    offset, size: of its extent. checksums: XXH3-64 of every 1 MiB of it. at: for errors.
    """

    source: Source
    pool: Pool
    offset: int
    size: int
    checksums: U64
    at: str | None = None

    def read(self, start: int, stop: int) -> FileView:
        """Read bytes start to stop, checked, valid inside the ``with`` block. Raises Corrupt [C-13], Truncated on entry."""
        if not 0 <= start <= stop <= self.size:
            raise ValueError(f"bytes {start} to {stop} of a stream of {self.size}")
        return FileView(self, start, stop)


class FileView:
    """The context manager that reads, checks, and gives the buffer back."""

    __slots__ = ("_buffer", "_range", "_stream")

    def __init__(self, stream: FileStream, start: int, stop: int) -> None:
        self._stream, self._range = stream, (start, stop)
        self._buffer: U8 | None = None

    def __enter__(self) -> U8:
        stream, (start, stop) = self._stream, self._range
        if start == stop:
            return np.zeros(0, np.uint8)
        first = start // CHUNK
        begin, end = first * CHUNK, min(-(-stop // CHUNK) * CHUNK, stream.size)
        covering = stream.source.view(stream.offset + begin, stream.offset + end)
        if covering is None:
            self._buffer = stream.pool.take(end - begin)
            covering = self._buffer[: end - begin]
        try:
            if self._buffer is not None:
                stream.source.read_into(stream.offset + begin, covering)
            _check_chunks(covering, stream.checksums, first)
        except (Corrupt, Truncated) as e:
            self.__exit__(None, None, None)
            raise (e.inside(stream.at) if stream.at else e) from None
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return covering[start - begin : stop - begin]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._buffer is not None:
            buffer, self._buffer = self._buffer, None
            self._stream.pool.give(buffer)


def chunk_checksums(data: U8) -> list[int]:
    """XXH3-64 of every 1 MiB of data."""
    if data.size <= CHUNK:
        return [xxh3_64_intdigest(data.data)] if data.size else []
    return [xxh3_64_intdigest(data[at : at + CHUNK].data) for at in range(0, data.size, CHUNK)]


def _check_chunks(data: U8, checksums: U64, first: int) -> None:
    found = chunk_checksums(data)
    stored = checksums[first : first + len(found)].tolist()
    if found != stored:
        wrong = next(i for i, (one, other) in enumerate(zip(found, stored, strict=True), first) if one != other)
        raise Corrupt(f"chunk {wrong} of a stream does not have its checksum", rule="C-13")
