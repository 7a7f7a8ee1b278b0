"""raw: the elements' bytes as they are (spec/codecs/raw.md)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from wcodec.codecs.base import Codec, Env, Expected, StreamOf, stream_of
from wcodec.types import Section, Spec, UInts


class Raw(Codec):
    """Stores bytes unchanged."""

    name = "raw"
    options = frozenset()
    host_encode = ""

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        return {"data": StreamOf(spec.size, "RAW-1")}

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        size = spec.dtype.storage.itemsize
        with stream_of(section, "data").read(start * size, stop * size) as data:
            env.backend.load(data, out)

    def lend(self, section: Section, spec: Spec, env: Env, start: int, stop: int) -> AbstractContextManager[UInts]:
        if spec.dtype.storage.itemsize > 1:  # a stream may begin anywhere
            return super().lend(section, spec, env, start, stop)
        return env.bytes(stream_of(section, "data"), start, stop)

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        return Section("raw", {}, {"data": env.backend.stream(x)})
