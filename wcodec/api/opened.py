"""An open file: names, metadata, tensors and slices, decoded on demand."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Literal, cast

import numpy as np

from wcodec.api.crew import Crew, Task
from wcodec.api.slices import read_slice, read_slice_there
from wcodec.api.trees import stored_bytes, tree
from wcodec.api.work import make_env, pieces, thread_count
from wcodec.codecs import check, decode, decode_all
from wcodec.codecs.base import exact, find
from wcodec.coding.memory import ALONE, LINE, aligned
from wcodec.container.reader import ContainerReader
from wcodec.container.records import Alias, TensorRecord
from wcodec.errors import Corrupt, WcodecError
from wcodec.types import Limits, Spec, UInts


@dataclass(frozen=True, slots=True)
class Framework:
    """How a framework sees arrays. wrap: flat storage elements → its array. flat: its array → flat storage elements, without a copy."""

    wrap: Callable[[UInts, Spec], Any]
    flat: Callable[[Any, Spec], UInts]


class inside:
    """Say in errors that leave the block where they happened, once. A class: a generator costs more than many a tensor."""

    __slots__ = ("where",)

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, WcodecError) and not (error.at is not None and f"{error.at}: ".startswith(f"{self.where}: ")):
            error.inside(self.where)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """How a tensor is stored.

    tree: codec, params and parts as plain values, nested. size: bytes of its streams, shared resources not counted. lossless: its
    source's bytes come back. tolerant: the last bits may differ between machines. alias: name whose data it shares.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    tree: dict[str, Any]
    size: int
    lossless: bool
    tolerant: bool
    alias: str | None


ARENA = 1 << 25
"""Bytes that smaller arrays share at most: small pages would cost more to touch than to decode, one array kept keeps no more alive."""


LAUNCHED = 1 << 26
"""Storage elements that a device is given to decode at once, about, while the next ones are read."""


