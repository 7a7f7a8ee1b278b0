"""The methods and codecs as a catalogue: names, options and defaults, read from the classes themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from inspect import cleandoc
from typing import Any

from wcodec.codecs import CODECS, Codec
from wcodec.container.layout import MAJOR
from wcodec.errors import RecipeError
from wcodec.recipes.base import Method, takes
from wcodec.recipes.methods import METHODS

CPU, GPU = ("numpy", "native"), ("torch", "triton")
"""Backends; where one lacks a verb, that of the one before does."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a method. kind: what it takes, in words. default: None when it is absent or must be given (required)."""

    name: str
    kind: str
    default: Any
    required: bool
    help: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: getattr(self, key) for key in self.__slots__}


@dataclass(frozen=True, slots=True)
class Entry:
    """A method of recipes. importance: it weighs errors by importance when that is given."""

    name: str
    summary: str
    text: str
    importance: bool
    options: Sequence[Option]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        keys = ("name", "summary", "text", "importance")
        return {key: getattr(self, key) for key in keys} | {"options": [option.to_json() for option in self.options]}


@dataclass(frozen=True, slots=True)
class CodecEntry:
    """A codec. exact: decoded bits are determined by the parts. lossless: encoding keeps every bit.

    since: the first version of the format. decode_on, encode_on: backends that do it. decode_host, encode_host: why those of devices are
    not among them. encode_rare: what the cpu encodes even for a device that encodes.
    """

    name: str
    summary: str
    text: str
    exact: bool
    lossless: bool
    since: str
    decode_on: Sequence[str]
    encode_on: Sequence[str]
    decode_host: str
    encode_host: str
    encode_rare: str

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: getattr(self, key) for key in self.__slots__}


def method_entry(name: str) -> Entry:
    """Describe a method. Raises RecipeError."""
    if name not in METHODS:
        raise RecipeError(f"no recipe {name!r}; there are: {', '.join(METHODS)}")
    kind = METHODS[name]
    helps: dict[str, str] = {}
    for its in reversed(kind.__mro__):
        if issubclass(its, Method):
            helps |= _helps(its.__doc__ or "", kind.options())
    own = cleandoc(kind.__doc__ or "")
    found = [_option(its, kind, helps) for its in fields(kind) if its.init and its.name != "importance"]  # type: ignore[arg-type]
    return Entry(name, _first(own), _plain(own), "importance" in kind.options(), found)


def codec_entry(name: str) -> CodecEntry:
    """Describe a codec that this process knows. Raises RecipeError."""
    if name not in CODECS:
        raise RecipeError(f"no codec {name!r}; there are: {', '.join(CODECS)}")
    codec: Codec = CODECS[name]
    text = cleandoc(type(codec).__doc__ or "")
    decode_on, encode_on = (CPU if why else CPU + GPU for why in (codec.host, codec.host_encode))
    since = f"{MAJOR}.{codec.since}"
    on = (since, decode_on, encode_on, codec.host, codec.host_encode, codec.host_rare)
    return CodecEntry(name, _first(text), _plain(text), codec.exact, codec.lossless, *on)


def _option(its: Any, kind: type[Method], helps: Mapping[str, str]) -> Option:
    default = kind.options()[its.name]
    required = default is MISSING
    shown = None if required else default
    return Option(its.name, takes(str(its.type))[0], shown, required, helps.get(its.name, ""))


def _helps(doc: str, known: Mapping[str, Any]) -> dict[str, str]:
    """Find what a docstring says of options: sentences such as ``bond (the largest), error: how long the bonds are.``"""
    text = _plain(cleandoc(doc))
    word = rf"(?:{'|'.join(map(re.escape, known))})" if known else "(?!)"
    item = rf"{word}(?: \([^)]*\))?"
    starts = list(re.finditer(rf"(?:^|(?<=[.;] )|(?<=\n))({item}(?:,? (?:and )?{item})*): ", text))
    found: dict[str, str] = {}
    for start, after in zip(starts, [*starts[1:], None], strict=False):
        said = text[start.end() : after.start() if after else len(text)].strip()
        for name, note in re.findall(rf"({word})(?: \(([^)]*)\))?(?:,|:| and|$)", start[1]):
            found[name] = f"{note}; {said}" if note else said
    return found


def _first(text: str) -> str:
    """Return the first sentence."""
    return _plain(text).partition("\n")[0].partition(". ")[0].rstrip(".")


def _plain(text: str) -> str:
    """Return a docstring without markup, one line per paragraph or sentence that begins a line."""
    paragraphs = [" ".join(part.split()) for part in text.replace("``", "").split("\n\n")]
    return "\n".join(part for part in paragraphs if part)


def catalogue() -> Iterator[Entry]:
    """Yield all methods."""
    return map(method_entry, METHODS)


def codecs() -> Iterator[CodecEntry]:
    """Yield all codecs."""
    return map(codec_entry, CODECS)
