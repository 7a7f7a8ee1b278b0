"""wcodec encode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wcodec.cli.errors import reporting
from wcodec.cli.options import CONTEXT, Backend, Context, Device, Force, Jobs, Json, Kernels, NoProgress, Out, within
from wcodec.cli.progress import Bar, quiet
from wcodec.cli.text import emit, human, percent, say, shape_of, table

if TYPE_CHECKING:
    from wcodec.api.report import EncodeReport, TensorRow
    from wcodec.calibration.walk import Walk

EXAMPLES = """\b
Examples:
  wcodec encode model.safetensors
  wcodec encode checkpoint/ -o encoded/         every shard, and the index
  wcodec encode model.safetensors -t '*.weight' -o weights.wcodec
  wcodec encode model.safetensors --recipe archive   lossless still: fewer bytes, more time
  wcodec encode model.safetensors --bpw 4       or --size 7.5GB, or --max-error 0.01
  wcodec encode model.safetensors --bpw 4 --effort best
  wcodec encode model.safetensors --recipe wfn:delta=0.05
  wcodec encode model.safetensors --recipe my.toml --importance gradients.safetensors
  wcodec encode model.safetensors --bpw 3 --calibration model.stats
  wcodec encode model/ --bpw 3 --calibrate sample.txt --finetune -o encoded/
  wcodec encode whisper/ --bpw 4 --calibrate-tensors speech.npz -o encoded/   input_features and decoder_input_ids in it
  wcodec encode model.safetensors -t '*.query.*=uniform:bits=6' -t '*.ffn.*=gwk:values=16'

\b
Methods and their options: wcodec recipes; codecs: wcodec codecs.
A recipe is a method with options, or a TOML file of rules, of which the first that matches counts:
  [[rule]]
  tensors = ["*.attention.*"]
  dims = 2
  use = "joint-rank-k"
  keep = 0.8
  factors = {codec = "uniform", bits = 8}

A file appears when it is whole. Only a killed process leaves its .wcodec-*.tmp beside it, which may be deleted.
"""


class Effort(StrEnum):
    """How long trellises search."""

    fast = "fast"
    normal = "normal"
    best = "best"


GAP = "gap: bits per weight above the bound for Gaussian values, R − ½ log₂(σ²/D); outliers: values beyond 6 standard deviations"


def run(
    src: Annotated[Path, typer.Argument(metavar="SRC", help="A safetensors file, a folder of shards, or their index.", show_default=False)],
    out: Out = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            metavar="METHOD[:OPTIONS]|FILE.toml",
            help="How to encode: losslessly, unless asked otherwise. auto: by the codec that suits each tensor, for a target.",
            show_default=False,
        ),
    ] = None,
    bpw: Annotated[
        float | None, typer.Option(metavar="BITS", help="Bits per weight that the whole file may have.", show_default=False)
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bytes that the whole file may have, such as 7.5GB.", show_default=False)
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="RMS error that a tensor may have, as a share of its RMS value.", show_default=False),
    ] = None,
    effort: Annotated[Effort, typer.Option(help="How long trellises search for a better fit: 8, 32 or 256 states.")] = Effort.normal,
    tensor: Annotated[
        list[str] | None,
        typer.Option(
            "--tensor",
            "-t",
            metavar="GLOB[=METHOD[:OPTIONS]]",
            help="With a method or codec: encode tensors whose names match so. Without: only these tensors. May be given several times.",
            show_default=False,
        ),
    ] = None,
    importance: Annotated[
        Path | None,
        typer.Option(help="A safetensors file that says how much each weight matters, for methods that weigh errors.", show_default=False),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="STATS", help="What wcodec calibrate has gathered: keep what layers compute.", show_default=False),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXT",
            help="Gather as much meanwhile, block by block of a transformers model, from text or, in an .npz file, token ids.",
            show_default=False,
        ),
    ] = None,
    tensors: Annotated[
        Path | None,
        typer.Option(
            "--calibrate-tensors",
            metavar="FILE.npz",
            help="The same from arrays: what the model is called with, by name; the first axis counts samples.",
            show_default=False,
        ),
    ] = None,
    gradients: Annotated[
        bool,
        typer.Option(help="With these: run blocks backwards, too, to learn how much errors of each output matter; takes twice the time."),
    ] = True,
    finetune: Annotated[
        bool,
        typer.Option("--finetune", help="With these: train norms and biases of a block to make up for what its matrices lost."),
    ] = False,
    context: Context = CONTEXT,
    jobs: Jobs = None,
    backend: Kernels = Backend.auto,
    device: Device = "cpu",
    no_readback: Annotated[
        bool, typer.Option("--no-readback", help="Do not decode every tensor again to compare it before the file is finished.")
    ] = False,
    force: Force = False,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Encode safetensors to .wcodec.

    With --calibrate or --calibrate-tensors, SRC is a transformers model: a folder with config.json, or a file in it. Weights and
    statistics of one block are in memory at a time, and what goes from block to block lies beside the result meanwhile. Needs the
    extra wcodec[transformers].

    Every tensor is read back and compared before the file gets its name. A run that fails or is stopped leaves no file.
    """
    target = within(out, src, ".wcodec")
    with reporting(src, json, target=target or src.parent):
        from wcodec.api.encoder import encode

        options = {"text": calibrate, "tensors": tensors, "context": context, "gradients": gradients, "finetune": finetune}
        with Bar(src.name, not no_progress) as bar, _walk(src, target, calibration, options) as walk:
            report = encode(
                src,
                target,
                recipe=recipe,
                bpw=bpw,
                size=size,
                max_error=max_error,
                effort=effort.value,
                rules=[text for text in tensor or () if "=" in text],
                importance=importance,
                calibration=calibration if walk is None else walk,
                include=[text for text in tensor or () if "=" not in text],
                threads=jobs or None,
                kernels=backend.value,
                device=device,
                readback=not no_readback,
                force=force,
                progress=bar,
            )
        if json:
            emit(report.to_json())
        else:
            for line in _lines(report):
                say(line)


