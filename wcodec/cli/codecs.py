"""wcodec codecs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from wcodec.cli.errors import reporting
from wcodec.cli.options import Json
from wcodec.cli.text import emit, say, table

if TYPE_CHECKING:
    from wcodec.recipes.catalogue import CodecEntry

EXAMPLES = """\b
Examples:
  wcodec codecs                                 every codec in one line
  wcodec codecs uniform                         what it stores, and its encoder options
  wcodec codecs --json | jq '.codecs[] | select(.lossless)'
"""


def run(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A codec, to learn its options.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """List the codecs that sections are made of.

    exact: decodes to the same bits everywhere; tolerant: the last bits may differ. lossless: encoding keeps every bit; lossy:
    it approximates.
    """
    with reporting(None, json):
        from wcodec.recipes.catalogue import codec_entry, codecs

        if name is not None:
            entry = codec_entry(name)
            return emit(entry.to_json()) if json else _print(entry)
        entries = list(codecs())
        if json:
            return emit({"codecs": [entry.to_json() for entry in entries]})
        for line in table(("codec", "stores", "decodes", "encodes"), [(its.name, its.summary, *_traits(its)) for its in entries], ()):
            say(line)


def _print(entry: CodecEntry) -> None:
    for line in (f"{entry.name} ({', '.join(_traits(entry))})", *entry.text.splitlines()):
        say(line)


def _traits(entry: CodecEntry) -> tuple[str, str]:
    return "exact" if entry.exact else "tolerant", "lossless" if entry.lossless else "lossy"
