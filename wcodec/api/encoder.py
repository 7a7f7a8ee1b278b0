"""Encode: a safetensors file, a sharded folder or tensors in memory to ``.wcodec``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from wcodec.api import indexes
from wcodec.api.attempts import Attempts
from wcodec.api.bounded import bounded
from wcodec.api.crew import Crew
from wcodec.api.encoding import Encoding
from wcodec.api.files import matches
from wcodec.api.importance import importance_of
from wcodec.api.pace import Pace
from wcodec.api.report import TUNED, EncodeReport, TensorRow
from wcodec.api.sources import AllTensors, FileSource, MemorySource, SomeTensors, Source
from wcodec.api.targets import Plan
from wcodec.api.work import make_env, thread_count
from wcodec.calibration.statistics import Statistics
from wcodec.calibration.walk import Walk
from wcodec.codecs import Env
from wcodec.coding.numbers import LOSSY
from wcodec.container import shards
from wcodec.container.safetensors import SafetensorsFile, canonical_header
from wcodec.container.writer import ContainerWriter
from wcodec.errors import EncodeError, RecipeError
from wcodec.rate.target import Target
from wcodec.recipes import Recipe, read_recipe
from wcodec.recipes.base import Calibration, Importance
from wcodec.recipes.effort import at_effort
from wcodec.types import Spec

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""

ORDER = (
    "U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3",
    "F8_E5M2", "I8", "U8", "F6_E3M2", "F6_E2M3", "F4", "BOOL",
)  # fmt: skip
"""The order in which safetensors stores dtypes; names decide among equal ones."""
DEFAULT = "trellis"
"""The recipe for targets."""


def encode(
    source: str | Path,
    target: str | Path | None = None,
    *,
    recipe: str | Path | Recipe | None = None,
    rules: Sequence[str] = (),
    bpw: float | None = None,
    size: int | str | None = None,
    max_error: float | None = None,
    effort: str = "normal",
    sensitivity: Mapping[str, float] | None = None,
    importance: str | Path | Mapping[str, Any] | None = None,
    calibration: str | Path | Calibration | None = None,
    include: Sequence[str] = (),
    threads: int | None = None,
    kernels: str = "auto",
    device: str = "cpu",
    readback: bool = True,
    force: bool = False,
    progress: Progress | None = None,
) -> EncodeReport:
    """Encode a safetensors file, or a folder of shards, to ``.wcodec``.

    target: beside the source by default. recipe: a method's name with options (``wfn:delta=0.05``), a TOML file or a ``Recipe``; by
    default lossless, or what suits a target. rules: ``GLOB=METHOD:options``, tried before the recipe.
    bpw, size, max_error: at most one of them, a bound that is never broken (spec/guide/targets.md): bits per weight or bytes (``7.5GB``) of
    the whole file, of all shards together, or RMS error over RMS value of every tensor. sensitivity: what the relative
    squared error of a tensor counts where bytes are shared; 1 where a name is missing.
    effort: fast, normal or best, of trellises that name no number of states: 8, 32 or 256.
    importance: of every weight (a checkpoint, or name → array), for methods that weigh errors. calibration: statistics of a model's layers
    (``wcodec.calibrate``), by which trellis and nwc keep what layers compute, and other methods weigh errors; or a walk that gathers
    them meanwhile, block by block (``wcodec.calibrating.walk_folder``).
    include: globs of tensor names, all by default. threads: all cores by default.
    kernels: auto, numpy, native, torch or triton. device: where tensors are encoded, to the bytes of the
    cpu, by those codecs that can (``wcodec codecs``).
    readback: decode every tensor again and compare before the file is finished.
    force: replace an existing target. progress: called with (bytes done, bytes in all); both grow by what methods read before they encode.
    Raises EncodeError (a target that is too small, too), RecipeError, NotAContainer (source is not safetensors), FileExistsError, OSError.
    """
    path, bound = Path(source), Target.of(bpw, size, max_error)
    rules_of = _recipe(recipe, rules, _weights(importance, calibration), bound, effort)
    job = _Job(rules_of, include, thread_count(threads), kernels, device, readback, force, bound, sensitivity or {}, _walk(calibration))
    if indexes.is_folder(path):
        return _encode_folder(path, None if target is None else Path(target), job, progress)
    began = time.perf_counter()
    out = path.with_suffix(".wcodec") if target is None else Path(target)
    with ExitStack() as stack:
        opened = _Input(path, job, stack)
        if include and not opened.tensors.names:
            raise EncodeError(f"no tensor matches {', '.join(include)}")
        ((rows, size_),), notes = _encode_all([opened.output(out)], job, progress, opened.size)
        return EncodeReport(str(path), str(out), opened.size, size_, time.perf_counter() - began, readback, rows, notes)


def _weights(importance: str | Path | Mapping[str, Any] | None, calibration: str | Path | Calibration | None) -> Importance | None:
    """Return what methods weigh errors by. Raises RecipeError, FormatError."""
    if calibration is None:
        return importance_of(importance)
    if importance is not None:
        raise RecipeError("importance and calibration exclude each other")
    return calibration if isinstance(calibration, Calibration) else Statistics(calibration)


def _walk(calibration: str | Path | Calibration | None) -> Walk | None:
    return calibration if isinstance(calibration, Walk) else None


def _recipe(
    recipe: str | Path | Recipe | None, rules: Sequence[str], importance: Importance | None, target: Target | None, effort: str
) -> Recipe:
    """Read a recipe; without one, take the default: lossless, or lossy for a target."""
    found = at_effort(read_recipe(recipe or ("lossless" if target is None else DEFAULT), rules, importance), effort)
    return bounded(found, target) if target is not None and target.max_error is not None else found


@dataclass(frozen=True, slots=True)
class _Job:
    recipe: Recipe
    include: Sequence[str]
    threads: int
    kernels: str
    device: str
    readback: bool
    force: bool
    target: Target | None = None
    sensitivity: Mapping[str, float] = field(default_factory=dict)
    walk: Walk | None = None
    attempts: Attempts | None = None

    def env(self) -> Env:
        """Make the environment in which tensors are encoded."""
        return make_env(self.kernels, device=self.device)

    def prepare(self, sources: Mapping[str, Source], progress: Progress | None, size: int) -> tuple[int, Plan | None]:
        """Let the recipe and a target look at all tensors before the first is encoded; return the bytes read, and the plan.

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
        plan = None
        if self.target is not None and self.target.max_error is None:
            plan = Plan.of(self.target, self.recipe, tensors, self.sensitivity, env, self.threads)
        tensors.advance = None  # what is read while encoding counts there
        return seen, plan


