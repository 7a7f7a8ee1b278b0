"""archive: every bit kept in fewer bytes, more slowly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from wcodec.codecs import Env
from wcodec.codecs.floats.archive import archive
from wcodec.codecs.lossless import lossless
from wcodec.recipes.base import Method
from wcodec.types import Section, Spec, UInts


@dataclass
class Archive(Method):
    """Keep every bit, in fewer bytes than by default: exponents are coded by the scales of their rows and columns.

    Encodes and decodes more slowly; as random-access and as exact as the default.
    """

    name: ClassVar[str] = "archive"
    lossless: ClassVar[bool] = True
    notes: list[str] = field(default_factory=list, init=False)

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        return archive(lossless(x, spec, env), spec, env)
