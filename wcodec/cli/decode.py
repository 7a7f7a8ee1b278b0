"""wcodec decode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wcodec.cli.errors import reporting
from wcodec.cli.options import Backend, Device, Force, Globs, Jobs, Json, Kernels, Limit, NoProgress, Out, limits, within
from wcodec.cli.progress import Bar
from wcodec.cli.text import counted, emit, human, say

if TYPE_CHECKING:
    from wcodec.api.decoder import DecodeReport

EXAMPLES = """\b
Examples:
  wcodec decode model.wcodec
  wcodec decode encoded/ -o checkpoint/         every shard, and the index
  wcodec decode model.wcodec -t 'encoder.layer.0.*' -o layer0.safetensors
"""


def run(
    src: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="A .wcodec file, a folder of shards, or their index.", show_default=False)
    ],
    out: Out = None,
    tensor: Globs = None,
    jobs: Jobs = None,
    backend: Kernels = Backend.auto,
    device: Device = "cpu",
    limit: Limit = None,
    force: Force = False,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Decode .wcodec to safetensors.

    The result is the source file again, byte for byte, when it was encoded whole and without loss.

    The digest of every tensor is checked before the file gets its name. A run that fails or is stopped leaves no file.
    """
    target, bound = within(out, src, ".safetensors"), limits(limit)
    with reporting(src, json, target=target or src.parent):
        from wcodec.api.decoder import decode

        with Bar(src.name, not no_progress) as bar:
            options: dict[str, Any] = {"threads": jobs or None, "kernels": backend.value, "device": device, "limits": bound}
            report = decode(src, target, include=tensor or (), force=force, progress=bar, **options)
        if json:
            emit(report.to_json())
        else:
            say(_summary(report))


def _summary(report: DecodeReport) -> str:
    sizes = f"{report.source} {human(report.source_size)} → {report.target} {human(report.size)}"
    kept = "the source byte for byte" if report.same_file else counted(report.tensors, "tensor")
    return f"{sizes} in {report.seconds:.2f} s: {kept}, digests checked"
