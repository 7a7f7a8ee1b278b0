"""wcodec recipes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wcodec.cli.errors import reporting
from wcodec.cli.options import Json
from wcodec.cli.text import emit, say, table

if TYPE_CHECKING:
    from wcodec.recipes.catalogue import Entry, Option

EXAMPLES = """\b
Examples:
  wcodec recipes                                every method, with its options and their defaults
  wcodec recipes joint-rank-k                   what each option of one does
  wcodec recipes --json | jq '.recipes[].name'

A method is chosen by wcodec encode --recipe NAME:option=value,…, for some tensors by --tensor 'GLOB=NAME:option=value,…', or in
a TOML file of rules. Codecs (wcodec codecs) are chosen the same way.
"""


def run(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A method, to learn all about it.", show_default=False)] = None,
    json: Json = False,
) -> None:
    """List the methods that recipes name, and their options.

    With a name: what the method does, and what each option takes and means.
    """
    with reporting(None, json):
        from wcodec.recipes.catalogue import catalogue, method_entry

        if name is not None:
            entry = method_entry(name)
            return emit(entry.to_json()) if json else _print(_details(entry))
        entries = list(catalogue())
        return emit({"recipes": [entry.to_json() for entry in entries]}) if json else _print(_list(entries))


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        say(line)


def _list(entries: list[Entry]) -> Iterator[str]:
    width = max(len(entry.name) for entry in entries) + 2
    for entry in entries:
        yield f"{entry.name:{width}}{entry.summary}"
        if entry.options:
            yield f"{'':{width}}{', '.join(map(_assigned, entry.options))}"


def _assigned(option: Option) -> str:
    if option.required:
        return f"{option.name} (needed)"
    return option.name if option.default in (None, {}) else f"{option.name}={_value(option.default)}"


def _details(entry: Entry) -> Iterator[str]:
    yield f"{entry.name}: {entry.summary}"
    yield ""
    if entry.options:
        cells = [(its.name, its.kind, _default(its), its.help) for its in entry.options]
        yield from table(("option", "takes", "default", "meaning"), cells, ())
        yield ""
    if entry.importance:
        yield "weighs errors by encode --importance FILE"
    shown = next((f":{its.name}={its.default}" for its in entry.options if type(its.default) in (int, float)), "")
    yield f"wcodec encode model.safetensors --recipe {entry.name}{shown}"


def _default(option: Option) -> str:
    return "needed" if option.required else "" if option.default in (None, {}) else _value(option.default)


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
