"""Every rule of the container's page, broken one at a time."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from containers import (
    DIGEST,
    EMPTY,
    FRONT,
    SPEC,
    check_all,
    fill_all_kinds,
    raw,
    record_fields,
    refused,
    restamp,
    stream,
    with_manifest,
    write,
)

from wcodec.container import msgpack, zstdframe
from wcodec.container.layout import MAGIC, Trailer, check_tiling, checksum
from wcodec.container.reader import ContainerReader
from wcodec.container.records import SectionParser
from wcodec.errors import Corrupt, LimitExceeded, NotAContainer, Truncated, UnsupportedVersion


def test_rules_of_prologue_and_trailer():
    data = write(fill_all_kinds)
    front, tail = data[:-40], data[-40:]

    def patched(at: int, value: bytes) -> bytes:
        return data[:at] + value + data[at + len(value) :]

    refused("C-1", b"\x89PNG" + data, NotAContainer)
    refused("C-2", patched(8, b"\2"), UnsupportedVersion)
    refused("C-3", patched(12, b"\1"))
    refused("C-4", data + b"x", Truncated)
    refused("C-4", data[:16] + tail, Truncated)
    for offset, length in ((0, len(front)), (1 << 63, 0), (2**64 - 64, 64 + len(data) - 40), (len(front) + 3, 0)):
        refused("C-5", front + struct.pack("<QQ", offset, length) + tail[16:])
    refused("C-6", front + tail[:24] + bytes(8) + MAGIC)
    manifest = Trailer.unpack(tail, len(data))
    stored = data[manifest.offset : -40]

    def stamped(head: bytes) -> bytes:
        return front + head + checksum(stored, head).to_bytes(8, "little") + MAGIC

    refused("C-7", stamped(tail[:16] + b"\2" + tail[17:24]), UnsupportedVersion)
    refused("C-7", stamped(tail[:20] + struct.pack("<I", 2 | manifest.compressed)))
    check_all(stamped(tail[:18] + b"\xff\xff" + tail[20:24]))


@pytest.mark.parametrize(
    ("rule", "stored"),
    [
        ("C-8", b""),
        ("C-8", b"\xc1"),
        ("C-8", msgpack.pack(EMPTY) + b"\0"),
        ("C-8", b"\x91" * 5000 + b"\x90"),
        ("C-8", b"\x91" * 300 + b"\x90"),
        ("C-8", b"\xdd\xff\xff\xff\xff"),
        ("C-8", b"\xde\x00\x00"),
        ("C-8", b"\xd9\x01a"),
        ("C-8", b"\xcc\x01"),
        ("C-8", b"\xd0\x01"),
        ("C-8", b"\xc5\x00\x01a"),
        ("C-8", b"\xc0"),
        ("C-8", b"\xca\0\0\0\0"),
        ("C-8", b"\xd4\x01\x00"),
        ("C-8", b"\xd6\xff\x00\x00\x00\x00"),
        ("C-8", b"\x82\xa1b\x00\xa1a\x00"),
        ("C-8", b"\x82\xa1a\x00\xa1a\x00"),
        ("C-8", b"\x81\xc4\x01a\x00"),
        ("C-8", b"\x81\x01\x00"),
        ("C-8", b"\x81\x90\x00"),
        ("C-8", b"\xa1\xff"),
        ("C-8", b"\xa3\xed\xa0\x80"),
        ("C-10", msgpack.pack([])),
        ("C-10", msgpack.pack({})),
        ("C-10", msgpack.pack(EMPTY | {"extents": "x"})),
        ("C-11", msgpack.pack(EMPTY | {"extents": bytes(8)})),
        ("C-13", msgpack.pack(EMPTY | {"checksums": bytes(7)})),
        ("C-11", msgpack.pack(EMPTY | {"voids": bytes(7)})),
        ("C-10", msgpack.pack(EMPTY | {"metadata": {"a": 1}})),
        ("C-10", msgpack.pack(EMPTY | {"encoder": {"version": 1}})),
        ("C-10", msgpack.pack(EMPTY | {"resources": [1]})),
        ("C-10", msgpack.pack(EMPTY | {"requires": "a"})),
        ("C-10", msgpack.pack(EMPTY | {"source_header": "a"})),
        ("C-10", msgpack.pack(EMPTY | {"tensors": [["a", b"", 1]]})),
        ("C-10", msgpack.pack(EMPTY | {"tensors": [[b"a", b""]]})),
        ("C-10", msgpack.pack(EMPTY | {"tensors": [["a", "a"]]})),
        ("C-10", msgpack.pack(EMPTY | {"tensors": ["ab"]})),
        ("C-13", msgpack.pack(EMPTY | {"checksums": bytes(8)})),
        *(("C-15", msgpack.pack(EMPTY | {"tensors": [[n, b""]]})) for n in ("", "__metadata__", "a\n", "\x7f", "é" * 513)),
        ("C-15", msgpack.pack(EMPTY | {"tensors": [["a", b""], ["b", b""], ["a", b""]]})),
        ("C-9", msgpack.pack(EMPTY | {"source_header": b"x"})),
        ("C-27", msgpack.pack(EMPTY | {"source_header": zstdframe.compress(b"\2\0\0\0\0\0\0\0[]", 3)})),
        ("C-27", msgpack.pack(EMPTY | {"metadata": {}, "source_header": zstdframe.compress(b"\2\0\0\0\0\0\0\0{}", 3)})),
    ],
)
def test_rules_of_the_manifest(rule, stored):
    refused(rule, with_manifest(FRONT, stored))


def test_required_keys():
    fields = EMPTY | {"later": 1, "requires": ["extents", "later"]}
    with pytest.raises(UnsupportedVersion) as caught:
        check_all(with_manifest(FRONT, msgpack.pack(fields)))
    assert caught.value.required == "later" and caught.value.rule == "C-10"
    check_all(with_manifest(FRONT, msgpack.pack(fields | {"requires": ["extents"]})))


def test_bombs_stop_early(monkeypatch):
    monkeypatch.setattr(msgpack, "MAX_VALUES", 1000)
    with pytest.raises(LimitExceeded):
        ContainerReader(with_manifest(FRONT, b"\xdc\x03\x00" + b"\x91\x91\x90" * 768))
    bomb = zstdframe.compress(bytes(100_000_001), 1)
    refused("C-9", with_manifest(FRONT, bomb, compressed=True))


def table(*regions) -> np.ndarray:
    return np.array(regions, np.uint64).reshape(-1, 2)


@pytest.mark.parametrize(
    ("rule", "extents", "voids", "end"),
    [
        (None, [], [], 64),
        (None, [(64, 1), (128, 64), (192, 65)], [], 320),
        (None, [(64, 1), (192, 64)], [(128, 5)], 256),
        (None, [(64, 1)], [(64, 0), (128, 0)], 128),
        (None, [(64, 1)], [(64, 0), (64, 0)], 128),
        ("C-11", [(128, 1)], [(128, 0), (64, 9)], 192),
        ("C-11", [(128, 64), (64, 1)], [], 192),
        ("C-11", [(64, 64), (64, 64)], [], 128),
        ("C-11", [(64, 0)], [], 64),
        ("C-12", [], [], 128),
        ("C-12", [(128, 1)], [], 192),
        ("C-12", [(64, 1), (192, 1)], [], 256),
        ("C-12", [(64, 65), (128, 1)], [], 192),
        ("C-12", [(64, 1)], [(64, 1)], 128),
        ("C-12", [(65, 63)], [], 128),
        ("C-12", [(64, 65)], [], 128),
        ("C-12", [(64, 1)], [], 192),
        ("C-12", [(64, 2**64 - 64)], [], 64),
        ("C-12", [(64, 2**64 - 1)], [], 128),
        ("C-12", [(2**64 - 64, 1)], [], 128),
    ],
)
def test_tiling(rule, extents, voids, end):
    if rule is None:
        check_tiling(table(*extents), table(*voids), end)
    else:
        with pytest.raises(Corrupt) as caught:
            check_tiling(table(*extents), table(*voids), end)
        assert caught.value.rule == rule


def nested(depth: int, leaf=None):
    """Sections in sections, depth of them; leaf is the innermost."""
    return {"codec": "x", "parts": {"p": nested(depth - 1, leaf)}} if depth > 1 else leaf or {"codec": "x"}


@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        ("C-16", b"\xcc\x01"),
        ("C-16", []),
        ("C-16", {}),
        ("C-16", record_fields(alias=0)),
        ("C-16", record_fields(tied=True)),
        ("C-16", {"alias": 1, "tied": True, "dtype": "U8"}),
        ("C-16", {"alias": 1}),
        ("C-16", {"alias": True, "tied": True}),
        ("C-17", {"alias": 0, "tied": True}),
        ("C-17", {"alias": 2, "tied": True}),
        ("C-17", {"alias": -1, "tied": True}),
        ("C-16", record_fields(digest=b"short")),
        ("C-16", record_fields(digest=...)),
        ("C-16", record_fields(source=b"short")),
        ("C-16", record_fields(source="")),
        ("C-16", record_fields(tolerant=False)),
        ("C-16", record_fields(tolerant=1)),
        ("C-16", record_fields(shape=[-1])),
        ("C-16", record_fields(shape=[True])),
        ("C-16", record_fields(shape=3)),
        ("C-18", record_fields(shape=[1] * 65)),
        ("C-18", record_fields(shape=[0, 2**63])),
        ("C-18", record_fields(shape=[2**62, 2**62])),
        ("C-26", record_fields(dtype="F4")),
        ("C-26", record_fields(dtype="F5")),
        ("C-16", record_fields(section=[])),
        ("C-20", record_fields(section={})),
        ("C-20", record_fields(section={"codec": 1})),
        ("C-20", record_fields(section={"codec": "x", "params": []})),
        ("C-20", record_fields(section={"codec": "x", "parts": []})),
        ("C-19", record_fields(section={"codec": "x", "parts": {"p": "x"}})),
        ("C-19", record_fields(section={"codec": "x", "parts": {"p": True}})),
        ("C-19", record_fields(section={"codec": "x", "parts": {"p": {}}})),
        ("C-19", record_fields(section={"codec": "x", "parts": {"p": {"ref": 0, "codec": "x"}}})),
        ("C-19", record_fields(section={"codec": "x", "parts": {"p": {"ref": b""}}})),
        ("C-19", record_fields(section={"codec": "x", "parts": {"p": {"ref": 9}}})),
        ("C-19", record_fields(section={"codec": "x", "parts": {"p": {"ref": -1}}})),
        ("C-19", record_fields(section={"codec": "x", "parts": {"p": 99}})),
        ("C-19", record_fields(section={"codec": "x", "parts": {"p": -1}})),
        ("C-19", record_fields(section={"codec": "x", "parts": {"p": bytes(257)}})),
        ("C-21", record_fields(section=nested(9))),
        ("C-22", record_fields(section={"codec": "x", "parts": {str(i): b"" for i in range(65537)}})),
        ("C-10", record_fields(section={"codec": "x", "requires": 1})),
    ],
)
def test_rules_of_records(rule, fields):
    packed = fields if isinstance(fields, bytes) else msgpack.pack(fields)
    tensors = [["alias", msgpack.pack({"alias": 1, "tied": True})], ["t", packed]]
    data = with_manifest(FRONT, msgpack.pack(EMPTY | {"tensors": tensors}))
    with ContainerReader(data) as reader, pytest.raises(Corrupt) as caught:
        reader.record("t")
    assert caught.value.rule == rule and caught.value.at.startswith("t"), caught.value


def with_resources(*sections, tensor=None) -> bytes:
    resources = [msgpack.pack({"dtype": "U8", "shape": [3], "section": s}) for s in sections]
    tensors = [["t", msgpack.pack(record_fields(section=tensor))]] if tensor else []
    return with_manifest(FRONT, msgpack.pack(EMPTY | {"resources": resources, "tensors": tensors}))


def ref(index: int):
    return {"codec": "x", "parts": {"p": {"ref": index}}}


def test_references_nest_and_point_backwards():
    chain = [{"codec": "x"}, *(ref(i) for i in range(7))]
    check_all(with_resources(*chain, tensor=ref(6)))
    refused("C-21", with_resources(*chain, tensor=ref(7)))
    refused("C-21", with_resources(*chain, ref(7)))
    refused("C-21", with_resources(ref(0)))
    refused("C-21", with_resources(ref(1), {"codec": "x"}))
    refused("C-19", with_resources(ref(1)))
    refused("C-21", with_resources({"codec": "x"}, *(ref(i) for i in range(5000))))
    check_all(with_resources(tensor=nested(8)))
    check_all(with_resources(nested(2), tensor=nested(6, ref(0))))
    refused("C-21", with_resources(nested(2), tensor=nested(7, ref(0))))


def test_wide_diamonds_of_references_are_cheap():
    wide = [{"codec": "x", "parts": {str(k): {"ref": i} for k in range(250)}} for i in range(6)]
    check_all(with_resources({"codec": "x"}, *wide))


def test_required_keys_of_records():
    data = with_manifest(FRONT, msgpack.pack(EMPTY | {"tensors": [["t", msgpack.pack(record_fields(requires=["new"], new=1))]]}))
    with ContainerReader(data) as reader, pytest.raises(UnsupportedVersion) as caught:
        reader.record(0)
    assert caught.value.required == "new" and caught.value.at == "t"
    parser = SectionParser(lambda i: stream(1), lambda i, room: 1)
    section, _ = parser.section({"codec": "x", "params": {"requires": ["k"]}, "new": 3})
    assert section.params == {"requires": ["k"]}  # the codec's to judge: it knows its params


def test_streams_are_named_once():
    data = write(lambda w: w.add("a", SPEC, raw(300), DIGEST))

    def rename(section):
        return lambda fields: fields | {"tensors": [["a", msgpack.pack(record_fields(section=section))]]}

    refused("C-25", restamp(data, rename({"codec": "const"})))
    refused("C-25", restamp(data, rename({"codec": "x", "parts": {"a": 0, "b": 0}})))
    refused("C-14", data[:30] + b"x" + data[31:])
    refused("C-14", data[:380] + b"x" + data[381:])
    refused("C-13", data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with ContainerReader(data[:100] + bytes([data[100] ^ 1]) + data[101:]) as reader, pytest.raises(Corrupt) as caught:
        reader.record("a").section.parts["data"].read(0, 1).__enter__()
    assert caught.value.at == "a" and caught.value.rule == "C-13"