@dataclass(frozen=True, slots=True)
class _Output:
    """A file to write. name: of the shard. header: the source's own, where it is not the canonical one."""

    name: str
    tensors: Source
    target: str | Path | BinaryIO
    metadata: Mapping[str, str] | None
    header: bytes | None = None

    def writer(self, job: _Job) -> ContainerWriter:
        encoder = {"version": version("wcodec"), "recipe": job.recipe.text}
        metadata = None if self.metadata is None else dict(self.metadata)
        return ContainerWriter(self.target, metadata=metadata, source_header=self.header, encoder=encoder, force=job.force)


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

    def output(self, out: Path) -> _Output:
        """Return the file to write."""
        return _Output(out.name, self.tensors, out, self.file.metadata, self.header)


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
        total = sum(source.size for source in sources)
        outputs = [source.output(out / indexes.encoded_name(source.path.name)) for source in sources]
        done, notes = _encode_all(outputs, job, progress, total)
    if index is not None:
        names = {output.name: [row.name for row in rows] for output, (rows, _) in zip(outputs, done, strict=True)}
        indexes.write_encoded(index, out, names, job.force)
    rows = [row for its, _ in done for row in its]
    return EncodeReport(str(path), str(out), total, sum(size for _, size in done), time.perf_counter() - began, job.readback, rows, notes)


