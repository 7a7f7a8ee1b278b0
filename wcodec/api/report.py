"""What encoding did, and what a file holds: one row per tensor, and totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log2, prod
from typing import Any

from wcodec.api.outcome import Error
from wcodec.api.trees import stored_bytes
from wcodec.types import Section, Spec

TUNED = "\n--finetune: "
"""Stands in a file's recipe before the number of tensors that were fine-tuned."""


def describe(section: Section) -> str:
    """Return codecs and nesting in one line, such as ``planes(rans, raw)``; equal neighbours are counted."""
    inner: list[str] = []
    for _, part in sorted(section.parts.items(), key=lambda item: item[0] != "symbol"):
        if isinstance(part, Section):
            inner.append(describe(part))
    names = [f"{name}×{inner.count(name)}" if inner.count(name) > 1 else name for name in dict.fromkeys(inner)]
    return f"{section.codec}({', '.join(names)})" if names else section.codec


@dataclass(frozen=True, slots=True)
class TensorRow:
    """One tensor of a file. size: stored bytes of its streams. alias: name that it shares data with.

    error: what approximation cost, known when encoding. why: it stayed lossless although the recipe approximates others.
    tuned: fine-tuning changed its values, which are stored as they are then.
    """

    name: str
    dtype: str
    shape: list[int]
    codec: str
    size: int
    raw_size: int
    lossless: bool
    digest: str
    alias: str | None = None
    error: Error | None = None
    why: str = ""
    tuned: bool = False

    @property
    def bits(self) -> float:
        """Stored bits per element."""
        return 8 * self.size / self.count if self.count else 0.0

    @property
    def count(self) -> int:
        """Elements."""
        return prod(self.shape)

    @property
    def gap(self) -> float | None:
        """Bits per element above the least that any code needs for this error in Gaussian values of this variance: R − ½ log₂(σ² / D).

        Negative where values are easier than Gaussian ones, as with heavy tails. None where nothing is approximated, or no value varies.
        """
        noise = 0.0 if self.error is None or self.tuned else self.error.noise
        return self.bits + log2(noise) / 2 if 0 < noise < 1 else None

    @classmethod
    def of(
        cls,
        name: str,
        spec: Spec,
        section: Section,
        lossless: bool,
        digest: bytes,
        error: Error | None = None,
        why: str = "",
        tuned: bool = False,
    ) -> TensorRow:
        """Describe a tensor that has data of its own."""
        size, shape = stored_bytes(section), list(spec.shape)
        return cls(name, spec.dtype.name, shape, describe(section), size, spec.size, lossless, digest.hex(), None, error, why, tuned)

    def alias_of(self, name: str) -> TensorRow:
        """Describe a tensor that shares this one's data."""
        return replace(self, name=name, codec="alias", size=0, alias=self.name)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        found = {key: getattr(self, key) for key in self.__slots__} | {"bits": round(self.bits, 4)}
        found |= {} if self.gap is None else {"gap": round(self.gap, 4)}
        error = None if self.error is None else self.error.to_json()
        return found | {"error": error}


@dataclass(frozen=True, slots=True)
class EncodeReport:
    """What an encode did. source_size, size: whole-file bytes over all shards. seconds: wall time. readback: compared before closing.

    notes: what the recipe's methods have to tell, such as a fallback.
    """

    source: str
    target: str
    source_size: int
    size: int
    seconds: float
    readback: bool
    tensors: Sequence[TensorRow]
    notes: Sequence[str] = ()

    @property
    def lossless(self) -> bool:
        """Whether every tensor decodes to its source's bytes."""
        return all(row.lossless for row in self.tensors)

    @property
    def ratio(self) -> float:
        """Encoded size over source size."""
        return self.size / self.source_size if self.source_size else 1.0

    @property
    def bpw(self) -> float:
        """Bits of the whole file per element; elements that share data count once."""
        count = sum(row.count for row in self.tensors if row.alias is None)
        return 8 * self.size / count if count else 0.0

    @property
    def loaded(self) -> int:
        """Bytes of all tensors once they are loaded."""
        return sum(row.raw_size for row in self.tensors)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        keys = ("source", "target", "source_size", "size", "seconds", "readback", "lossless", "ratio", "bpw", "loaded", "notes")
        return {key: getattr(self, key) for key in keys} | {"tensors": [row.to_json() for row in self.tensors]}
