"""const: an array whose storage elements are all equal (spec/codecs/const.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wcodec.codecs.base import Codec, Env, Expected
from wcodec.codecs.params import blob
from wcodec.errors import EncodeError
from wcodec.types import Section, Spec, UInts


class Const(Codec):
    """Stores one value."""

    name = "const"
    params = frozenset({"value"})
    options = frozenset()
    host_encode = ""

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        blob(section.params, "value", spec.dtype.storage.itemsize, "CONST-1")
        return {}

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        env.backend.fill(out, int.from_bytes(section.params["value"], "little"))

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        if not env.backend.constant(x):
            raise EncodeError("const takes arrays with one distinct value")
        return Section("const", {"value": env.backend.to_host(x[:1]).tobytes() if len(x) else bytes(spec.dtype.storage.itemsize)})
