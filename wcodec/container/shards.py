"""Sharded checkpoints: names of shards, and the index beside them (spec/container.md section 9)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wcodec.errors import Corrupt, NotAContainer

WCODEC = ".wcodec"
SAFETENSORS = ".safetensors"
_MAX_INDEX = 1 << 30
_NUMBERED = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}")


def shard_name(stem: str, number: int, count: int, suffix: str = WCODEC) -> str:
    """Name shard number of count, counted from 1: `model-00001-of-00005.wcodec`."""
    return f"{stem}-{number:05}-of-{count:05}{suffix}"


def index_name(stem: str, suffix: str = WCODEC) -> str:
    """Name the index of a sharded checkpoint: `model.wcodec.index.json`."""
    return f"{stem}{suffix}.index.json"


def stem_of(name: str, suffix: str) -> str:
    """Take suffix, index ending and shard number off a file name: "model" of all the names above."""
    name = name.removesuffix(".index.json").removesuffix(suffix)
    numbered = _NUMBERED.fullmatch(name)
    return numbered["stem"] if numbered else name


def check_shard_name(name: Any) -> str:
    """Check that a name is that of a file in the same folder, on any system. Raises Corrupt [C-28]."""
    if type(name) is not str or name in ("", ".", "..") or re.search(r"[/\\:\x00-\x1f]", name):
        raise Corrupt(f"{name!r} is not a plain file name", rule="C-28")
    return name


@dataclass
class ShardIndex:
    """An index.

    weight_map: tensor → shard. shards: shard → hex of its manifest's BLAKE3-256; empty for safetensors. metadata: any JSON object.
    """

    weight_map: dict[str, str]
    shards: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """Shard names, sorted."""
        return sorted(set(self.weight_map.values()) | set(self.shards))

    def names_of(self, shard: str) -> set[str]:
        """Tensors that the index maps to a shard."""
        return {name for name, where in self.weight_map.items() if where == shard}

    def pack(self) -> bytes:
        """Pack to JSON, the same bytes for the same index."""
        fields = {"metadata": self.metadata, "weight_map": self.weight_map} | ({"shards": self.shards} if self.shards else {})
        return (json.dumps(fields, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def unpack(cls, data: bytes, suffix: str) -> ShardIndex:
        """Parse an index of files of a suffix; only that of `.wcodec` files needs `shards`. Raises Corrupt [C-28]."""
        try:
            fields = json.loads(data)
        except (ValueError, RecursionError) as e:
            raise Corrupt(f"the index is not JSON: {e}", rule="C-28") from None
        if type(fields) is not dict:
            raise Corrupt("the index is not a JSON object", rule="C-28")
        weight_map, shards = _map(fields, "weight_map"), _map(fields, "shards") if suffix == WCODEC else {}
        metadata = fields.get("metadata") or {}
        if type(metadata) is not dict:
            raise Corrupt("metadata is not an object", rule="C-28")
        index = cls(weight_map, shards, metadata)
        for name in index.files:
            check_shard_name(name)
        missing = set(weight_map.values()) - set(shards)
        if suffix == WCODEC and missing:
            raise Corrupt(f"shard {min(missing)!r} is not among shards", rule="C-28")
        return index

    def check_shard(self, shard: str, manifest_digest: bytes, names: Iterable[str]) -> None:
        """Check an opened shard against the index. Raises Corrupt [C-29]."""
        if self.shards.get(shard) != manifest_digest.hex():
            raise Corrupt("not the file that the index was made with", at=shard, rule="C-29")
        if set(names) != self.names_of(shard):
            raise Corrupt("holds other tensors than the index says", at=shard, rule="C-29")


def _map(fields: dict[str, Any], key: str) -> dict[str, str]:
    value = fields.get(key)
    if type(value) is not dict or not set(map(type, value.values())) <= {str}:
        raise Corrupt(f"{key} is not a map of strings", rule="C-28")
    return value


def read_index(path: str | os.PathLike[str], suffix: str) -> ShardIndex:
    """Read an index. Raises Corrupt [C-28] with `at`, OSError."""
    path = Path(path)
    if path.stat().st_size > _MAX_INDEX:
        raise Corrupt("an index of more than 1 GiB", at=str(path), rule="C-28")
    try:
        return ShardIndex.unpack(path.read_bytes(), suffix)
    except Corrupt as e:
        raise e.inside(str(path)) from None


def index_of(folder: str | os.PathLike[str], suffix: str) -> Path | None:
    """Find the index of a folder, None where there is none. Raises NotAContainer where there are several."""
    found = sorted(Path(folder).glob(f"*{suffix}.index.json"))
    if len(found) > 1:
        raise NotAContainer(f"several indexes: {', '.join(p.name for p in found)}; name one", at=os.fspath(folder))
    return found[0] if found else None


def shards_of(where: str | os.PathLike[str], suffix: str) -> list[Path]:
    """List the files of a checkpoint: those an index names, or the one or more of a folder that has no index.

    where: index, folder, or a single file. Raises Corrupt [C-28], NotAContainer where a folder has none, FileNotFoundError.
    """
    where = Path(where)
    index = where if where.name.endswith(".index.json") else None
    if where.is_dir():
        index = index_of(where, suffix)
        if index is None:
            found = sorted(p for p in where.glob(f"*{suffix}") if p.is_file() and not p.name.startswith("."))
            if not found:
                raise NotAContainer(f"no *{suffix} file in this folder", at=str(where))
            return found
    if index is None:
        return [where]
    files = [index.parent / name for name in read_index(index, suffix).files]
    for file in files:
        if not file.exists():
            raise FileNotFoundError(2, "a shard that the index names is missing", str(file))
    return files
