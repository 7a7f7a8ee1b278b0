"""Small containers for tests, and ways to break them."""

from __future__ import annotations

import io

import numpy as np
import pytest

from wcodec.container import msgpack, zstdframe
from wcodec.container.layout import MAGIC, Trailer, checksum
from wcodec.container.reader import ContainerReader
from wcodec.container.writer import ContainerWriter
from wcodec.errors import Corrupt, WcodecError
from wcodec.types import MemoryStream, Ref, Section, Spec

SPEC = Spec.of("U8", 3)
DIGEST = bytes(range(32))


def stream(size: int, seed: int = 0) -> MemoryStream:
    return MemoryStream(np.random.default_rng(seed + size).integers(0, 256, size, np.uint8))


def raw(size: int, seed: int = 0) -> Section:
    return Section("raw", {}, {"data": stream(size, seed)})


def write(fill=lambda w: None, **options) -> bytes:
    buffer = io.BytesIO()
    with ContainerWriter(buffer, **options) as writer:
        fill(writer)
    return buffer.getvalue()


def fill_all_kinds(w: ContainerWriter) -> None:
    ref = w.add_resource(Spec.of("F32", 300), raw(1200))
    deep = Section("concat", {"lengths": [1, 2]}, {"0": raw(300), "1": raw(5), "10": ref, "2": raw(257)})
    w.add("a", SPEC, deep, DIGEST)
    w.add("b", Spec.of("BF16", 2, 0), Section("const", {"value": 7}), DIGEST, source=b"", tolerant=True)
    w.add_alias("c", 0, tied=True)
    w.add("d", Spec.of("F4", 2), raw(1000), DIGEST, source=DIGEST)


def restamp(data: bytes, change) -> bytes:
    """Change the unpacked manifest of a file and make trailer and checksum fit again."""
    trailer = Trailer.unpack(data[-40:], len(data))
    stored = data[trailer.offset : -40]
    fields = msgpack.unpack(zstdframe.decompress(stored, 10**8) if trailer.compressed else stored)
    packed = change(fields)
    return with_manifest(data[: trailer.offset], packed if isinstance(packed, bytes) else msgpack.pack(packed or fields))


def with_manifest(front: bytes, stored: bytes, **options) -> bytes:
    trailer = Trailer(len(front), len(stored), options.pop("minor", 0), options.pop("compressed", False), **options)
    head = trailer.head()
    return front + stored + head + checksum(stored, head).to_bytes(8, "little") + MAGIC


def check_all(data: bytes) -> None:
    with ContainerReader(data) as reader:
        reader.check_everything()
        reader.content_digest()


def refused(rule: str, data: bytes, kind: type[WcodecError] = Corrupt) -> None:
    with pytest.raises(kind) as caught:
        check_all(data)
    assert caught.value.rule == rule, caught.value


def same(a, b) -> bool:
    """Compare sections, streams by their bytes."""
    if isinstance(a, Section):
        return (a.codec, dict(a.params), list(a.parts)) == (b.codec, dict(b.params), sorted(b.parts)) and all(
            same(a.parts[key], b.parts[key]) for key in a.parts
        )
    if isinstance(a, Ref):
        return a == b
    with a.read(0, a.size) as x, b.read(0, b.size) as y:
        return x.tobytes() == y.tobytes()


EMPTY = {"checksums": b"", "extents": b"", "tensors": []}
FRONT = write()[:64]


def record_fields(**changes):
    fields = {"dtype": "U8", "shape": [3], "section": {"codec": "raw", "parts": {"data": b"abc"}}, "digest": DIGEST}
    return {key: value for key, value in (fields | changes).items() if value is not ...}
