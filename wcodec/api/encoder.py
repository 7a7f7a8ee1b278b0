"""Encode: a safetensors file, a sharded folder or tensors in memory to ``.wcodec``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import blake3
import numpy as np

from wcodec.api import indexes
from wcodec.api.crew import Crew, Task
from wcodec.api.files import matches
from wcodec.api.importance import importance_of
from wcodec.api.opened import inside
from wcodec.api.outcome import Outcome, judge, parts_digest
from wcodec.api.report import EncodeReport, TensorRow
from wcodec.api.sources import AllTensors, FileSource, MemorySource, Source
from wcodec.api.work import make_env, pieces, thread_count, together
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
LARGE = 1 << 23
"""Bytes from which a tensor is encoded by all threads together; smaller ones are encoded side by side."""
RUN = 1 << 20
"""Bytes up to which one task encodes neighbours: fewer are not worth the handing over."""


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


def _write(source: Source, writer: ContainerWriter, job: _Job, progress: Progress | None, done: int, total: int) -> list[TensorRow]:
    """Encode all tensors in order and add them to the writer, reading each back when asked."""
    with Crew(job.threads) as crew:
        encoding = _Encoding(source, writer, job, crew)
        for size in encoding.run():
            done += size
            if progress is not None:
                progress(done, total)
    return encoding.rows


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


class _Encoding:
    """Tensors on their way to a file: read and encoded by the crew, written by the caller in order, read back by the crew.

    rows: what the report says of those written.
    """

    def __init__(self, source: Source, writer: ContainerWriter, job: _Job, crew: Crew) -> None:
        self.rows: list[TensorRow] = []
        self._source, self._writer, self._job, self._crew = source, writer, job, crew
        self._env = job.env().within(writer.written_resource)
        alone = crew.threads == 1 or self._env.near is not None
        self._wide = self._env if alone else self._env.spread(crew.map, crew.threads)
        self._known: dict[tuple[Spec, bytes], int] = {}
        self._first: dict[tuple[Spec, bytes], int] = {}

    def run(self) -> Iterator[int]:
        """Yield the bytes of the tensors that were written, run by run."""
        checks: deque[Task[None]] = deque()
        for coded in self._crew.ordered(self._code, self._runs(), self._crew.threads * LARGE, self._size):
            written = [found for its in coded if (found := self._add(its)) is not None]
            check = partial(self._compare, written)
            if any(its.spec.size >= LARGE for its in coded):
                check()
            elif written:
                checks.append(self._crew.start(check))
            while len(checks) > 2 * self._crew.threads:
                self._crew.result(checks.popleft())
            yield sum(its.spec.size for its in coded)
        while checks:
            self._crew.result(checks.popleft())

    def _runs(self) -> Iterator[list[int]]:
        """Yield what one task encodes: neighbours of a few bytes, or one larger tensor."""
        run: list[int] = []
        left = RUN
        for index in range(len(self._source.names)):
            left -= self._size([index])
            if run and left < 0:
                yield run
                run, left = [], RUN - self._size([index])
            run.append(index)
        if run:
            yield run

    def _size(self, run: Sequence[int]) -> int:
        return sum(self._source.spec(index).size for index in run)

    def _code(self, run: Sequence[int]) -> list[_Coded]:
        return [self._code_one(index) for index in run]

    def _code_one(self, index: int) -> _Coded:
        name, spec = self._source.names[index], self._source.spec(index)
        env = self._wide if spec.size >= LARGE else self._env
        with ExitStack() as stack, inside(name):
            data = self._source.read(index, env.host, stack)
            digest = blake3.blake3(data.view(np.uint8).data, max_threads=env.parallel).digest()
            x = data if env.near is None else self._there(index, data)
            coded = _Coded(index, spec, digest, x, stack)
            earlier = self._known.get((spec, digest), index)
            self._known[spec, digest] = min(index, earlier)
            if earlier >= index:
                found = self._job.recipe.encode(name, x, spec, env.leased(stack))
                coded.section, coded.why = found.section, found.why
                coded.outcome = Outcome(digest) if found.lossless else judge(found.section, spec, data, digest, env.host)
            coded.stack = stack.pop_all()
            return coded

    def _there(self, index: int, data: UInts) -> Any:
        """Return a tensor on the device: as it is there, or copied."""
        found = self._source.there(index)
        return self._env.backend.from_host(data) if found is None else found

    def _add(self, coded: _Coded) -> tuple[_Coded, TensorRecord] | None:
        """Write an encoded tensor, or a reference to the same bytes; return what is to be read back."""
        name = self._source.names[coded.index]
        with inside(name):
            first = self._first.setdefault((coded.spec, coded.digest), coded.index)
            if first != coded.index:
                self._writer.add_alias(name, first, self._source.tied(coded.index))
                self.rows.append(self.rows[first].alias_of(name))
            else:
                assert coded.section is not None and coded.outcome is not None
                out = coded.outcome
                at = self._writer.add(name, coded.spec, coded.section, out.digest, out.source, out.tolerant)
                self.rows.append(TensorRow.of(name, coded.spec, coded.section, out.source is None, out.digest, out.error, coded.why))
                if self._job.readback:
                    return coded, self._writer.written(at)
        coded.stack.close()
        return None

    def _compare(self, written: Sequence[tuple[_Coded, TensorRecord]]) -> None:
        for coded, record in written:
            name = self._source.names[coded.index]
            with coded.stack, inside(name):
                _compare(name, record, coded, self._wide if coded.spec.size >= LARGE else self._env)


def _compare(name: str, record: TensorRecord, coded: _Coded, env: Env) -> None:
    """Decode a tensor from the unfinished file and compare it with the source; a lossy one by its digest. Raises EncodeError."""

    def same(window: tuple[int, int]) -> bool:
        start, stop = window
        with env.borrow(stop - start, coded.spec.dtype.storage) as out:
            with together(env, name):
                decode(record.section, record.spec, env, start, stop, out)
            return env.backend.same(out, coded.data[start:stop])

    check(record.section, record.spec, env)
    if record.lossless:
        good = all(env.workers(same, pieces(record.section, record.spec, env)))
    else:
        good = parts_digest(record.section, record.spec, env.host) == record.digest
    if not good:
        raise EncodeError("the tensor does not read back as it was encoded; nothing was written (please report this)")


__all__ = ["EncodeReport", "Progress", "encode", "encode_tensors"]
