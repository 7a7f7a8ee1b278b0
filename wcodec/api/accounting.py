"""What papers count: parameters, values without positions, entropies. Whole-file bytes stand beside it, never instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

from wcodec.api.facts import references, resolve
from wcodec.api.statistics import Network
from wcodec.api.trees import stored_bytes
from wcodec.codecs import Env
from wcodec.codecs.base import find
from wcodec.types import Part, Ref, Section, Spec

METHODS: Mapping[str, str] = {
    "sparse": "kept values, no positions, nothing for a seed (DropBack, pruning, n:m)",
    "codebook": "⌈log₂ K⌉ bits per index, and centroids (GWK, PQ)",
    "lowrank": "parameters of the factors (rank-k)",
    "tensortrain": "parameters of the cores (MPO)",
    "uniform": "⌈log₂ levels⌉ bits per weight, no steps",
    "sum": "all layers, each by its own rule",
}
ENTROPY = "N · H: weights times the entropy of their values, no centroids (WFN)"
FREE = ("const", "philox", "mt19937", "draw")
"""Codecs that store a seed or a value: papers count nothing for them."""


@dataclass(slots=True)
class Account:
    """What a paper would count of the tensors of one method.

    rule: what is counted. dense: bytes decoded. counted: bytes by the rule, a shared part once. stored: bytes of their streams in the
    file, with shared resources, once each.
    """

    rule: str
    tensors: int = 0
    dense: int = 0
    counted: float = 0.0
    stored: int = 0

    @property
    def ratio(self) -> float:
        """How many times smaller than dense the rule makes it."""
        return self.dense / self.counted if self.counted else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        found = {key: getattr(self, key) for key in self.__slots__}
        return found | {"counted": ceil(self.counted), "ratio": round(self.ratio, 4)}


@dataclass(slots=True)
class Ledger:
    """Accounts by method, filled tensor by tensor."""

    accounts: dict[str, Account] = field(default_factory=dict)
    _seen: set[tuple[str, str, int]] = field(default_factory=set)

    def add(self, file: str, section: Section, spec: Spec, env: Env) -> None:
        """Count a checked tensor of a file."""
        if (method := method_of(section)) is None:
            return
        account = self.accounts.setdefault(method, Account(METHODS[method]))
        account.tensors += 1
        account.dense += spec.size
        account.counted += _bits(section, spec, spec.dtype.bits, env, lambda index: self._first("counted", file, index)) / 8
        account.stored += stored_bytes(section)
        for index in references(section, env.resource):
            if self._first(method, file, index):
                account.stored += stored_bytes(env.resource(index).section)

    def _first(self, what: str, file: str, index: int) -> bool:
        key = (what, file, index)
        self._seen.add(key) if (new := key not in self._seen) else None
        return new

    def rows(self, network: Network | None) -> list[Account]:
        """Return the accounts, the entropy of the network's values after the codebooks' own."""
        found = [self.accounts[method] for method in METHODS if method in self.accounts]
        book = self.accounts.get("codebook")
        if book is not None and network is not None:
            its = Account(ENTROPY, book.tensors, book.dense, network.weights * network.entropy / 8, book.stored)
            found.insert(found.index(book) + 1, its)
        return found


def method_of(section: Section) -> str | None:
    """Return the codec that a tensor is accounted under: its own, or the first such one among the parts of a ``concat``."""
    if section.codec == "concat":
        return next((found for part in section.parts.values() if isinstance(part, Section) and (found := method_of(part))), None)
    return section.codec if section.codec in METHODS else None


def _bits(part: Part, spec: Spec, dense: int, env: Env, first: Callable[[int], bool]) -> float:
    """Return the bits that papers count for a part. dense: bits of an uncoded element. first: a resource was not counted before."""
    if isinstance(part, Ref) and not first(part.index):
        return 0
    part = resolve(part, env)
    if part.codec in FREE:
        return 0
    below = {name: its for name, its in find(part, env).parts(part, spec).items() if isinstance(its, Spec)}

    def of(*names: str) -> float:
        return sum(_bits(part.parts[name], below[name], dense, env, first) for name in names if name in below)

    if part.codec == "sparse":
        return of("values", "fill")
    if part.codec == "codebook":
        return below["indices"].count * _width(part.params["centroids"]) + of("centroids")
    if part.codec == "uniform":
        return prod(spec.shape) * _width(part.params["levels"])
    if part.codec in ("lowrank", "tensortrain", "sum", "concat"):
        return of(*below)
    return prod(spec.shape) * dense


def _width(count: int) -> int:
    return int(count - 1).bit_length()
