"""The index beside the shards of a folder, in both directions."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence
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


def refuse_existing(paths: Iterable[Path], force: bool) -> None:
    """Raise FileExistsError before anything is written, so that no folder is left half done."""
    for path in () if force else paths:
        if path.exists():
            raise FileExistsError(errno.EEXIST, "exists already", str(path))


def encoded_name(name: str) -> str:
    """Return the name of the shard that a safetensors shard becomes."""
    return name.removesuffix(shards.SAFETENSORS) + shards.WCODEC


def decoded_name(name: str) -> str:
    """Return the name of the safetensors shard that a shard becomes."""
    return name.removesuffix(shards.WCODEC) + shards.SAFETENSORS


def encoded_index(source_index: Path) -> str:
    """Return the name of the index of encoded shards."""
    return shards.index_name(shards.stem_of(source_index.name, shards.SAFETENSORS))


def decoded_index(source_index: Path) -> str:
    """Return the name of the safetensors index of decoded shards."""
    return shards.index_name(shards.stem_of(source_index.name, shards.WCODEC), shards.SAFETENSORS)


def write_encoded(source_index: Path, folder: Path, tensors: Mapping[str, Sequence[str]], force: bool) -> None:
    """Write the index of encoded shards. tensors: shard's file name → its tensors."""
    source = shards.read_index(source_index, shards.SAFETENSORS)
    digests = {}
    for name in tensors:
        with ContainerReader(folder / name) as reader:
            digests[name] = reader.manifest_digest.hex()
    where = {tensor: shard for shard, names in tensors.items() for tensor in names}
    _write(folder / encoded_index(source_index), ShardIndex(where, digests, source.metadata), force)


def write_decoded(source_index: Path, folder: Path, force: bool) -> None:
    """Write the safetensors index of decoded shards, as the source had it."""
    source = shards.read_index(source_index, shards.WCODEC)
    where = {tensor: decoded_name(shard) for tensor, shard in source.weight_map.items()}
    _write(folder / decoded_index(source_index), ShardIndex(where, {}, source.metadata), force)


def _write(path: Path, index: ShardIndex, force: bool) -> None:
    target = open_target(path, force)
    try:
        target.write(index.pack())
        target.commit()
    except BaseException:
        target.abort()
        raise
