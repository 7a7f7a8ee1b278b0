"""wcodec quality."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wcodec.cli.errors import BAD, GOOD, reporting
from wcodec.cli.options import Json
from wcodec.cli.text import emit, say

if TYPE_CHECKING:
    from wcodec.evaluation import Estimate, Quality

EXAMPLES = """\b
Examples:
  wcodec quality model/ model.wcodec --text sample.txt
  wcodec quality model/ encoded/ --text tokens.npz --max-kl 0.05 && echo good enough
"""


def run(
    original: Annotated[
        Path, typer.Argument(help="A transformers model: its folder, with config.json and safetensors.", show_default=False)
    ],
    encoded: Annotated[Path, typer.Argument(help="A .wcodec file, folder or index of its weights.", show_default=False)],
    text: Annotated[
        Path,
        typer.Option(metavar="FILE", help="What it reads: UTF-8 text, or token ids as the only array of an .npz file.", show_default=False),
    ],
    context: Annotated[int, typer.Option(metavar="N", min=2, help="Tokens that it sees at once.")] = 512,
    max_kl: Annotated[
        float | None,
        typer.Option("--max-kl", metavar="NATS", help="Fail when the mean divergence is above this.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Compare a language model before and after encoding, token by token of a text.

    Perplexity before and after; the Kullback-Leibler divergence of what it predicts, in nats; how often both predict the same token.
    Numbers after ± are standard errors. Needs the extra wcodec[transformers].

    The exit code is 1 when --max-kl is given and the mean divergence is above it.
    """
    with reporting(original, json, other=encoded):
        from wcodec.perplexity import text_quality

        found = text_quality(original, encoded, text, context=context)
        good = max_kl is None or found.kl.mean <= max_kl
        if json:
            emit(found.to_json() | {"good": good})
        else:
            for line in _lines(found):
                say(line)
            if not good:
                say(f"the mean divergence is above {max_kl:g}")
    raise typer.Exit(GOOD if good else BAD)


def _lines(found: Quality) -> Iterator[str]:
    if found.perplexity is not None and found.change is not None:
        before, after = found.perplexity
        yield f"perplexity      {_with_error(before, 4)} before, {_with_error(after, 4)} after"
        yield f"cross entropy   {found.change.mean:+.5f} ± {found.change.error:.5f} nats"
    yield f"divergence      {_with_error(found.kl, 6)} nats; median {found.kl_median:.6f}, 99th percentile {found.kl_p99:.6f}"
    share = found.agreement
    yield f"same likeliest  {100 * share.mean:.2f} ± {100 * share.error:.2f} %, of {found.positions:,} positions"


def _with_error(its: Estimate, digits: int) -> str:
    return f"{its.mean:.{digits}f} ± {its.error:.{digits}f}"
