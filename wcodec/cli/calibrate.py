"""wcodec calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wcodec.cli.errors import reporting
from wcodec.cli.options import CONTEXT, Context, Force, Json, NoProgress
from wcodec.cli.progress import Bar, quiet
from wcodec.cli.text import counted, emit, human, say

if TYPE_CHECKING:
    from wcodec.calibration.statistics import Statistics

EXAMPLES = """\b
Examples:
  wcodec calibrate model/ --text sample.txt -o model.stats
  wcodec encode model/model.safetensors --bpw 3 --calibration model.stats
  wcodec calibrate vision/ --tensors images.npz -o vision.stats     pixel_values in it: [samples, 3, 224, 224]

\b
A few tens of thousands of tokens of the kind that the model will see are plenty; what it is judged by should not be among them.
Where the statistics of the whole model are too large, wcodec encode --calibrate TEXT gathers and drops them block by block.
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
    context: Context = CONTEXT,
    gradients: Annotated[bool, typer.Option(help="Run backwards, too, to learn how much errors of each output matter.")] = True,
    limit: Annotated[str, typer.Option(metavar="SIZE", help="Bytes that statistics may take.")] = "8GB",
    force: Force = False,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Gather what encode --calibration needs: second moments of what a model's layers are given.

    The model runs over samples, --text or --tensors, in float32 on the cpu. Of layers that are given the same input, one matrix is
    kept: inputs × inputs numbers, of which half is stored. How large all will be is told once the first sample has run.

    Needs the extra wcodec[transformers].
    """
    if (text is None) == (tensors is None):
        raise typer.BadParameter("give one of them", param_hint="--text, --tensors")
    with reporting(folder, json, target=out):
        from wcodec.calibrating import calibrate_folder
        from wcodec.rate.target import size_of

        with quiet(), Bar(folder.name, not no_progress, "samples") as bar:
            found = calibrate_folder(
                folder, out, text=text, tensors=tensors, context=context, gradients=gradients, limit=size_of(limit),
                announce=lambda what: typer.echo(what, err=True), progress=bar, force=force,
            )  # fmt: skip
        facts = _facts(found, out)
        if json:
            emit(facts)
        else:
            layers, inputs = counted(facts["layers"], "layer"), counted(facts["inputs"], "kind")
            say(f"{out}: {human(facts['size'])}, {layers} with {inputs} of inputs, from {counted(facts['samples'], 'sample')}")


def _facts(found: Statistics, out: Path) -> dict[str, Any]:
    inputs = len({its.inputs for its in found.layers.values()})
    return {"target": str(out), "size": out.stat().st_size, "layers": len(found.layers), "inputs": inputs, "samples": found.batches}