def allocate(specs: Mapping[str, Spec]) -> dict[str, UInts]:
    """Allocate flat arrays of storage elements, small ones side by side in memory that huge pages can back."""
    found: dict[str, UInts] = {}
    left = sum(-(-spec.size // LINE) * LINE for spec in specs.values() if spec.size < ALONE)
    room = np.empty(0, np.uint8)
    for name, spec in specs.items():
        if spec.size >= ALONE:
            found[name] = aligned(spec.size).view(spec.dtype.storage)
            continue
        size = -(-spec.size // LINE) * LINE
        if size > room.size:
            room = aligned(min(max(left, size), ARENA))
        found[name], room, left = room[: spec.size].view(spec.dtype.storage), room[size:], left - size
    return found


SMALL = 1 << 24
"""Bytes of a file up to which one read of everything, held while tensors are decoded, beats a read per stream into memory used again."""


def read_small(path: Any) -> Any:
    """Return the bytes of a small file, or the path of a larger one."""
    if not isinstance(path, str | Path):
        return path
    with Path(path).open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > SMALL:
            return path
        data = aligned(size)
        at = 0
        while at < data.size and (got := file.readinto(data[at:].data)):
            at += got
        return data[:at]


class Opened:
    """A ``.wcodec`` file opened for reading, as safetensors' ``safe_open`` (use ``wcodec.safe_open``).

    layers: parts of a ``sum`` to decode, all by default. device: where arrays are decoded, and stay.
    whole: all of the file will be read, so that a small one is best read at once.
    Safe for many threads. Tensors own their memory and outlive the file. Every stored byte that is read is checked (XXH3-64).
    Raises FormatError (damage, newer version), LimitExceeded, OSError.
    """

    def __init__(
        self,
        path: Any,
        framework: Framework,
        *,
        backend: Literal["pread", "mmap"] = "pread",
        threads: int | None = None,
        kernels: str = "auto",
        limits: Limits | None = None,
        layers: int | None = None,
        whole: bool = False,
        device: str = "cpu",
    ) -> None:
        self.path = str(path) if isinstance(path, str | Path) else "bytes"
        self._framework = framework
        with inside(self.path) if whole else nullcontext():
            self.reader = ContainerReader(read_small(path) if whole else path, backend=backend)
        self.env = make_env(kernels, self.reader, limits, device)
        self.env.layers = self.env.host.layers = layers
        self._copies = device != "cpu" and self.env.near is None  # decoded here after all
        self._threads = thread_count(threads)
        self._checked: dict[str, TensorRecord] = {}
        self._closed = False
        self._lock = Lock()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; tensors that were read stay valid, further ones raise OSError."""
        self._closed = True
        self.reader.close()

    def keys(self) -> list[str]:
        """Return the tensor names, sorted as safetensors does."""
        return sorted(self.reader.names)

    def offset_keys(self) -> list[str]:
        """Return the tensor names in the order of their bytes."""
        return list(self.reader.names)

    def metadata(self) -> dict[str, str] | None:
        """Return the metadata, or None when the file has none."""
        found = self.reader.manifest.metadata
        return None if found is None else dict(found)

    def alias(self, name: str) -> Alias | None:
        """Return what a name shares, or None when it has data of its own."""
        found = self._raw(name)
        return found if isinstance(found, Alias) else None

    def record(self, name: str) -> TensorRecord:
        """Return the checked record behind a name, following an alias."""
        if self._closed:
            raise OSError(errno.EBADF, "is closed", self.path)
        known = self._checked.get(name)
        if known is not None:
            return known
        found = self._raw(name)
        with inside(self.path):
            if isinstance(found, Alias):
                found = cast(TensorRecord, self.reader.record(found.index))
            with inside(name):
                check(found.section, found.spec, self.env)
                if exact(found.section, self.env) == found.tolerant:
                    raise Corrupt(f"the record says {'' if found.tolerant else 'not '}tolerant, its codecs do not", rule="C-31")
        with self._lock:
            return self._checked.setdefault(name, found)

    def _raw(self, name: str) -> TensorRecord | Alias:
        if name not in self.reader.manifest.index:
            raise KeyError(f"no tensor {name!r} in {self.path}")
        with inside(self.path):
            return self.reader.record(name)

    def get_tensor(self, name: str, out: Any = None) -> Any:
        """Decode a tensor; into ``out`` (same dtype and shape, contiguous) when given, which is then returned."""
        spec = self.record(name).spec
        if out is not None and self._copies:
            return out.copy_(self.get_tensor(name))
        flat = self._allocate({name: spec})[name] if out is None else self._framework.flat(out, spec)
        self.decode_into({name: flat})
        return self._framework.wrap(flat, spec) if out is None else out

    def get_tensors(self, names: Sequence[str] | None = None, out: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Decode several tensors (default: all) with all threads. Tied names give one array, other equal names one each.

        out: name → array to decode into, for each of the names, as in ``get_tensor``.
        """
        if out is not None and self._copies:
            return {name: self.get_tensor(name, out[name]) for name in (out if names is None else names)}
        if out is not None:
            names = list(out) if names is None else names
            self.decode_into({name: self._framework.flat(out[name], self.record(name).spec) for name in names})
            return {name: out[name] for name in names}
        names = self.offset_keys() if names is None else names
        chosen = set(names)
        first: dict[int, str] = {}
        tied: dict[str, str] = {}
        for name in names:
            alias = self.alias(name)
            index = self.reader.manifest.index[name] if alias is None else alias.index
            if alias is None or alias.tied:
                owner = first.setdefault(index, name)
                tied |= {name: owner} if owner != name else {}
        specs: dict[str, Spec] = {}
        flat: dict[str, UInts] = {}
        with Crew(self._threads if self.env.near is None else 1) as crew:
            begun: list[Task[None]] = []
            for name in names:
                spec = specs[name] = self.record(name).spec
                if crew.threads > 1 and spec.size >= ALONE and name not in tied and name not in flat:
                    flat |= allocate({name: spec})  # decoded while the records of others are read
                    begun += map(crew.start, self._calls({name: flat[name]}))
            rest = self._allocate({name: spec for name, spec in specs.items() if name not in tied and name not in flat})
            self.decode_into(rest, crew if begun else None)
            for task in begun:
                crew.result(task)
        flat |= rest
        found = {name: self._framework.wrap(array, specs[name]) for name, array in flat.items()}
        return {name: found[tied.get(name, name)] for name in names if name in chosen}

    def get_parts(self, name: str) -> dict[str, Any]:
        """Decode the parts of a tensor's section instead of the tensor: ``left`` and ``right`` of a low-rank one, say.

        A part that is a section or a shared resource becomes one array of its own dtype and shape; bare streams are left out.
        """
        record = self.record(name)
        expected = find(record.section, self.env).parts(record.section, record.spec)
        found: dict[str, Any] = {}
        with inside(self.path), inside(name):
            for key, spec in expected.items():
                if isinstance(spec, Spec):
                    found[key] = self._framework.wrap(decode_all(record.section.parts[key], spec, self.env), spec)
        return found

    def info(self, name: str) -> TensorInfo:
        """Describe how a tensor is stored, without decoding it."""
        record, alias = self.record(name), self.alias(name)
        owner = None if alias is None else self.reader.names[alias.index]
        size = stored_bytes(record.section)
        return TensorInfo(
            name, record.spec.dtype.name, record.spec.shape, tree(record.section), size, record.lossless, record.tolerant, owner
        )

    def get_slice(self, name: str) -> Slice:
        """Return a view of a tensor that decodes only the blocks that an index meets."""
        return Slice(self, name, self.record(name))

    def _allocate(self, specs: Mapping[str, Spec]) -> dict[str, UInts]:
        if self.env.near is None:
            return allocate(specs)
        return {name: self.env.backend.empty(spec.count, spec.dtype.storage) for name, spec in specs.items()}

    def decode_into(self, arrays: Mapping[str, UInts], crew: Crew | None = None) -> None:
        """Decode tensors into flat arrays of storage elements, large ones in pieces, with all threads; on a device all together."""
        if self.env.near is not None:
            self._decode_there([(name, 0, len(out), out) for name, out in arrays.items()])
            return
        calls = self._calls(arrays)
        with nullcontext(crew) if crew else Crew(min(self._threads, len(calls) or 1)) as workers:
            workers.map(lambda call: call(), calls)

    def _calls(self, arrays: Mapping[str, UInts]) -> list[Callable[[], None]]:
        """Return calls that decode into arrays: in stored order, or for several threads those of the largest windows first."""
        windows = [(name, *window) for name in arrays for window in self.windows(name)]
        if self._threads > 1:
            windows.sort(key=lambda its: its[1] - its[2])
        return [partial(self._decode, name, start, stop, arrays[name][start:stop]) for name, start, stop in windows]

    def decode_window(self, name: str, start: int, stop: int, out: UInts) -> None:
        """Decode storage elements start … stop − 1 of a tensor into out."""
        if self.env.near is not None:
            self._decode_there([(name, start, stop, out)])
        else:
            self._decode(name, start, stop, out)

    def _decode(self, name: str, start: int, stop: int, out: UInts) -> None:
        record = self.record(name)
        with inside(self.path), inside(name):
            decode(record.section, record.spec, self.env, start, stop, out)

    def _decode_there(self, windows: Sequence[tuple[str, int, int, UInts]]) -> None:
        """Decode on a device: what is read and copied meanwhile is launched from time to time, and at the end what is wrong is raised."""
        backend: Any = self.env.backend
        with backend.batch() as batch:
            waiting = 0
            for name, start, stop, out in windows:
                with batch.tape(f"{self.path}: {name}"):
                    self._decode(name, start, stop, out)
                waiting += stop - start
                if waiting >= LAUNCHED:
                    batch.flush()
                    waiting = 0

    def windows(self, name: str) -> list[tuple[int, int]]:
        """Return windows (start, stop) of storage elements of a tensor that decode apart without waste."""
        record = self.record(name)
        found: list[tuple[int, int]] | None = record.memo.get("windows")
        if found is None:
            found = record.memo["windows"] = list(pieces(record.section, record.spec, self.env))
        return found

    def wrap(self, flat: UInts, spec: Spec) -> Any:
        """Turn flat storage elements into the framework's array."""
        return self._framework.wrap(flat, spec)


class Slice:
    """A tensor that is decoded where it is indexed, as safetensors' ``PySafeSlice``."""

    def __init__(self, opened: Opened, name: str, record: TensorRecord) -> None:
        self._opened, self._name, self._record = opened, name, record

    def get_shape(self) -> list[int]:
        """Return the shape of the whole tensor."""
        return list(self._record.spec.shape)

    def get_dtype(self) -> str:
        """Return safetensors' name of the dtype."""
        return self._record.spec.dtype.name

    def __getitem__(self, index: Any) -> Any:
        spec = self._record.spec
        if spec.dtype.bits < 8:
            raise TypeError(f"{spec.dtype.name} elements are parts of bytes and cannot be sliced; use get_tensor")

        def window(start: int, stop: int, out: UInts) -> None:
            self._opened.decode_window(self._name, start, stop, out)

        opened = self._opened
        from wcodec.codecs import unit

        if opened.env.near is not None:
            flat, shape = read_slice_there(spec, index, opened.env.backend.empty, window)
            return opened.wrap(flat, Spec(spec.dtype, shape))
        found = read_slice(spec, index, unit(self._record.section, spec, opened.env), opened.env.borrow, window)
        return opened.wrap(found.reshape(-1), Spec(spec.dtype, found.shape[: len(found.shape) - (spec.dtype.name == "C64")]))
