"""Decode: ``.wcodec`` back to safetensors, byte for byte the source where it was lossless."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3
import numpy as np

from wcodec.api import indexes
from wcodec.api.files import matches, open_shards
from wcodec.api.opened import Opened, inside
from wcodec.api.work import make_pool, ordered, pieces, thread_count
from wcodec.codecs import Env
from wcodec.container import shards
from wcodec.container.safetensors import SafetensorsWriter, canonical_header
from wcodec.errors import Corrupt, WcodecError
from wcodec.types import Limits, UInts

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DecodeReport:
    """What a decode did. size: bytes written, over all shards. same_file: every tensor is lossless and all were written."""

    source: str
    target: str
    source_size: int
    size: int
    seconds: float
    tensors: int
    same_file: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: getattr(self, key) for key in self.__slots__}


def decode(
    source: str | Path,
    target: str | Path | None = None,
    *,
    include: Sequence[str] = (),
    threads: int | None = None,
    kernels: str = "auto",
    limits: Limits | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> DecodeReport:
    """Decode a ``.wcodec`` file, or a folder of shards, to safetensors.

    The result is the source file byte for byte when it was encoded without loss and whole. Every tensor's digest is checked.
    target: beside the source by default. include: globs of tensor names, all by default. The rest as in ``encode``.
    Raises FormatError, LimitExceeded, FileExistsError, OSError; then no file was written.
    """
    began, path = time.perf_counter(), Path(source)
    folder = indexes.is_folder(path)
    with ExitStack() as stack:
        found = open_shards(path, stack, threads=1, kernels=kernels, limits=limits)
        total = sum(opened.record(name).spec.size for opened in found.values() for name in _chosen(opened, include))
        if include and not any(_chosen(opened, include) for opened in found.values()):
            raise WcodecError(f"no tensor matches {', '.join(include)}", at=str(path))
        pool = make_pool(thread_count(threads))
        if pool is not None:
            stack.callback(pool.shutdown, cancel_futures=True)
        done, size, count, same = 0, 0, 0, not include
        places = _places(path, folder, None if target is None else Path(target), found)
        for name, opened in found.items():
            chosen = _chosen(opened, include)
            if include and not chosen:
                continue
            writer = stack.enter_context(SafetensorsWriter(places[name], _header(opened, chosen, include), force))
            with inside(opened.path):
                for tensor in chosen:
                    _write_tensor(opened, tensor, writer, pool, thread_count(threads))
                    done += opened.record(tensor).spec.size
                    same &= opened.record(tensor).lossless
                    if progress is not None:
                        progress(done, total)
            size += writer.close()
            count += len(chosen)
        if folder and not include:
            index = indexes.find(path, shards.WCODEC)
            if index is not None:
                indexes.write_decoded(index, next(iter(places.values())).parent, force)
        where = next(iter(places.values()), Path()) if not folder else next(iter(places.values())).parent
        stored = sum(opened.reader.size for opened in found.values())
    return DecodeReport(str(path), str(where), stored, size, time.perf_counter() - began, count, same)


def _chosen(opened: Opened, include: Sequence[str]) -> list[str]:
    return [name for name in opened.offset_keys() if matches(name, include)]


def _places(path: Path, folder: bool, target: Path | None, found: dict[str, Opened]) -> dict[str, Path]:
    """Return where every shard goes."""
    if not folder:
        return {name: path.with_suffix(shards.SAFETENSORS) if target is None else target for name in found}
    out = target if target is not None else path if path.is_dir() else path.parent
    out.mkdir(parents=True, exist_ok=True)
    return {name: out / indexes.decoded_name(name) for name in found}


def _header(opened: Opened, chosen: Sequence[str], include: Sequence[str]) -> bytes:
    kept = opened.reader.manifest.kept_header()
    if kept is not None and not include:
        opened.reader.check_header()
        return kept
    return canonical_header([(name, opened.record(name).spec) for name in chosen], opened.metadata())


def _write_tensor(opened: Opened, name: str, writer: SafetensorsWriter, pool: Any, threads: int) -> None:
    """Decode a tensor in windows, side by side, and write them in order. Raises Corrupt when its digest differs."""
    record, digest = opened.record(name), blake3.blake3()
    env: Env = opened.env

    def work(window: tuple[int, int]) -> tuple[ExitStack, UInts]:
        with ExitStack() as stack:
            out = stack.enter_context(env.borrow(window[1] - window[0], record.spec.dtype.storage))
            opened.decode_window(name, *window, out)
            return stack.pop_all(), out

    results: Iterator[tuple[ExitStack, UInts]] = ordered(pool, work, pieces(record.section, record.spec, env), 2 * threads)
    for stack, out in results:
        with stack:
            data = out.view(np.uint8)
            digest.update(data.data)
            writer.write(data)
    if not record.tolerant and digest.digest() != record.digest:
        raise Corrupt("decoded bytes do not have the digest that the file states", at=name, rule="C-30")
