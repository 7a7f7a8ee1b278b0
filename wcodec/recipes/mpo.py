"""mpo: matrices as matrix product operators (CompactifAI, arXiv 2401.14109)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from wcodec.codecs import Env
from wcodec.codecs.base import stored_size
from wcodec.codecs.lossless import Config, encode_part, lossless
from wcodec.errors import EncodeError
from wcodec.recipes.base import Method, require
from wcodec.types import Section, Spec, UInts


@dataclass
class Mpo(Method):
    """Store every matrix as a tensor train.

    bond (the largest), error (relative), keep (share of the parameters, 0.5): how long the bonds are. sites: cores of a matrix.
    cores: config of every core.
    """

    bond: int | None = None
    error: float | None = None
    keep: float | None = None
    sites: int = 3
    cores: Config | None = None
    name: ClassVar[str] = "mpo"
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        given = sum(value is not None for value in (self.bond, self.error, self.keep))
        require(given <= 1, "mpo: bond, error and keep exclude each other")

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        options = {"bond": self.bond, "error": self.error, "keep": self.keep, "sites": self.sites, "cores": self.cores}
        found = encode_part(x, spec, env, {"codec": "tensortrain", **options})
        if stored_size(found) >= stored_size(lossless(x, spec, env)):
            raise EncodeError("the tensor train is not smaller")
        return found
