"""Encode: a safetensors file, a sharded folder or tensors in memory to ``.wcodec``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import blake3
import numpy as np

from wcodec.api import indexes
from wcodec.api.files import matches
from wcodec.api.importance import importance_of
from wcodec.api.opened import inside
from wcodec.api.outcome import Outcome, judge, parts_digest
from wcodec.api.report import EncodeReport, TensorRow
from wcodec.api.sources import AllTensors, FileSource, MemorySource, Source
from wcodec.api.work import make_env, make_pool, ordered, pieces, thread_count, together
from wcodec.codecs import Env, check, decode
from wcodec.container import shards
from wcodec.container.records import TensorRecord
from wcodec.container.safetensors import SafetensorsFile, canonical_header
from wcodec.container.writer import ContainerWriter
from wcodec.errors import EncodeError
from wcodec.recipes import Recipe, read_recipe
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


def encode(
    source: str | Path,
    target: str | Path | None = None,
    *,
    recipe: str | Path | Recipe = "lossless",
    rules: Sequence[str] = (),
    importance: str | Path | Mapping[str, Any] | None = None,
    include: Sequence[str] = (),
    threads: int | None = None,
    kernels: str = "auto",
    device: str = "cpu",
    readback: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> EncodeReport:
    """Encode a safetensors file, or a folder of shards, to ``.wcodec``.

    target: beside the source by default. recipe: a method's name with options (``wfn:delta=0.05``), a TOML file or a ``Recipe``. rules:
    ``GLOB=METHOD:options``, tried before the recipe. importance: of every weight (a checkpoint, or
    name → array), for methods that weigh errors.
    include: globs of tensor names, all by default. threads: all cores by default.
    kernels: auto, numpy, native, torch or triton. device: where tensors are encoded losslessly, to the same bytes as on the cpu.
    readback: decode every tensor again and compare before the file is finished.
    force: replace an existing target. progress: called with (bytes done, bytes in all); both grow by what methods read before they encode.
    Raises EncodeError, RecipeError, NotAContainer (source is not safetensors), FileExistsError, OSError.
    """
    path = Path(source)
    job = _Job(read_recipe(recipe, rules, importance_of(importance)), include, thread_count(threads), kernels, device, readback, force)
    if indexes.is_folder(path):
        return _encode_folder(path, None if target is None else Path(target), job, progress)
    out = path.with_suffix(".wcodec") if target is None else Path(target)
    with ExitStack() as stack:
        opened = _Input(path, job, stack)
        seen = job.prepare({out.name: opened.tensors}, progress, opened.size)
        return _encode_file(opened, out, job, progress, seen, seen + opened.size)


@dataclass(frozen=True, slots=True)
class _Job:
    recipe: Recipe
    include: Sequence[str]
    threads: int
    kernels: str
    device: str
    readback: bool
    force: bool

    def env(self) -> Env:
        """Make the environment in which tensors are encoded."""
        return make_env(self.kernels, device=self.device)

    def prepare(self, sources: Mapping[str, Source], progress: Progress | None, size: int) -> int:
        """Let the recipe look at all tensors before the first is encoded; return the bytes it has read.

        How often methods read is for them to find out: so these bytes join those in all (size: of what is encoded) as they are read.
        """
        env, seen = self.env().host, 0

        def advance(more: int) -> None:
            nonlocal seen
            seen += more
            if progress is not None:
                progress(seen, seen + size)

        tensors = AllTensors(sources, env)
        tensors.advance = advance
        self.recipe.prepare(tensors, env)
        tensors.advance = None  # what is read while encoding counts there
        return seen


class _Input:
    """A safetensors file to encode, open, and those of its tensors that are asked for."""

    def __init__(self, path: Path, job: _Job, stack: ExitStack) -> None:
        self.path, self.size = path, path.stat().st_size
        self.file = stack.enter_context(SafetensorsFile(path))
        entries = [entry for entry in self.file.entries if matches(entry.name, job.include)]
        self.tensors = FileSource(self.file, entries)
        self.header = None  # the source's own, where it is not the canonical one
        if len(entries) == len(self.file.entries):
            items = [(e.name, e.spec) for e in entries]
            self.header = None if canonical_header(items, self.file.metadata) == self.file.header_bytes else self.file.header_bytes


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
    with ExitStack() as stack:
        sources = [_Input(file, job, stack) for file in files]
        if job.include and not any(source.tensors.names for source in sources):
            raise EncodeError(f"no tensor matches {', '.join(job.include)}")
        total, reports = sum(source.size for source in sources), list[EncodeReport]()
        done = job.prepare({source.path.name: source.tensors for source in sources}, progress, total)
        seen = done
        for source in sources:
            reports.append(_encode_file(source, out / indexes.encoded_name(source.path.name), job, progress, done, seen + total))
            done += source.size
    if index is not None:
        indexes.write_encoded(index, out, {Path(r.target).name: [row.name for row in r.tensors] for r in reports}, job.force)
    rows = [row for r in reports for row in r.tensors]
    size, seconds = sum(r.size for r in reports), time.perf_counter() - began
    return EncodeReport(str(path), str(out), total, size, seconds, job.readback, rows, list(job.recipe.notes()))


def _encode_file(source: _Input, out: Path, job: _Job, progress: Progress | None, done: int, total: int) -> EncodeReport:
    began = time.perf_counter()
    if job.include and not source.tensors.names:
        raise EncodeError(f"no tensor matches {', '.join(job.include)}")
    with _writer(out, source.file.metadata, source.header, job) as writer:
        rows = _write(source.tensors, writer, job, progress, done, total)
        size = writer.close()
    seconds = time.perf_counter() - began
    return EncodeReport(str(source.path), str(out), source.size, size, seconds, job.readback, rows, list(job.recipe.notes()))


def encode_tensors(
    tensors: Mapping[str, tuple[Spec, Any]],
    target: str | Path | BinaryIO,
    metadata: Mapping[str, str] | None = None,
    *,
    tied: Mapping[str, str] | None = None,
    recipe: str | Path | Recipe = "lossless",
    rules: Sequence[str] = (),
    importance: str | Path | Mapping[str, Any] | None = None,
    threads: int | None = None,
    kernels: str = "auto",
    device: str = "cpu",
    readback: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> list[TensorRow]:
    """Encode tensors in memory (name → spec and flat storage elements) to a file or buffer, in safetensors' order.

    Storage elements that are tensors of ``device`` are encoded there; they are copied to the host for their digests.
    tied: name → name whose storage it shares. The rest as in ``encode``.
    """
    job = _Job(read_recipe(recipe, rules, importance_of(importance)), (), thread_count(threads), kernels, device, readback, force)
    names = sorted(tensors, key=lambda name: (ORDER.index(tensors[name][0].dtype.name), name))
    source = MemorySource(tensors, names, tied or {})
    size = sum(spec.size for spec, _ in tensors.values())
    seen = job.prepare({"": source}, progress, size)
    with _writer(target, metadata, None, job) as writer:
        rows = _write(source, writer, job, progress, seen, seen + size)
        writer.close()
    return rows


def _writer(target: Any, metadata: Mapping[str, str] | None, header: bytes | None, job: _Job) -> ContainerWriter:
    encoder = {"version": version("wcodec"), "recipe": job.recipe.text}
    return ContainerWriter(
        target, metadata=None if metadata is None else dict(metadata), source_header=header, encoder=encoder, force=job.force
    )


@dataclass(slots=True)
class _Coded:
    """A tensor read and encoded. section, outcome: None when an earlier tensor has the same bytes (digest). why: it stayed lossless."""

    index: int
    spec: Spec
    digest: bytes
    data: UInts
    stack: ExitStack
    section: Section | None = None
    outcome: Outcome | None = None
    why: str = ""


def _write(source: Source, writer: ContainerWriter, job: _Job, progress: Progress | None, done: int, total: int) -> list[TensorRow]:
    """Encode all tensors in order and add them to the writer, reading each back when asked."""
    names = source.names
    rows: list[TensorRow] = []
    seen: dict[tuple[Spec, bytes], int] = {}
    with ExitStack() as stack:
        pool = make_pool(job.threads)
        if pool is not None:
            stack.callback(pool.shutdown, cancel_futures=True)
        env = job.env().within(writer.written_resource)
        checks: deque[Future[None]] = deque()
        for coded in _coded(source, env, job, pool):
            name = names[coded.index]
            with inside(name):
                first = seen.setdefault((coded.spec, coded.digest), coded.index)
                if first != coded.index:
                    writer.add_alias(name, first, source.tied(coded.index))
                    rows.append(rows[first].alias_of(name))
                else:
                    at, row = _add(name, coded, writer)
                    rows.append(row)
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


def _add(name: str, coded: _Coded, writer: ContainerWriter) -> tuple[int, TensorRow]:
    """Write an encoded tensor; return its position and what the report says of it."""
    assert coded.section is not None and coded.outcome is not None
    out = coded.outcome
    at = writer.add(name, coded.spec, coded.section, out.digest, out.source, out.tolerant)
    return at, TensorRow.of(name, coded.spec, coded.section, out.source is None, out.digest, out.error, coded.why)


def _coded(source: Source, env: Env, job: _Job, pool: ThreadPoolExecutor | None) -> Iterator[_Coded]:
    """Encode tensors in order: runs of small ones side by side, large ones one by one with all threads."""
    known: dict[tuple[Spec, bytes], int] = {}
    wide = env if pool is None or env.near is not None else env.spread(pool.map, job.threads)

    def one(index: int, its: Env = env) -> _Coded:
        with ExitStack() as stack, inside(source.names[index]):
            data = source.read(index, its.host, stack)
            digest = blake3.blake3(data.view(np.uint8).data, max_threads=its.parallel).digest()
            spec = source.spec(index)
            earlier = known.get((spec, digest), index) < index
            known[spec, digest] = min(index, known.get((spec, digest), index))
            x = data
            if its.near is not None:
                there = source.there(index)
                x = its.backend.from_host(data) if there is None else there
            coded = _Coded(index, spec, digest, x, stack)
            if not earlier:
                found = job.recipe.encode(source.names[index], x, spec, its.leased(stack))
                coded.section, coded.why = found.section, found.why
                coded.outcome = Outcome(digest) if found.lossless else judge(found.section, spec, data, digest, its.host)
            coded.stack = stack.pop_all()
            return coded

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
    """Decode a tensor from the unfinished file, compare it with the source and let it go; a lossy one by its digest. Raises EncodeError."""
    assert coded.outcome is not None
    lossless = coded.outcome.source is None

    def same(window: tuple[int, int]) -> bool:
        start, stop = window
        with env.borrow(stop - start, coded.spec.dtype.storage) as out:
            with together(env, name):
                decode(record.section, record.spec, env, start, stop, out)
            return env.backend.same(out, coded.data[start:stop])

    with coded.stack, inside(name):
        check(record.section, record.spec, env)
        if lossless:
            good = all(ordered(pool, same, pieces(record.section, record.spec, env, COMPARED), 4))
        else:
            good = parts_digest(record.section, record.spec, env.host) == record.digest
        if not good:
            raise EncodeError("the tensor does not read back as it was encoded; nothing was written (please report this)")


__all__ = ["EncodeReport", "Progress", "encode", "encode_tensors"]