@contextmanager
def _walk(src: Path, target: Path | None, statistics: Path | None, options: dict[str, Any]) -> Iterator[Walk | None]:
    """Prepare a walk along the model where samples are given. options: of ``walk_folder``."""
    from wcodec.errors import RecipeError

    samples = {"--calibrate": options["text"], "--calibrate-tensors": options["tensors"]}
    given = [name for name, its in (samples | {"--calibration": statistics}).items() if its is not None]
    if len(given) > 1:
        raise RecipeError(f"{' and '.join(given)} exclude each other")
    if samples.keys().isdisjoint(given):
        wrong = [name for name, its in (("--finetune", options["finetune"]), ("--no-gradients", not options["gradients"])) if its]
        if wrong:
            raise RecipeError(f"{wrong[0]} goes with --calibrate or --calibrate-tensors")
        yield None
        return
    from wcodec.calibrating import walk_folder

    beside = (src / "x" if src.is_dir() else src) if target is None else target
    scratch = next((its for its in beside.parents if its.is_dir()), None)
    with quiet(), walk_folder(src, scratch=scratch, **options) as walk:
        yield walk


def _lines(report: EncodeReport) -> Iterator[str]:
    """Yield what happened: a table of the tensors when any is approximated, then notes and totals."""
    if not report.lossless:
        numbers = ("bpw", "error", "SNR dB", "gap", "outliers")
        yield from table(("name", "dtype", "shape", "codec", *numbers, ""), [_cells(row) for row in report.tensors], numbers)
        yield GAP
        yield ""
    for note in report.notes:
        yield f"note: {note}"
    yield _summary(report)


def _cells(row: TensorRow) -> tuple[str, ...]:
    error = ("0", "", "", "")
    if row.error is not None:
        gap = "" if row.gap is None else f"{row.gap:+.3f}"
        error = (f"{row.error.relative:.2e}", f"{row.error.snr:.1f}", gap, str(row.error.outliers))
    note = "fine-tuned" if row.tuned else row.why
    return (row.name, row.dtype, shape_of(row.shape), row.codec, f"{row.bits:.2f}", *error, note)


def _summary(report: EncodeReport) -> str:
    sizes = f"{report.source} {human(report.source_size)} → {report.target} {human(report.size)}"
    changed = sum(not row.lossless for row in report.tensors)
    kept = "lossless" if not changed else f"lossy, {changed} of {len(report.tensors)} tensors changed"
    checked = "read back" if report.readback else "not read back"
    rate = f"{report.bpw:.3f} bits per weight, " if changed else ""
    share = f"{percent(report.size, report.source_size)}, {rate}{human(report.loaded)} once loaded"
    return f"{sizes} ({share}) in {report.seconds:.2f} s: {kept}, {checked}"
