"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from wcodec.types import Limits


class Backend(StrEnum):
    """Who runs the kernels."""

    auto = "auto"
    numpy = "numpy"
    native = "native"
    torch = "torch"
    triton = "triton"


Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="OUT", help="Where the result goes; without it, beside the source.", show_default=False),
]
Globs = Annotated[
    list[str] | None,
    typer.Option("--tensor", "-t", metavar="GLOB", help="Only tensors whose names match; may be given several times.", show_default=False),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", metavar="N", min=0, envvar="WCODEC_THREADS", help="Threads; 0, the default, takes all cores.", show_default=False
    ),
]
Kernels = Annotated[Backend, typer.Option("--backend", help="Who computes: numpy, native kernels, torch, triton, or the best.")]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="Where to compute: cpu, or a device of torch's, such as cuda.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace an existing file.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, errors included.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="Show no progress bar (none is shown off a terminal either).")]
CONTEXT = 512
Context = Annotated[
    int, typer.Option("--context", metavar="N", min=1, help="Tokens of the pieces of a text that a model reads, each by itself.")
]
Limit = Annotated[
    str | None,
    typer.Option(
        "--limit",
        metavar="SIZE",
        help="Bytes that a file may decode to, such as 200GB; by default 64 times its size and 1 GiB.",
        show_default=False,
    ),
]


def limits(size: str | None) -> Limits | None:
    """Read a size with a decimal unit. Raises typer.BadParameter."""
    if size is None:
        return None
    from wcodec.errors import RecipeError
    from wcodec.rate.target import size_of
    from wcodec.types import Limits

    try:
        return Limits(size_of(size))
    except RecipeError as error:
        raise typer.BadParameter(error.message, param_hint="--limit") from None


def within(out: Path | None, source: Path, suffix: str) -> Path | None:
    """Return the target; in a folder that exists, a single file gets its usual name."""
    if out is None or not out.is_dir() or source.is_dir() or source.name.endswith(".index.json"):
        return out
    return out / source.with_suffix(suffix).name
