"""Inspect: what a file holds, without decoding anything."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wcodec.api.files import matches, open_shards
from wcodec.api.report import TensorRow
from wcodec.api.trees import tree
from wcodec.types import DTYPES


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a checkpoint holds. size: whole-file bytes. partial: only chosen tensors. trees: name → nested sections as plain values."""

    path: str
    files: int
    size: int
    partial: bool
    metadata: dict[str, str]
    encoder: dict[str, Any]
    tensors: list[TensorRow]
    trees: dict[str, Any]

    @property
    def lossless(self) -> bool:
        """Whether every tensor decodes to its source's bytes."""
        return all(row.lossless for row in self.tensors)

    @property
    def bits(self) -> float:
        """Bits per element: of the whole file, or of the chosen tensors' streams."""
        count = sum(8 * row.raw_size // DTYPES[row.dtype].bits for row in self.tensors)
        return 8 * (sum(row.size for row in self.tensors) if self.partial else self.size) / count if count else 0.0

    def summary(self) -> str:
        """Return ``lossless`` or how much was changed, such as ``lossy: 4.02 bpw, 210 of 291 tensors changed``."""
        changed = sum(not row.lossless for row in self.tensors)
        return f"lossy: {self.bits:.2f} bpw, {changed} of {len(self.tensors)} tensors changed" if changed else "lossless"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        keys = ("path", "files", "size", "metadata", "encoder", "lossless", "bits")
        rows = [row.to_json() | {"tree": self.trees.get(row.name)} for row in self.tensors]
        return {key: getattr(self, key) for key in keys} | {"summary": self.summary(), "tensors": rows}


def inspect(path: str | Path, *, include: Sequence[str] = ()) -> FileReport:
    """Describe a ``.wcodec`` file or folder of shards: codecs, sizes, metadata. Decodes nothing, so that codecs may be unknown.

    Raises FormatError, OSError.
    """
    with ExitStack() as stack:
        found = open_shards(Path(path), stack, threads=1, kernels="numpy")
        rows: list[TensorRow] = []
        trees: dict[str, Any] = {}
        metadata: dict[str, str] = {}
        encoder: dict[str, Any] = {}
        for opened in found.values():
            metadata |= opened.metadata() or {}
            encoder |= opened.reader.manifest.encoder or {}
            for name in opened.offset_keys():
                if not matches(name, include):
                    continue
                record, alias = opened.reader.target(name), opened.alias(name)
                row = TensorRow.of(name, record.spec, record.section, record.lossless, record.digest)
                if alias is not None:
                    owner = opened.reader.names[alias.index]
                    row = replace(row, name=owner).alias_of(name)
                rows.append(row)
                trees[name] = tree(record.section)
        size = sum(opened.reader.size for opened in found.values())
        return FileReport(str(path), len(found), size, bool(include), metadata, encoder, rows, trees)
