"""Encode: a safetensors file, a sharded folder or tensors in memory to ``.wcodec``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import blake3
import numpy as np

from wcodec.api import indexes
from wcodec.api.files import matches
from wcodec.api.opened import inside
from wcodec.api.report import EncodeReport, TensorRow
from wcodec.api.work import make_env, make_pool, ordered, pieces, thread_count
from wcodec.codecs import Env, check, decode
from wcodec.container import shards
from wcodec.container.records import TensorRecord
from wcodec.container.safetensors import Entry, SafetensorsFile, canonical_header
from wcodec.container.writer import ContainerWriter
from wcodec.errors import EncodeError
from wcodec.recipe import Recipe, get_recipe
from wcodec.types import Section, Spec, UInts

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

ORDER = (
    "U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3",
    "F8_E5M2", "I8", "U8", "F6_E3M2", "F6_E2M3", "F4", "BOOL",
)  # fmt: skip
"""The order in which safetensors stores dtypes; names decide among equal ones."""
COMPARED = 1 << 20
"""Storage elements that are read back at once."""
LARGE = 1 << 23
"""Bytes from which a tensor is encoded by all threads together; smaller ones are encoded side by side."""


class Source(Protocol):
    """Tensors in stored order, read one at a time."""

    names: Sequence[str]

    def spec(self, index: int) -> Spec: ...
    def read(self, index: int, env: Env, stack: ExitStack) -> UInts: ...
    def tied(self, index: int) -> bool: ...


class FileSource:
    """Tensors of a safetensors file."""

    def __init__(self, file: SafetensorsFile, entries: Sequence[Entry]) -> None:
        self._file, self._entries = file, entries
        self.names: Sequence[str] = [entry.name for entry in entries]

    def spec(self, index: int) -> Spec:
        """Return dtype and shape."""
        return self._entries[index].spec

    def read(self, index: int, env: Env, stack: ExitStack) -> UInts:
        """Read the storage elements into memory that the stack gives back."""
        entry = self._entries[index]
        out, size = stack.enter_context(env.borrow(entry.spec.count, entry.spec.dtype.storage)), entry.spec.size
        data, step = out.view(np.uint8), max(1, -(-size // env.parallel))

        def piece(start: int) -> None:
            stop = min(start + step, size)
            self._file.read(entry, start, stop, data[start:stop])

        list(env.workers(piece, range(0, size, step)))
        return out

    def tied(self, index: int) -> bool:
        """Files do not say what was shared."""
        return False


class MemorySource:
    """Tensors in memory; tied: names that share another's storage."""

    def __init__(self, tensors: Mapping[str, tuple[Spec, UInts]], names: Sequence[str], tied: Container[str]) -> None:
        self._tensors, self._tied, self.names = tensors, tied, names

    def spec(self, index: int) -> Spec:
        """Return dtype and shape."""
        return self._tensors[self.names[index]][0]

    def read(self, index: int, env: Env, stack: ExitStack) -> UInts:
        """Return the storage elements."""
        return self._tensors[self.names[index]][1]

    def tied(self, index: int) -> bool:
        """Tell whether the tensor shares another's storage."""
        return self.names[index] in self._tied


