"""wcodec calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wcodec.cli.errors import reporting
from wcodec.cli.options import Force
from wcodec.cli.text import human, say

EXAMPLES = """\b
Examples:
  wcodec calibrate model/ --text sample.txt -o model.stats
  wcodec encode model/model.safetensors --bpw 3 --calibration model.stats
"""


def run(
    folder: Annotated[Path, typer.Argument(help="A transformers model: its folder, with config.json and safetensors.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="STATS", help="Where the statistics go.", show_default=False)],
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What it reads: UTF-8 text, or token ids as the only array of an .npz file.", show_default=False),
    ] = None,
    tensors: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="What it is called with, by name; the first axis counts samples.", show_default=False),
    ] = None,
    context: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens that it sees at once.")] = 512,
    gradients: Annotated[bool, typer.Option("--gradients", help="Run backwards, too, to learn how much each output matters.")] = False,
    limit: Annotated[str, typer.Option(metavar="SIZE", help="Bytes that statistics may take.")] = "8GB",
    force: Force = False,
) -> None:
    """Gather what encode --calibration needs: second moments of what its layers are given.

    Needs the extra wcodec[transformers].
    """
    with reporting(folder, False, target=out):
        from wcodec.calibrating import calibrate_folder
        from wcodec.rate.target import size_of

        calibrate_folder(
            folder, out, text=text, tensors=tensors, context=context, gradients=gradients, limit=size_of(limit),
            announce=lambda what: typer.echo(what, err=True), force=force,
        )  # fmt: skip
        say(f"{out}: {human(out.stat().st_size)}")
