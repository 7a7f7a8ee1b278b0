"""Decode: ``.wcodec`` back to safetensors, byte for byte the source where it was lossless."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3
import numpy as np

from wcodec.api import indexes
from wcodec.api.crew import Crew
from wcodec.api.files import matches, open_shards
from wcodec.api.opened import Opened, inside
from wcodec.api.work import PIECE, thread_count
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
    device: str = "cpu",
    limits: Limits | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> DecodeReport:
    """Decode a ``.wcodec`` file, or a folder of shards, to safetensors.

    The result is the source file byte for byte when it was encoded without loss and whole. Every tensor's digest is checked.
    target: beside the source by default. include: globs of tensor names, all by default. device: where to decode. The rest as
    in ``encode``.
    Raises FormatError, LimitExceeded, FileExistsError, OSError; then no file was written.
    """
    began, path = time.perf_counter(), Path(source)
    with ExitStack() as stack:
        found = open_shards(path, stack, threads=1, kernels=kernels, limits=limits, device=device)
        chosen = {name: [t for t in opened.offset_keys() if matches(t, include)] for name, opened in found.items()}
        if include and not any(chosen.values()):
            raise WcodecError(f"no tensor matches {', '.join(include)}", at=str(path))
        places = _places(path, None if target is None else Path(target), [name for name in found if chosen[name] or not include])
        index = indexes.find(path, shards.WCODEC) if indexes.is_folder(path) and not include else None
        where = next(iter(places.values())).parent if indexes.is_folder(path) else next(iter(places.values()))
        indexes.refuse_existing([*places.values(), *([where / indexes.decoded_index(index)] if index is not None else [])], force)
        job = _Job(thread_count(threads), stack, force, progress, sum(f.record(t).spec.size for n, f in found.items() for t in chosen[n]))
        size = sum(_write_shard(found[name], chosen[name], place, bool(include), job) for name, place in places.items())
        if index is not None:
            indexes.write_decoded(index, where, force)
        same = not include and all(found[name].record(t).lossless for name in found for t in chosen[name])
        stored, count = sum(opened.reader.size for opened in found.values()), sum(map(len, chosen.values()))
    return DecodeReport(str(path), str(where), stored, size, time.perf_counter() - began, count, same)


class _Job:
    """Workers and progress of one decode."""

    def __init__(self, threads: int, stack: ExitStack, force: bool, progress: Progress | None, total: int) -> None:
        self.crew, self.force = stack.enter_context(Crew(threads)), force
        self._progress, self._done, self._total = progress, 0, total

    def advance(self, size: int) -> None:
        """Tell how many more bytes are decoded."""
        self._done += size
        if self._progress is not None:
            self._progress(self._done, self._total)


def _write_shard(opened: Opened, chosen: Sequence[str], place: Path, partial: bool, job: _Job) -> int:
    """Decode the chosen tensors of one file; return the bytes written."""
    with SafetensorsWriter(place, _header(opened, chosen, partial), job.force) as writer, inside(opened.path):
        _write_tensors(opened, chosen, writer, job)
        return writer.close()


def _places(path: Path, target: Path | None, names: Sequence[str]) -> dict[str, Path]:
    """Return where every shard goes."""
    if not indexes.is_folder(path):
        return {name: path.with_suffix(shards.SAFETENSORS) if target is None else target for name in names}
    out = target if target is not None else path if path.is_dir() else path.parent
    out.mkdir(parents=True, exist_ok=True)
    return {name: out / indexes.decoded_name(name) for name in names}


def _header(opened: Opened, chosen: Sequence[str], partial: bool) -> bytes:
    kept = opened.reader.manifest.kept_header()
    if kept is not None and not partial:
        opened.reader.check_header()
        return kept
    return canonical_header([(name, opened.record(name).spec) for name in chosen], opened.metadata())


def _write_tensors(opened: Opened, chosen: Sequence[str], writer: SafetensorsWriter, job: _Job) -> None:
    """Decode tensors in windows, side by side, and write them in order. Raises Corrupt when a digest differs."""
    windows = ((name, *window) for name in chosen for window in opened.windows(name))

    def work(window: tuple[str, int, int]) -> tuple[ExitStack, UInts]:
        name, start, stop = window
        with ExitStack() as stack:
            out = stack.enter_context(opened.env.borrow(stop - start, opened.record(name).spec.dtype.storage))
            opened.decode_window(name, start, stop, out)
            return stack.pop_all(), opened.env.backend.to_host(out)

    results = job.crew.ordered(work, windows, 2 * job.crew.threads * PIECE, lambda window: window[2] - window[1])
    for name in chosen:
        record, digest = opened.record(name), blake3.blake3()
        for _, (stack, out) in zip(opened.windows(name), results, strict=False):
            with stack:
                data = out.view(np.uint8)
                digest.update(data.data)
                writer.write(data)
                job.advance(data.size)
        if not record.tolerant and digest.digest() != record.digest:
            raise Corrupt("decoded bytes do not have the digest that the file states", at=name, rule="C-30")