def encode(
    source: str | Path,
    target: str | Path | None = None,
    *,
    recipe: str = "lossless",
    include: Sequence[str] = (),
    threads: int | None = None,
    kernels: str = "auto",
    readback: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> EncodeReport:
    """Encode a safetensors file, or a folder of shards, to ``.wcodec``.

    target: beside the source by default. include: globs of tensor names, all by default. threads: all cores by default.
    kernels: auto, numpy or native. readback: decode every tensor again and compare before the file is finished.
    force: replace an existing target. progress: called with (bytes done, bytes in all).
    Raises EncodeError, RecipeError, NotAContainer (source is not safetensors), FileExistsError, OSError.
    """
    path = Path(source)
    job = _Job(get_recipe(recipe), recipe, include, thread_count(threads), kernels, readback, force)
    if indexes.is_folder(path):
        return _encode_folder(path, None if target is None else Path(target), job, progress)
    out = path.with_suffix(".wcodec") if target is None else Path(target)
    return _encode_file(path, out, job, progress, 0, path.stat().st_size)


@dataclass(frozen=True, slots=True)
class _Job:
    recipe: Recipe
    name: str
    include: Sequence[str]
    threads: int
    kernels: str
    readback: bool
    force: bool


def _encode_folder(path: Path, target: Path | None, job: _Job, progress: Progress | None) -> EncodeReport:
    """Encode shard by shard, then write the index."""
    began = time.perf_counter()
    files = shards.shards_of(path, shards.SAFETENSORS)
    out = target or (path if path.is_dir() else path.parent)
    out.mkdir(parents=True, exist_ok=True)
    index = indexes.find(path, shards.SAFETENSORS)
    planned = [out / indexes.encoded_name(file.name) for file in files]
    planned += [out / indexes.encoded_index(index)] if index is not None else []
    indexes.refuse_existing(planned, job.force)
    total, done, reports = sum(file.stat().st_size for file in files), 0, []
    for file in files:
        reports.append(_encode_file(file, out / indexes.encoded_name(file.name), job, progress, done, total))
        done += file.stat().st_size
    if index is not None:
        indexes.write_encoded(index, out, {Path(r.target).name: [row.name for row in r.tensors] for r in reports}, job.force)
    rows = [row for r in reports for row in r.tensors]
    size, seconds = sum(r.size for r in reports), time.perf_counter() - began
    return EncodeReport(str(path), str(out), total, size, seconds, job.readback, all(r.lossless for r in reports), rows)


def _encode_file(path: Path, out: Path, job: _Job, progress: Progress | None, done: int, total: int) -> EncodeReport:
    began = time.perf_counter()
    with SafetensorsFile(path) as file:
        entries = [entry for entry in file.entries if matches(entry.name, job.include)]
        if not entries and job.include:
            raise EncodeError(f"no tensor matches {', '.join(job.include)}")
        header = None
        if len(entries) == len(file.entries):
            items = [(e.name, e.spec) for e in entries]
            header = None if canonical_header(items, file.metadata) == file.header_bytes else file.header_bytes
        with _writer(out, file.metadata, header, job) as writer:
            rows = _write(FileSource(file, entries), writer, job, progress, done, total)
            size = writer.close()
    seconds = time.perf_counter() - began
    return EncodeReport(str(path), str(out), path.stat().st_size, size, seconds, job.readback, all(row.lossless for row in rows), rows)


def encode_tensors(
    tensors: Mapping[str, tuple[Spec, UInts]],
    target: str | Path | BinaryIO,
    metadata: Mapping[str, str] | None = None,
    *,
    tied: Mapping[str, str] | None = None,
    recipe: str = "lossless",
    threads: int | None = None,
    kernels: str = "auto",
    readback: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> list[TensorRow]:
    """Encode tensors in memory (name → spec and flat storage elements) to a file or buffer, in safetensors' order.

    tied: name → name whose storage it shares. The rest as in ``encode``.
    """
    job = _Job(get_recipe(recipe), recipe, (), thread_count(threads), kernels, readback, force)
    names = sorted(tensors, key=lambda name: (ORDER.index(tensors[name][0].dtype.name), name))
    source = MemorySource(tensors, names, tied or {})
    with _writer(target, metadata, None, job) as writer:
        rows = _write(source, writer, job, progress, 0, sum(spec.size for spec, _ in tensors.values()))
        writer.close()
    return rows


def _writer(target: Any, metadata: Mapping[str, str] | None, header: bytes | None, job: _Job) -> ContainerWriter:
    encoder = {"version": version("wcodec"), "recipe": job.name}
    return ContainerWriter(
        target, metadata=None if metadata is None else dict(metadata), source_header=header, encoder=encoder, force=job.force
    )


@dataclass(slots=True)
class _Coded:
    index: int
    spec: Spec
    digest: bytes
    section: Section | None
    data: UInts
    stack: ExitStack


def _write(source: Source, writer: ContainerWriter, job: _Job, progress: Progress | None, done: int, total: int) -> list[TensorRow]:
    """Encode all tensors in order and add them to the writer, reading each back when asked."""
    names = source.names
    rows: list[TensorRow] = []
    seen: dict[tuple[Spec, bytes], int] = {}
    with ExitStack() as stack:
        pool = make_pool(job.threads)
        if pool is not None:
            stack.callback(pool.shutdown, cancel_futures=True)
        env = make_env(job.kernels)
        checks: deque[Future[None]] = deque()
        for coded in _coded(source, env, job, pool):
            name = names[coded.index]
            with inside(name):
                first = seen.setdefault((coded.spec, coded.digest), coded.index)
                if first != coded.index:
                    writer.add_alias(name, first, source.tied(coded.index))
                    row = rows[first]
                    rows.append(TensorRow(name, row.dtype, row.shape, "alias", 0, row.raw_size, True, row.digest, row.name))
                else:
                    assert coded.section is not None
                    at = writer.add(name, coded.spec, coded.section, coded.digest)
                    rows.append(TensorRow.of(name, coded.spec, coded.section, True, coded.digest))
            if first != coded.index or not job.readback:
                coded.stack.close()
            elif pool is None or coded.spec.size >= LARGE:
                _compare(name, writer.written(at), coded, env, pool)
            else:
                checks.append(pool.submit(_compare, name, writer.written(at), coded, env, None))
            while len(checks) > 2 * job.threads:
                checks.popleft().result()
            done += coded.spec.size
            if progress is not None:
                progress(done, total)
        while checks:
            checks.popleft().result()
    return rows


def _coded(source: Source, env: Env, job: _Job, pool: ThreadPoolExecutor | None) -> Iterator[_Coded]:
    """Encode tensors in order: runs of small ones side by side, large ones one by one with all threads."""
    known: dict[tuple[Spec, bytes], int] = {}
    wide = env if pool is None else env.spread(pool.map, job.threads)

    def one(index: int, its: Env = env) -> _Coded:
        with ExitStack() as stack, inside(source.names[index]):
            data = source.read(index, its, stack)
            digest = blake3.blake3(data.view(np.uint8).data, max_threads=its.parallel).digest()
            spec = source.spec(index)
            earlier = known.get((spec, digest), index) < index
            section = None if earlier else job.recipe(data, spec, its.leased(stack))
            known[spec, digest] = min(index, known.get((spec, digest), index))
            return _Coded(index, spec, digest, section, data, stack.pop_all())

    for large, indices in _runs(source):
        if large:
            yield from (one(index, wide) for index in indices)
        else:
            yield from ordered(pool, one, indices, 2 * job.threads)


def _runs(source: Source) -> Iterator[tuple[bool, list[int]]]:
    run: list[int] = []
    for index in range(len(source.names)):
        if source.spec(index).size < LARGE:
            run.append(index)
            continue
        yield False, run
        run = []
        yield True, [index]
    yield False, run


def _compare(name: str, record: TensorRecord, coded: _Coded, env: Env, pool: ThreadPoolExecutor | None) -> None:
    """Decode a tensor from the unfinished file, compare it with the source and let it go. Raises EncodeError."""

    def same(window: tuple[int, int]) -> bool:
        start, stop = window
        with env.borrow(stop - start, coded.data.dtype) as out:
            decode(record.section, record.spec, env, start, stop, out)
            return env.backend.same(out, coded.data[start:stop])

    with coded.stack, inside(name):
        check(record.section, record.spec, env)
        if not all(ordered(pool, same, pieces(record.section, record.spec, env, COMPARED), 4)):
            raise EncodeError("the tensor does not read back as it was; nothing was written (please report this)")


__all__ = ["EncodeReport", "Progress", "encode", "encode_tensors"]
