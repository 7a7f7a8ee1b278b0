"""raw: the elements' bytes as they are (spec/codecs/raw.md)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from wcodec.codecs.base import Codec, Env, Expected, StreamOf, stream_of
from wcodec.types import MemoryStream, Section, Spec, UInts


class Raw(Codec):
    """Stores bytes unchanged."""

    name = "raw"
    options = frozenset()

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        return {"data": StreamOf(spec.size, "RAW-1")}

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        size = out.itemsize
        with stream_of(section, "data").read(start * size, stop * size) as data:
            out.view(np.uint8)[:] = data

    def lend(self, section: Section, spec: Spec, env: Env, start: int, stop: int) -> AbstractContextManager[UInts]:
        if spec.dtype.storage.itemsize > 1:  # a stream may begin anywhere
            return super().lend(section, spec, env, start, stop)
        found: AbstractContextManager[UInts] = stream_of(section, "data").read(start, stop)
        return found

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        return Section("raw", {}, {"data": MemoryStream(x.view(np.uint8))})
