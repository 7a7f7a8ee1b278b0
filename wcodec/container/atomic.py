"""Files that exist only when whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from wcodec.container.layout import BytesLike, octets
from wcodec.container.streams import pread_into
from wcodec.errors import Truncated
from wcodec.types import U8


class Target(Protocol):
    """What writers write to: bytes go to the end, and can be read back before the commit."""

    position: int

    @property
    def size(self) -> int: ...
    def write(self, *pieces: BytesLike) -> None: ...
    def view(self, start: int, stop: int) -> U8 | None: ...
    def read_into(self, start: int, out: U8) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


def open_target(target: str | os.PathLike[str] | BinaryIO, force: bool) -> Target:
    """Open a path, or a buffer that can be written, read and sought. Raises FileExistsError without force, OSError."""
    return AtomicFile(target, force) if isinstance(target, str | os.PathLike) else BufferTarget(target)


def _write_some(fd: int, views: list[memoryview]) -> int:
    """Write some bytes of several runs with one call where the system can, and return how many."""
    return os.writev(fd, views) if hasattr(os, "writev") else os.write(fd, views[0][: 1 << 30])


class AtomicFile:
    """A random sibling of a path that takes its place on commit and is removed on abort.

    force: replace an existing file; without it, one that exists or comes into being meanwhile raises FileExistsError.
    """

    def __init__(self, path: str | os.PathLike[str], force: bool = False) -> None:
        self.path, self.position = Path(path), 0
        self._force = force
        if os.path.lexists(self.path):
            if not force:
                raise self._exists()
            if not self.path.is_symlink() and not self.path.is_file():
                raise FileExistsError(errno.EEXIST, "is a folder or a device", str(self.path))
        self._temp = self.path.parent / f".wcodec-{secrets.token_hex(8)}.tmp"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._fd = os.open(self._temp, flags, 0o666)

    @property
    def size(self) -> int:
        """Bytes written."""
        return self.position

    def write(self, *pieces: BytesLike) -> None:
        views = [view for piece in pieces if (view := octets(piece)).nbytes]
        while views:
            done = _write_some(self._fd, views)
            self.position += done
            while views and done >= views[0].nbytes:
                done -= views.pop(0).nbytes
            if done:
                views[0] = views[0][done:]

    def view(self, start: int, stop: int) -> U8 | None:
        return None

    def read_into(self, start: int, out: U8) -> None:
        pread_into(self._fd, start, out)

    def commit(self) -> None:
        """Make the file durable under its name; on failure nothing is left of it."""
        try:
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
            if self._force:
                self._temp.replace(self.path)
            else:
                self._publish()
        except BaseException:
            self.abort()
            raise
        self._sync_folder()

    def abort(self) -> None:
        """Remove what was written; harmless when called again or after a commit."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(FileNotFoundError):
            self._temp.unlink()

    close = abort

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.abort()

    def _publish(self) -> None:
        """Give the file its name unless somebody else took it. A link cannot overwrite; where there are none, a check must do."""
        try:
            os.link(self._temp, self.path)
        except FileExistsError:
            raise self._exists() from None
        except (OSError, AttributeError, NotImplementedError):
            if os.path.lexists(self.path):
                raise self._exists() from None
            self._temp.rename(self.path)
        else:
            self._temp.unlink()

    def _sync_folder(self) -> None:
        # Some systems cannot open a folder; the file itself is safe by now.
        with contextlib.suppress(OSError):
            fd = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _exists(self) -> FileExistsError:
        return FileExistsError(errno.EEXIST, "exists already, and overwriting it was not asked for", str(self.path))


class BufferTarget:
    """A binary buffer such as io.BytesIO, written from its beginning and emptied on abort."""

    def __init__(self, buffer: BinaryIO) -> None:
        self._buffer, self.position = buffer, 0
        self._done = False
        self._lock = threading.Lock()  # for the buffer has one position, and what is written is read back meanwhile
        buffer.seek(0)
        buffer.truncate()

    @property
    def size(self) -> int:
        """Bytes written."""
        return self.position

    def write(self, *pieces: BytesLike) -> None:
        with self._lock:
            self._buffer.seek(self.position)
            for piece in pieces:
                view = octets(piece)
                self._buffer.write(view)
                self.position += view.nbytes

    def view(self, start: int, stop: int) -> U8 | None:
        return None

    def read_into(self, start: int, out: U8) -> None:
        with self._lock:
            self._buffer.seek(start)
            data = self._buffer.read(out.size)
        if len(data) != out.size:
            raise Truncated(f"the buffer ends at byte {start + len(data)}")
        out[:] = np.frombuffer(data, np.uint8)

    def commit(self) -> None:
        self._done = True
        self._buffer.flush()

    def abort(self) -> None:
        if not self._done:
            self._done = True
            self._buffer.seek(0)
            self._buffer.truncate()

    close = abort
