"""wcodec inspect."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wcodec.cli.errors import reporting
from wcodec.cli.options import Backend, Globs, Jobs, Json, Kernels, Limit, NoProgress, limits
from wcodec.cli.progress import Bar
from wcodec.cli.statistics import accounting, brief, resources, told
from wcodec.cli.text import counted, emit, human, percent, say, shape_of, table
from wcodec.errors import WcodecError

if TYPE_CHECKING:
    from wcodec.api.inspector import FileReport
    from wcodec.api.report import TensorRow

EXAMPLES = """\b
Examples:
  wcodec inspect model.wcodec
  wcodec inspect model.wcodec -t '*.bias' --tree
  wcodec inspect model.wcodec --stats           recounts values in use, entropies, kept elements
  wcodec inspect model.wcodec --json | jq '.tensors[].codec'
"""


def run(
    src: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="A .wcodec or safetensors file, folder or index.", show_default=False)],
    tensor: Globs = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Show how the sections of each tensor nest, with the sizes of their streams.")
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Decode indices, symbols and masks, and recount values in use, entropies and kept elements.")
    ] = False,
    jobs: Jobs = None,
    backend: Kernels = Backend.auto,
    limit: Limit = None,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Show what a file holds, without decoding it.

    The first line says whether anything was lost. Then comes a line for each tensor: its codecs, stored bits per weight, stored
    size, and what its method kept. Then shared sections, what papers would count, and the totals.
    """
    bound = limits(limit)
    with reporting(src, json):
        from wcodec.api.files import suffix_of
        from wcodec.container.shards import WCODEC

        if suffix_of(src) != WCODEC:
            return _plain(src, tensor or (), json)
        from wcodec.api.inspector import inspect

        with Bar(src.name, not no_progress) as bar:
            options: dict[str, Any] = {"threads": jobs or None, "kernels": backend.value, "limits": bound, "progress": bar}
            report = inspect(src, include=tensor or (), stats=stats, **options)
        _any(report.tensors, tensor)
        if json:
            return emit({"format": "wcodec"} | report.to_json())
        say(report.summary())
        for line in _trees(report) if tree else _table(report):
            say(line)
        for line in (*resources(report), *accounting(report), *_totals(report, bool(tensor))):
            say(line)


def _any(found: Sequence[object], globs: list[str] | None) -> None:
    if globs and not found:
        raise WcodecError(f"no tensor matches {', '.join(globs)}")


def _table(report: FileReport) -> Iterator[str]:
    header = ("name", "dtype", "shape", "codec", "bpw", "size", "holds")
    cells = []
    for row in report.tensors:
        known = brief(report.facts.get(row.name, []))
        cells.append((row.name, row.dtype, shape_of(row.shape), _codec(row), f"{row.bits:.2f}", human(row.size), known))
    if not report.facts:
        return table(header[:-1], [line[:-1] for line in cells], ("bpw", "size"))
    return table(header, cells, ("bpw", "size"))


def _codec(row: TensorRow) -> str:
    return row.codec if row.lossless else f"{row.codec}, {'fine-tuned' if row.tuned else 'lossy'}"


def _totals(report: FileReport, partial: bool) -> Iterator[str]:
    yield ""
    raw = sum(row.raw_size for row in report.tensors)
    tensors = counted(len(report.tensors), "tensor")
    if partial:
        stored = sum(row.size for row in report.tensors)
        yield f"{tensors} chosen: {human(stored)}, {percent(stored, raw)} of {human(raw)} decoded"
    else:
        source = raw + _header_size(report)
        files = counted(report.files, "file")
        yield f"{tensors} in {files}: {human(report.size)}, {percent(report.size, source)} of {human(source)} as safetensors"
    yield from _metadata(report.metadata)
    if report.encoder:
        yield f"encoder: {', '.join(f'{key} {value}' for key, value in report.encoder.items())}"


def _header_size(report: FileReport) -> int:
    from wcodec.container.safetensors import canonical_header
    from wcodec.types import Spec

    return len(canonical_header([(row.name, Spec.of(row.dtype, *row.shape)) for row in report.tensors], report.metadata or None))


def _metadata(metadata: Mapping[str, str]) -> Iterator[str]:
    for key, value in metadata.items():
        yield f"metadata: {key} = {_brief(value, 200)}"


def _brief(value: str, width: int) -> str:
    return value if len(value) <= width else f"{value[:width]}… ({len(value):,} characters)"


def _trees(report: FileReport) -> Iterator[str]:
    for row in report.tensors:
        size = f"= {row.alias}" if row.alias is not None else f"{human(row.raw_size)} → {human(row.size)}, {row.bits:.2f} bpw"
        yield f"{row.name}  {row.dtype} {shape_of(row.shape)}  {size}"
        if row.alias is None:
            known = {tuple(its["path"]): told(its) for its in report.facts.get(row.name, [])}
            yield from _branch("", (), report.trees[row.name], "", known)


def _branch(
    before: str, path: tuple[str, ...], part: Mapping[str, Any], indent: str, known: Mapping[tuple[str, ...], str]
) -> Iterator[str]:
    """Yield the lines of a section and all below it.

    before: drawn in front of its own line; indent: of the lines below; known: path → what else is known of a section.
    """
    label = f"{before}{path[-1]}: " if path else "  "
    if "stream" in part:
        yield f"{label}{human(part['stream'])}"
    elif "ref" in part:
        yield f"{label}resource {part['ref']}"
    else:
        params = ", ".join(f"{key}={_value(value)}" for key, value in part["params"].items())
        more = f"  {known[path]}" if path in known else ""
        yield f"{label}{part['codec']}{f' ({params})' if params else ''}{more}"
        below = list(part["parts"].items())
        for i, (key, child) in enumerate(below):
            last = i == len(below) - 1
            lead = f"  {indent}{'└─' if last else '├─'} "
            yield from _branch(lead, (*path, key), child, indent + ("   " if last else "│  "), known)


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else jsonlib.dumps(value, default=str)
    return _brief(text, 60)


def _plain(src: Path, globs: list[str] | tuple[()], json: bool) -> None:
    """Describe a safetensors checkpoint: names, dtypes, shapes."""
    from wcodec.api.files import Checkpoint, matches
    from wcodec.container.shards import SAFETENSORS, shards_of

    files = shards_of(src, SAFETENSORS)
    with Checkpoint(src) as found:
        specs = [(name, found.spec(name)) for name in found.names if matches(name, globs)]
        metadata = found.metadata
    _any(specs, list(globs))
    size = sum(file.stat().st_size for file in files)
    if json:
        rows = [{"name": name, "dtype": spec.dtype.name, "shape": list(spec.shape), "raw_size": spec.size} for name, spec in specs]
        return emit({"format": "safetensors", "path": str(src), "files": len(files), "size": size, "metadata": metadata, "tensors": rows})
    say("safetensors, not encoded")
    cells = [(name, spec.dtype.name, shape_of(spec.shape), human(spec.size)) for name, spec in specs]
    for line in table(("name", "dtype", "shape", "size"), cells, ("size",)):
        say(line)
    say("")
    say(f"{counted(len(specs), 'tensor')} in {counted(len(files), 'file')}: {human(size)}")
    for line in _metadata(metadata):
        say(line)
