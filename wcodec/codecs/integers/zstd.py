"""zstd: bytes with repetitions, as one frame (spec/codecs/zstd.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs.base import Codec, Env, Expected, StreamOf, stream_of
from wcodec.container import zstdframe
from wcodec.errors import EncodeError
from wcodec.types import MemoryStream, Section, Spec, UInts


class Zstd(Codec):
    """Stores one zstd frame. Options: level (default 3)."""

    name = "zstd"
    options = frozenset({"level"})
    host: ClassVar[str] = "a frame is one chain of copies, each from what the ones before it made"
    host_encode: ClassVar[str] = host
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"level": 9})

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        return {"data": StreamOf()}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return max(1, spec.count)

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        stream = stream_of(section, "data")
        with stream.read(0, stream.size) as data:
            if stop - start == spec.count:
                zstdframe.decompress_into(data, out.view(np.uint8), "ZSTD-1")
                return
            with env.borrow(spec.count, out.dtype) as whole:
                zstdframe.decompress_into(data, whole.view(np.uint8), "ZSTD-1")
                out[:] = whole[start:stop]

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        if not x.size:
            raise EncodeError("zstd takes arrays with at least one element")
        frame = zstdframe.compress(x.view(np.uint8), options.get("level", 3))
        return Section("zstd", {}, {"data": MemoryStream(np.frombuffer(frame, np.uint8))})
