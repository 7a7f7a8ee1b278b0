"""wcodec diff."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wcodec.cli.errors import BAD, GOOD, reporting
from wcodec.cli.options import Backend, Globs, Jobs, Json, Kernels, Limit, NoProgress, limits
from wcodec.cli.progress import Bar
from wcodec.cli.text import counted, emit, say
from wcodec.errors import WcodecError

if TYPE_CHECKING:
    from wcodec.api.checks import DiffReport

EXAMPLES = """\b
Examples:
  wcodec diff model.safetensors model.wcodec
  wcodec diff old.wcodec new.wcodec -t 'encoder.*'
  wcodec diff checkpoint/ encoded/ && echo the same
"""

_Side = Annotated[Path, typer.Argument(help="A .wcodec or safetensors file, folder or index.", show_default=False)]


def run(
    a: _Side,
    b: _Side,
    tensor: Globs = None,
    jobs: Jobs = None,
    backend: Kernels = Backend.auto,
    limit: Limit = None,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Compare two checkpoints by decoded content.

    Lists the tensors that are not the same bit for bit, whatever the format and the codecs on either side. Products of float
    factors, whose last bits depend on the machine, may differ as far as the pages of their codecs say; they are listed, too.

    The exit code is 0 when all tensors are the same and 1 when any differs. Metadata is mentioned, but does not count.
    """
    bound = limits(limit)
    with reporting(a, json, other=b):
        from wcodec.api.checks import diff

        with Bar("comparing", not no_progress) as bar:
            report = diff(a, b, include=tensor or (), threads=jobs or None, kernels=backend.value, limits=bound, progress=bar)
        if tensor and report.same and not report.same_count:
            raise WcodecError(f"no tensor matches {', '.join(tensor)}")
        if json:
            emit(report.to_json())
        else:
            _show(report)
    raise typer.Exit(GOOD if report.same else BAD)


def _show(report: DiffReport) -> None:
    for name in report.within:
        say(f"the same within the bound of its codec: {name}")
    found = {"only in A": report.only_a, "only in B": report.only_b, "other dtype or shape": report.spec, "other values": report.values}
    for what, names in found.items():
        for name in names:
            say(f"{what}: {name}")
    if report.metadata:
        say("metadata differs")
    if report.same:
        ways = {"by their parts": len(report.parts), "within the bounds of their codecs": len(report.within)}
        bits = report.same_count - sum(ways.values())
        how = [f"{number:,} {way}" for way, number in {"bit for bit": bits, **ways}.items() if number]
        say(f"same: {counted(report.same_count, 'tensor')}, {', '.join(how) if bits < report.same_count else 'bit for bit'}")
    else:
        counts = ", ".join(f"{len(names):,} {what}" for what, names in found.items() if names)
        say(f"different: {counts}; {report.same_count:,} the same")
