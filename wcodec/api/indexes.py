"""The index beside the shards of a folder, in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wcodec.container import shards
from wcodec.container.atomic import open_target
from wcodec.container.reader import ContainerReader
from wcodec.container.shards import ShardIndex


def find(path: Path, suffix: str) -> Path | None:
    """Return the index that a folder holds, or the path itself when it is one."""
    return path if path.name.endswith(".index.json") else shards.index_of(path, suffix) if path.is_dir() else None


def is_folder(path: Path) -> bool:
    """Tell whether a path stands for several files: a folder or an index."""
    return path.is_dir() or path.name.endswith(".index.json")


def encoded_name(name: str) -> str:
    """Return the name of the shard that a safetensors shard becomes."""
    return name.removesuffix(shards.SAFETENSORS) + shards.WCODEC


def decoded_name(name: str) -> str:
    """Return the name of the safetensors shard that a shard becomes."""
    return name.removesuffix(shards.WCODEC) + shards.SAFETENSORS


def write_encoded(source_index: Path, folder: Path, tensors: Mapping[str, Sequence[str]], force: bool) -> None:
    """Write the index of encoded shards. tensors: shard's file name → its tensors."""
    source = shards.read_index(source_index, shards.SAFETENSORS)
    digests = {}
    for name in tensors:
        with ContainerReader(folder / name) as reader:
            digests[name] = reader.manifest_digest.hex()
    where = {tensor: shard for shard, names in tensors.items() for tensor in names}
    stem = shards.stem_of(source_index.name, shards.SAFETENSORS)
    _write(folder / shards.index_name(stem), ShardIndex(where, digests, source.metadata), force)


def write_decoded(source_index: Path, folder: Path, force: bool) -> None:
    """Write the safetensors index of decoded shards, as the source had it."""
    source = shards.read_index(source_index, shards.WCODEC)
    where = {tensor: decoded_name(shard) for tensor, shard in source.weight_map.items()}
    stem = shards.stem_of(source_index.name, shards.WCODEC)
    _write(folder / shards.index_name(stem, shards.SAFETENSORS), ShardIndex(where, {}, source.metadata), force)


def _write(path: Path, index: ShardIndex, force: bool) -> None:
    target = open_target(path, force)
    try:
        target.write(index.pack())
        target.commit()
    except BaseException:
        target.abort()
        raise
