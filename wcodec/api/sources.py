"""Where tensors to encode come from: files, memory, and all shards of a checkpoint together."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import numpy as np

from wcodec.codecs import Env
from wcodec.container.safetensors import Entry, SafetensorsFile
from wcodec.types import Spec, UInts


class Source(Protocol):
    """Tensors in stored order, read one at a time."""

    names: Sequence[str]

    def spec(self, index: int) -> Spec: ...
    def read(self, index: int, env: Env, stack: ExitStack) -> UInts: ...
    def there(self, index: int) -> Any | None: ...
    def tied(self, index: int) -> bool: ...


class FileSource:
    """Tensors of a safetensors file."""

    def __init__(self, file: SafetensorsFile, entries: Sequence[Entry]) -> None:
        self._file, self._entries = file, entries
        self.names: Sequence[str] = [entry.name for entry in entries]

    def spec(self, index: int) -> Spec:
        """Return dtype and shape."""
        return self._entries[index].spec

    def read(self, index: int, env: Env, stack: ExitStack) -> UInts:
        """Read the storage elements into memory that the stack gives back."""
        entry = self._entries[index]
        out, size = stack.enter_context(env.borrow(entry.spec.count, entry.spec.dtype.storage)), entry.spec.size
        data, step = out.view(np.uint8), max(1, -(-size // env.parallel))

        def piece(start: int) -> None:
            stop = min(start + step, size)
            self._file.read(entry, start, stop, data[start:stop])

        list(env.workers(piece, range(0, size, step)))
        return out

    def there(self, index: int) -> None:
        """Files are on no device."""

    def tied(self, index: int) -> bool:
        """Files do not say what was shared."""
        return False


class MemorySource:
    """Tensors in memory, numpy's or, as torch tensors of storage elements, that of a device; tied: names that share another's storage."""

    def __init__(self, tensors: Mapping[str, tuple[Spec, Any]], names: Sequence[str], tied: Container[str]) -> None:
        self._tensors, self._tied, self.names = tensors, tied, names

    def spec(self, index: int) -> Spec:
        """Return dtype and shape."""
        return self._tensors[self.names[index]][0]

    def read(self, index: int, env: Env, stack: ExitStack) -> UInts:
        """Return the storage elements, copied from a device."""
        spec, x = self._tensors[self.names[index]]
        found: UInts = x if isinstance(x, np.ndarray) else x.cpu().numpy().view(spec.dtype.storage)
        return found

    def there(self, index: int) -> Any | None:
        """Return the storage elements on their device; None when they are numpy's."""
        x = self._tensors[self.names[index]][1]
        return None if isinstance(x, np.ndarray) else x

    def tied(self, index: int) -> bool:
        """Tell whether the tensor shares another's storage."""
        return self.names[index] in self._tied


class SomeTensors:
    """Those tensors of a source that have one of some names."""

    def __init__(self, source: Source, names: Container[str]) -> None:
        self._source, self._at = source, [index for index, name in enumerate(source.names) if name in names]
        self.names: Sequence[str] = [source.names[index] for index in self._at]

    def spec(self, index: int) -> Spec:
        """Return dtype and shape."""
        return self._source.spec(self._at[index])

    def read(self, index: int, env: Env, stack: ExitStack) -> UInts:
        """Read the storage elements as the source does."""
        return self._source.read(self._at[index], env, stack)

    def there(self, index: int) -> Any | None:
        """Return the storage elements on their device, if they have one."""
        return self._source.there(self._at[index])

    def tied(self, index: int) -> bool:
        """Tell whether the tensor shares another's storage."""
        return self._source.tied(self._at[index])


class AllTensors:
    """The tensors of all shards by name, as methods look at them (``recipes.Tensors``). sources: target shard → its tensors.

    advance: called with the bytes of each tensor once a method has looked at it.
    """

    def __init__(self, sources: Mapping[str, Source], env: Env) -> None:
        self.advance: Callable[[int], None] | None = None
        self._at = {name: (shard, source, i) for shard, source in sources.items() for i, name in enumerate(source.names)}
        self._env = env
        self.names: Sequence[str] = list(self._at)

    def spec(self, name: str) -> Spec:
        """Return dtype and shape."""
        _, source, index = self._at[name]
        return source.spec(index)

    @contextmanager
    def read(self, name: str) -> Iterator[UInts]:
        """Lend the flat storage elements."""
        _, source, index = self._at[name]
        with ExitStack() as stack:
            yield source.read(index, self._env, stack)
        if self.advance is not None:
            self.advance(source.spec(index).size)

    def file(self, name: str) -> str:
        """Return the shard that the tensor goes to."""
        return self._at[name][0]
