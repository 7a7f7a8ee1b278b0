"""wcodec encode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wcodec.cli.errors import reporting
from wcodec.cli.options import Backend, Force, Globs, Jobs, Json, Kernels, NoProgress, Out, within
from wcodec.cli.progress import Bar
from wcodec.cli.text import emit, human, percent, say

if TYPE_CHECKING:
    from wcodec.api.report import EncodeReport

EXAMPLES = """\b
Examples:
  wcodec encode model.safetensors
  wcodec encode checkpoint/ -o encoded/         every shard, and the index
  wcodec encode model.safetensors -t '*.weight' -o weights.wcodec
"""


def run(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="A safetensors file, a folder of shards, or their index.", show_default=False)],
    out: Out = None,
    recipe: Annotated[str, typer.Option("--recipe", "-r", help="How to encode.")] = "lossless",
    tensor: Globs = None,
    jobs: Jobs = None,
    backend: Kernels = Backend.auto,
    no_readback: Annotated[
        bool, typer.Option("--no-readback", help="Do not decode every tensor again to compare it before the file is finished.")
    ] = False,
    force: Force = False,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Encode safetensors to .wcodec.

    Every tensor is read back and compared before the file gets its name. A run that fails or is stopped leaves no file.
    """
    target = within(out, src, ".wcodec")
    with reporting(src, json, target=target or src.parent):
        from wcodec.api.encoder import encode

        with Bar(src.name, not no_progress) as bar:
            report = encode(
                src,
                target,
                recipe=recipe,
                include=tensor or (),
                threads=jobs or None,
                kernels=backend.value,
                readback=not no_readback,
                force=force,
                progress=bar,
            )
        if json:
            emit(report.to_json())
        else:
            say(_summary(report))


def _summary(report: EncodeReport) -> str:
    sizes = f"{report.source} {human(report.source_size)} → {report.target} {human(report.size)}"
    changed = sum(not row.lossless for row in report.tensors)
    kept = "lossless" if not changed else f"lossy, {changed} of {len(report.tensors)} tensors changed"
    checked = "read back" if report.readback else "not read back"
    return f"{sizes} ({percent(report.size, report.source_size)}) in {report.seconds:.2f} s: {kept}, {checked}"
