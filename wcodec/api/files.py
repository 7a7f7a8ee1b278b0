"""A checkpoint as one sees it from outside: one file or a folder of shards, ``.wcodec`` or safetensors, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from wcodec.api import indexes
from wcodec.api.opened import Framework, Opened
from wcodec.api.work import pieces
from wcodec.codecs import Env
from wcodec.container import shards
from wcodec.container.safetensors import Entry, SafetensorsFile
from wcodec.types import Limits, Spec, UInts

MAGIC = bytes.fromhex("d757434443")


def _no_wrap(flat: UInts, spec: Spec) -> Any:
    return flat


STORAGE = Framework(_no_wrap, lambda out, spec: out)
"""Tensors as flat storage elements."""


def suffix_of(path: Path) -> str:
    """Tell whether a path is a ``.wcodec`` or a safetensors checkpoint, by content for files and by name for folders."""
    if path.is_dir():
        wcodec = any(path.glob(f"*{shards.WCODEC}")) or any(path.glob(f"*{shards.WCODEC}.index.json"))
        return shards.WCODEC if wcodec else shards.SAFETENSORS
    if path.name.endswith(".index.json"):
        return shards.WCODEC if path.name.endswith(f"{shards.WCODEC}.index.json") else shards.SAFETENSORS
    with path.open("rb") as file:
        head = file.read(9)
    # Anything that is not plainly safetensors goes to the wcodec reader, whose message says what the file looks like.
    plain = not head.startswith(MAGIC) and (path.suffix == shards.SAFETENSORS or head[8:] == b"{")
    return shards.SAFETENSORS if plain else shards.WCODEC


def matches(name: str, include: Sequence[str]) -> bool:
    """Tell whether a tensor name matches one of the globs; no globs match all."""
    return not include or any(fnmatchcase(name, glob) for glob in include)


def open_shards(path: Path, stack: ExitStack, **options: Any) -> dict[str, Opened]:
    """Open a ``.wcodec`` file, or all shards of a folder or index, checked against the index. Raises FormatError, OSError."""
    index_path = indexes.find(path, shards.WCODEC)
    found = {file.name: stack.enter_context(Opened(file, STORAGE, **options)) for file in shards.shards_of(path, shards.WCODEC)}
    if index_path is not None:
        index = shards.read_index(index_path, shards.WCODEC)
        for name, opened in found.items():
            index.check_shard(name, opened.reader.manifest_digest, opened.offset_keys())
    return found


class Checkpoint:
    """The tensors of a checkpoint, whatever its format; names in stored order, shard after shard. Use as a context manager."""

    def __init__(self, path: str | Path, *, threads: int | None = None, kernels: str = "auto", limits: Limits | None = None) -> None:
        self._stack = ExitStack()
        self._opened: dict[str, Opened] = {}
        self._plain: dict[str, tuple[SafetensorsFile, Entry]] = {}
        self.metadata: dict[str, str] = {}
        path = Path(path)
        try:
            if suffix_of(path) == shards.WCODEC:
                for opened in open_shards(path, self._stack, threads=threads, kernels=kernels, limits=limits).values():
                    self._opened |= dict.fromkeys(opened.offset_keys(), opened)
                    self.metadata |= opened.metadata() or {}
            else:
                for file_path in shards.shards_of(path, shards.SAFETENSORS):
                    file = self._stack.enter_context(SafetensorsFile(file_path))
                    self._plain |= {entry.name: (file, entry) for entry in file.entries}
                    self.metadata |= file.metadata or {}
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._stack.close()

    @property
    def names(self) -> list[str]:
        """Tensor names in stored order."""
        return list(self._opened or self._plain)

    def spec(self, name: str) -> Spec:
        """Return the dtype and shape of a tensor."""
        return self._opened[name].record(name).spec if self._opened else self._plain[name][1].spec

    def opened(self, name: str) -> Opened | None:
        """Return the ``.wcodec`` file that holds a tensor; None for safetensors."""
        return self._opened.get(name)

    def windows(self, name: str, env: Env, size: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of storage elements of about ``size`` that can be read apart."""
        if self._opened:
            record = self._opened[name].record(name)
            return pieces(record.section, record.spec, env, size)
        count = self.spec(name).count
        return ((at, min(at + size, count)) for at in range(0, count, size))

    def read(self, name: str, start: int, stop: int, out: UInts) -> None:
        """Decode or read storage elements start … stop − 1 of a tensor into out."""
        if self._opened:
            self._opened[name].decode_window(name, start, stop, out)
        else:
            file, entry = self._plain[name]
            file.read(entry, start * out.itemsize, stop * out.itemsize, out.view(np.uint8))
