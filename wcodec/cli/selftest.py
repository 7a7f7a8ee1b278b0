"""wcodec selftest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wcodec.cli.errors import BAD, GOOD, reporting
from wcodec.cli.options import Backend, Json, Kernels
from wcodec.cli.text import counted, emit, say, table

if TYPE_CHECKING:
    from wcodec.selftest import SelftestReport

EXAMPLES = """\b
Examples:
  wcodec selftest --device cuda
  wcodec selftest --device cuda --backend torch --fixtures fixtures/ --json
"""


def run(
    names: Annotated[list[str] | None, typer.Argument(metavar="[CODEC...]", help="Only these codecs.", show_default=False)] = None,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="A device of torch's: cuda, cpu.")] = "cpu",
    backend: Kernels = Backend.auto,
    fixtures: Annotated[
        Path | None, typer.Option(help="A folder of .wcodec and safetensors files to decode and encode, too.", show_default=False)
    ] = None,
    untimed: Annotated[bool, typer.Option("--untimed", help="Compare bits only.")] = False,
    json: Json = False,
) -> None:
    """Prove that a device computes what the cpu computes, bit for bit, and time it.

    Decodes and encodes examples of every codec. The exit code is 1 if any bit differs, 3 if there is no such device.
    """
    with reporting(None, json):
        from wcodec.selftest import selftest

        report = selftest(device, backend.value, fixtures, not untimed, names or ())
        if json:
            emit(report.to_json())
        else:
            for line in _lines(report):
                say(line)
    raise typer.Exit(GOOD if report.good else BAD)


def _lines(report: SelftestReport) -> Iterator[str]:
    """Yield the checks, the speeds and the verdict."""
    yield from table(("check", "cases", ""), [(its.name, str(its.count), its.why or "same bits") for its in report.checks], ("cases",))
    if report.speeds:
        rows = [(name, f"{value:.2f}" if isinstance(value, float) else value) for name, value in report.speeds.items()]
        yield ""
        yield from table(("BF16 weights", "GB/s"), rows, ())
    cases = counted(sum(its.count for its in report.checks), "case")
    yield f"{report.device}, {report.backend}: {f'good, {cases}' if report.good else 'WRONG BITS: do not use this device'}"
