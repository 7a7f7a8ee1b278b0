"""wcodec codecs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from wcodec.cli.errors import reporting
from wcodec.cli.options import Json
from wcodec.cli.text import emit, say, table

if TYPE_CHECKING:
    from wcodec.recipes.catalogue import CodecEntry

KERNELS = (
    "triton: kernels for what takes long; torch's own operations copy and fill (raw, const), multiply matrices (lowrank, tensortrain, "
    "nets of more than 64 numbers), scale what nets make, and search trellises (encoding)"
)
UNPROVED = "No GPU has run this version yet: torch ran on the cpu, Triton in its interpreter. wcodec selftest --device cuda tries yours."
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
        header = ("codec", "stores", "decodes", "encodes", "since", "decoded by", "encoded by")
        rows = [(its.name, its.summary, *_traits(its), its.since, *map(", ".join, (its.decode_on, its.encode_on))) for its in entries]
        for line in (*table(header, rows, ()), "", *_why(entries), KERNELS, UNPROVED):
            say(line)


def _print(entry: CodecEntry) -> None:
    traits = (*_traits(entry), f"since {entry.since}")
    for line in (f"{entry.name} ({', '.join(traits)})", *entry.text.splitlines(), "", *_where(entry), UNPROVED):
        say(line)


def _where(entry: CodecEntry) -> Iterator[str]:
    """Yield what decodes and encodes, and why devices do not."""
    for does, names, why in (("decoded", entry.decode_on, entry.decode_host), ("encoded", entry.encode_on, entry.encode_host)):
        yield f"{does} by {', '.join(names)}{f'; on the cpu for a device: {why}' if why else ''}"
    if entry.encode_rare:
        yield f"encoded on the cpu even for a device: {entry.encode_rare}"


def _why(entries: Sequence[CodecEntry]) -> Iterator[str]:
    """Yield the reasons why devices do not decode or encode, and the codecs that have each."""
    for does, key in (("decodes", "decode_host"), ("encodes", "encode_host")):
        reasons: dict[str, list[str]] = {}
        for entry in entries:
            if why := getattr(entry, key):
                reasons.setdefault(why, []).append(entry.name)
        yield from (f"the cpu {does} for a device {', '.join(names)}: {why}" for why, names in reasons.items())
    yield from (f"the cpu encodes for a device what is rare in {its.name}: {its.encode_rare}" for its in entries if its.encode_rare)


def _traits(entry: CodecEntry) -> tuple[str, str]:
    return "exact" if entry.exact else "tolerant", "lossless" if entry.lossless else "lossy"
