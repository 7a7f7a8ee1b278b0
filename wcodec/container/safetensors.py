"""safetensors files: strict parsing, ranges of tensors, the canonical header, writing (spec/container.md section 7)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from math import isinf
from types import TracebackType
from typing import Any, BinaryIO, NoReturn

import numpy as np

from wcodec.container import sniff
from wcodec.container.atomic import Target, open_target
from wcodec.container.streams import FileSource
from wcodec.errors import Corrupt, FormatError, NotAContainer, Truncated
from wcodec.types import DTYPES, U8, Spec

MAX_HEADER = 100_000_000
_MAX_DEPTH = 120
_FIELDS = ("dtype", "shape", "data_offsets")


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor of a safetensors file: bytes begin to end of the tensor data."""

    name: str
    spec: Spec
    begin: int
    end: int


class SafetensorsFile:
    """An open safetensors file. Its header is checked by the rules of the safetensors library.

    header_bytes: length and header as stored. metadata: None where absent. entries: in the order of their data.
    Safe for many threads. Raises NotAContainer, Truncated, Corrupt, OSError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._source = FileSource(path)
        self.size = self._source.size
        try:
            self.header_bytes = self._header()
            self.metadata, self.entries = parse_header(self.header_bytes)
            data = self.entries[-1].end if self.entries else 0
            self._check_end(len(self.header_bytes) + data)
        except FormatError as e:
            self.close()
            raise e.inside(os.fspath(path)) from None
        except BaseException:
            self.close()
            raise

    def _header(self) -> bytes:
        head = self._bytes(0, min(self.size, 4096))
        length = int.from_bytes(head[:8], "little")
        if self.size < 8 or length > MAX_HEADER or head[8:9] not in (b"{", b""):
            raise NotAContainer(f"not a safetensors file: {sniff.describe(head, self.size)}")
        if length > self.size - 8:
            raise Truncated(f"a header of {length} bytes in a file of {self.size}")
        return self._bytes(0, 8 + length)

    def _check_end(self, end: int) -> None:
        if end > self.size:
            raise Truncated(f"the file has {self.size} of {end} bytes")
        if end < self.size:
            raise Corrupt(f"{self.size - end} bytes follow the last tensor")

    def _bytes(self, start: int, stop: int) -> bytes:
        out: U8 = np.empty(stop - start, np.uint8)
        self._source.read_into(start, out)
        return out.tobytes()

    def read(self, entry: Entry, start: int, stop: int, out: U8 | None = None) -> U8:
        """Read bytes start to stop of a tensor, into out where given. Raises Truncated when the file was cut meanwhile."""
        if not 0 <= start <= stop <= entry.end - entry.begin:
            raise ValueError(f"bytes {start} to {stop} of a tensor of {entry.end - entry.begin}")
        if out is None:
            out = np.empty(stop - start, np.uint8)
        self._source.read_into(len(self.header_bytes) + entry.begin + start, out[: stop - start])
        return out[: stop - start]

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> SafetensorsFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def parse_header(header: bytes) -> tuple[dict[str, str] | None, list[Entry]]:
    """Parse length and header; return metadata and entries by data offset, then by their place in the header.

    Accepts what the safetensors library accepts: unknown keys, a name twice (the last one counts), trailing white space.
    Refused though the library takes them: white space before the object, entries written as arrays, rank above 64.
    Raises Corrupt.
    """
    if len(header) < 8 or int.from_bytes(header[:8], "little") != len(header) - 8 or header[8:9] != b"{":
        raise Corrupt("a safetensors header must begin with its length and {")
    fields = _json(header[8:])
    metadata = fields.pop("__metadata__", None)
    if metadata is not None and (type(metadata) is not dict or not set(map(type, metadata.values())) <= {str}):
        raise Corrupt("__metadata__ is not a map of strings")
    entries = [_entry(name, value) for name, value in fields.items()]
    entries.sort(key=lambda e: (e.begin, e.end))
    at = 0
    for entry in entries:
        if entry.begin != at or entry.end - at != entry.spec.size:
            raise Corrupt(f"bytes {entry.begin} to {entry.end} for {entry.spec}, expected to begin at {at}", at=entry.name)
        at = entry.end
    return metadata, entries


def _entry(name: str, value: Any) -> Entry:
    """Check one entry of the header."""
    if type(value) is not dict or any(key not in value for key in _FIELDS):
        raise Corrupt("dtype, shape or data_offsets is missing", at=name)
    dtype, shape, offsets = (value[key] for key in _FIELDS)
    if type(dtype) is not str or dtype not in DTYPES:
        raise Corrupt(f"unknown dtype {dtype!r}", at=name)
    for numbers in (shape, offsets):
        if type(numbers) is not list or not all(type(n) is int and 0 <= n < 2**64 for n in numbers):
            raise Corrupt("shape or data_offsets is not an array of unsigned integers", at=name)
    if len(offsets) != 2:
        raise Corrupt(f"{len(offsets)} data_offsets", at=name)
    if len(value) > len(_FIELDS):
        for key in value.keys() - set(_FIELDS):
            _check_ignored(value[key], _MAX_DEPTH)
    try:
        return Entry(name, Spec(DTYPES[dtype], tuple(shape)), *offsets)
    except FormatError as e:
        raise e.inside(name) from None


def _json(text: bytes) -> dict[str, Any]:
    """Parse the object as strictly as safetensors does."""
    options: dict[str, Any] = {"parse_int": _integer} if b"-0" in text else {}
    try:
        fields = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_constant, **options)
        if b"\\u" in text:
            "".join(_strings(fields)).encode()  # lone surrogates
    except UnicodeError as e:
        raise Corrupt(f"the header is not UTF-8: {e}") from None
    except (ValueError, RecursionError) as e:
        raise Corrupt(f"the header is not JSON: {e}") from None
    if type(fields) is not dict:
        raise Corrupt("the header is not an object")
    return fields


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        for key in (*_FIELDS, "__metadata__"):
            if keys.count(key) > 1:
                raise ValueError(f"{key} stands there twice")
    return made


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _integer(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _check_ignored(value: Any, room: int) -> None:
    """Refuse in keys that nobody reads what safetensors' parser refuses there: huge numbers and deep nesting."""
    if (isinstance(value, float) and isinf(value)) or (isinstance(value, int) and value.bit_length() > 1023):
        raise Corrupt("a number in the header is out of range")
    if isinstance(value, dict | list):
        if not room:
            raise Corrupt("the header nests too deep")
        for item in value.values() if isinstance(value, dict) else value:
            _check_ignored(item, room - 1)


