"""Writer: a file from results that a method already has."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import blake3
import numpy as np

from wcodec.api.opened import inside
from wcodec.api.outcome import Outcome, judge, parts_digest
from wcodec.api.work import make_env
from wcodec.codecs import check
from wcodec.codecs.base import exact
from wcodec.container.writer import ContainerWriter
from wcodec.errors import EncodeError
from wcodec.numpy import spec_of
from wcodec.sections import Array, Coded, lossless


class Writer:
    """A ``.wcodec`` file in the making, which gets its name only once it is whole; use as a context manager.

    target: a path or a binary buffer. method: what the file should say made it. force: replace an existing file.
    Tensors are stored in the order in which they are added. Raises FileExistsError, OSError.
    """

    def __init__(
        self, target: str | Path | BinaryIO, *, metadata: Mapping[str, str] | None = None, method: str = "", force: bool = False
    ) -> None:
        encoder = {"version": version("wcodec")} | ({"recipe": method} if method else {})
        self._file = ContainerWriter(target, metadata=None if metadata is None else dict(metadata), encoder=encoder, force=force)
        self._env = make_env().within(self._file.written_resource)
        self._at: dict[str, int] = {}

    def add(self, name: str, tensor: Coded | Array, source: Array | None = None) -> None:
        """Store a tensor: a section of ``wcodec.sections``, or an array, losslessly.

        source: the original values, so that the file can say whether they come back. The tensor is decoded for its digest and read
        back from the file. Raises EncodeError, FormatError.
        """
        with inside(name):
            source = tensor if source is None and not isinstance(tensor, Coded) else source
            coded = tensor if isinstance(tensor, Coded) else lossless(tensor)
            check(coded.section, coded.spec, self._env)
            outcome = self._judge(coded, source)
            at = self._file.add(name, coded.spec, coded.section, outcome.digest, outcome.source, outcome.tolerant)
            written = self._file.written(at)
            check(written.section, written.spec, self._env)
            if parts_digest(written.section, written.spec, self._env) != outcome.digest:
                raise EncodeError("the tensor does not read back as it was given (please report this)")
            self._at[name] = at

    def _judge(self, coded: Coded, source: Array | None) -> Outcome:
        if source is None:
            return Outcome(parts_digest(coded.section, coded.spec, self._env), b"", not exact(coded.section, self._env))
        spec = spec_of(source)
        if spec != coded.spec:
            raise EncodeError(f"the source is {spec}, the section {coded.spec}")
        data = np.ascontiguousarray(source).reshape(-1).view(spec.dtype.storage)
        return judge(coded.section, spec, data, blake3.blake3(data.view(np.uint8).data).digest(), self._env)

    def alias(self, name: str, of: str, *, tied: bool = True) -> None:
        """Let a name share the data of a tensor added before; tied: frameworks share the storage too. Raises KeyError, EncodeError."""
        self._file.add_alias(name, self._at[of], tied)

    def close(self) -> int:
        """Finish the file and return its size. Raises OSError; then there is no file."""
        return self._file.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> Any:
        return self._file.__exit__(kind, error, trace)


__all__ = ["Writer"]