def encode_tensors(
    tensors: Mapping[str, tuple[Spec, Any]],
    target: str | Path | BinaryIO,
    metadata: Mapping[str, str] | None = None,
    *,
    tied: Mapping[str, str] | None = None,
    recipe: str | Path | Recipe | None = None,
    rules: Sequence[str] = (),
    bpw: float | None = None,
    size: int | str | None = None,
    max_error: float | None = None,
    effort: str = "normal",
    sensitivity: Mapping[str, float] | None = None,
    importance: str | Path | Mapping[str, Any] | None = None,
    calibration: str | Path | Calibration | None = None,
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
    bound = Target.of(bpw, size, max_error)
    rules_of = _recipe(recipe, rules, _weights(importance, calibration), bound, effort)
    job = _Job(rules_of, (), thread_count(threads), kernels, device, readback, force, bound, sensitivity or {}, _walk(calibration))
    names = sorted(tensors, key=lambda name: (ORDER.index(tensors[name][0].dtype.name), name))
    output = _Output("", MemorySource(tensors, names, tied or {}), target, metadata)
    ((rows, _),), _ = _encode_all([output], job, progress, sum(spec.size for spec, _ in tensors.values()))
    return rows


Written: TypeAlias = tuple[list[TensorRow], int]
"""What a report says of the tensors of a file, and its size."""


def _encode_all(outputs: Sequence[_Output], job: _Job, progress: Progress | None, total: int) -> tuple[list[Written], list[str]]:
    """Encode all files, with a target again until they keep to it. total: bytes of the sources. Returns what the methods told, too."""
    seen, plan = job.prepare({output.name: output.tensors for output in outputs}, progress, total)
    if job.walk is not None:
        return _encode_along(job.walk, outputs, job, plan, lambda done: progress and progress(seen + done, seen + total))
    attempts = Attempts()
    while plan is not None:
        planned = replace(job, recipe=plan.choose(), attempts=attempts)
        with ExitStack() as stack:
            writers = [stack.enter_context(output.writer(planned)) for output in outputs]
            for writer in writers:
                stack.callback(writer.abort)
            rows, done = [], seen
            for output, writer in zip(outputs, writers, strict=True):
                rows.append(_write(output.tensors, writer, planned, progress, done, seen + total))
                done += sum(output.tensors.spec(i).size for i in range(len(output.tensors.names)))
            if plan.accept(sum(writer.size() for writer in writers), [row for its in rows for row in its]):
                found = [(its, writer.close()) for its, writer in zip(rows, writers, strict=True)]
                return found, [*planned.recipe.notes(), *plan.notes()]
        seen += total
    found, done = [], seen
    for output in outputs:
        with output.writer(job) as writer:
            its = _write(output.tensors, writer, job, progress, done, seen + total)
            found.append((its, writer.close()))
        done += sum(output.tensors.spec(i).size for i in range(len(output.tensors.names)))
    return found, list(job.recipe.notes())


def _encode_along(
    walk: Walk, outputs: Sequence[_Output], job: _Job, plan: Plan | None, progress: Callable[[int], object]
) -> tuple[list[Written], list[str]]:
    """Encode all files side by side, as a walk comes to the parts of a model. progress: is called with the bytes done."""
    if walk.finetune and job.target is not None and job.target.max_error is not None:
        raise RecipeError("max_error binds every tensor, also those that fine-tuning changes: they exclude each other")
    free = _free(outputs, job.recipe) if walk.finetune else {}
    pace, done = None if plan is None else Pace(plan, {name: spec.size for name, spec in free.items()}), 0
    job = job if pace is None else replace(job, recipe=pace.recipe)
    with ExitStack() as stack:
        writers = [stack.enter_context(output.writer(job)) for output in outputs]
        crew = stack.enter_context(Crew(job.threads))
        env = job.env()  # one for all: what it lends is used again
        encodings = [Encoding(writer, job.recipe, env, crew, job.readback, None) for writer in writers]
        for output, writer in zip(outputs, writers, strict=True):
            writer.order = output.tensors.names
        names = [name for output in outputs for name in output.tensors.names]
        for part in walk.parts(names, {name: spec.dtype for name, spec in free.items()}):
            made = [row for encoding in encodings for row in encoding.rows]
            recipe = job.recipe if pace is None else pace.at(part, sum(writer.size() for writer in writers), made)
            for output, encoding in zip(outputs, encodings, strict=True):
                encoding.recipe, encoding.tuned, before = recipe, walk.tuned, len(encoding.rows)
                for size in encoding.run(SomeTensors(output.tensors, set(part))):
                    done += size
                    progress(done)
                for index, row in enumerate(encoding.rows[before:], before):
                    if walk.sequential and not row.lossless:
                        walk.replace(row.name, partial(encoding.decoded, index))
        for writer, encoding in zip(writers, encodings, strict=True):
            tuned = sum(row.tuned for row in encoding.rows)
            text = f"{job.recipe.text}{TUNED}{tuned} tensors" if tuned else job.recipe.text
            writer.encoder = {**(writer.encoder or {}), "recipe": text}
        if pace is not None:
            pace.check(sum(writer.size() for writer in writers))
        found = []
        for output, writer, encoding in zip(outputs, writers, encodings, strict=True):
            rows = {row.name: row for row in encoding.rows}
            found.append(([rows[name] for name in output.tensors.names], writer.close()))
    return found, [*(job.recipe.notes() if pace is None else pace.notes()), *walk.notes()]


def _free(outputs: Sequence[_Output], recipe: Recipe) -> dict[str, Spec]:
    """Return the vectors of floats that a recipe keeps, and no source ties: what fine-tuning may change."""
    found = {}
    for output in outputs:
        for index, name in enumerate(output.tensors.names):
            spec = output.tensors.spec(index)
            vector = len(spec.shape) == 1 and spec.dtype.name in LOSSY and not output.tensors.tied(index)
            if vector and recipe.choose(name, spec).method.lossless:
                found[name] = spec
    return found


def _write(source: Source, writer: ContainerWriter, job: _Job, progress: Progress | None, done: int, total: int) -> list[TensorRow]:
    """Encode all tensors in order and add them to the writer, reading each back when asked."""
    with Crew(job.threads) as crew:
        encoding = Encoding(writer, job.recipe, job.env(), crew, job.readback, job.attempts)
        for size in encoding.run(source):
            done += size
            if progress is not None:
                progress(done, total)
    return encoding.rows


__all__ = ["EncodeReport", "Progress", "encode", "encode_tensors"]