def canonical_header(specs: Iterable[tuple[str, Spec]], metadata: dict[str, str] | None) -> bytes:
    """Make length and header of a file that stores tensors in this order. Spec: section 7."""
    items, at = [], 0
    if metadata is not None:
        pairs = ",".join(f"{_quote(key)}:{_quote(metadata[key])}" for key in sorted(metadata))
        items.append(f'"__metadata__":{{{pairs}}}')
    for name, spec in specs:
        shape = ",".join(map(str, spec.shape))
        items.append(f'{_quote(name)}:{{"dtype":"{spec.dtype.name}","shape":[{shape}],"data_offsets":[{at},{at + spec.size}]}}')
        at += spec.size
    text = ("{" + ",".join(items) + "}").encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def header_matches(header: bytes, specs: Iterable[tuple[str, Spec]], metadata: dict[str, str] | None) -> bool:
    """Whether a kept header parses to exactly these names, specs and cumulative offsets, and this metadata. Spec: C-27."""
    try:
        said, entries = parse_header(header)
    except FormatError:
        return False
    return said == metadata and [(e.name, e.spec) for e in entries] == list(specs)


class SafetensorsWriter:
    """Write a safetensors file, which exists under its name only once it is whole: its header, then tensors in order.

    header_bytes: length and header. Use as a context manager. Raises FileExistsError without force, OSError.
    """

    def __init__(self, path: str | os.PathLike[str] | BinaryIO, header_bytes: bytes, force: bool = False) -> None:
        _, entries = parse_header(header_bytes)
        self._size = len(header_bytes) + (entries[-1].end if entries else 0)
        self._target: Target = open_target(path, force)
        self._open = True
        try:
            self._target.write(header_bytes)
        except BaseException:
            self.abort()
            raise

    def write(self, data: bytes | U8) -> None:
        """Write the next bytes of tensor data."""
        self._target.write(data)

    def close(self) -> int:
        """Make the file durable under its name and return its size. Raises ValueError where tensor data are missing or too many."""
        try:
            if self._target.position != self._size:
                raise ValueError(f"{self._target.position} bytes written, the header wants {self._size}")
            self._target.commit()
        except BaseException:
            self.abort()
            raise
        self._open = False
        return self._size

    def abort(self) -> None:
        """Remove what was written; harmless after `close`."""
        self._open = False
        self._target.abort()

    def __enter__(self) -> SafetensorsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None and self._open:
            self.close()
        else:
            self.abort()
