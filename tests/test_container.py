"""The container: round trips, damage, lies, and many hands on one file."""

from __future__ import annotations

import io
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wcodec.container import msgpack, records, zstdframe
from wcodec.container.digest import content_digest
from wcodec.container.layout import CHUNK, MAGIC, Trailer, check_tiling, checksum
from wcodec.container.manifest import Manifest
from wcodec.container.reader import ContainerReader
from wcodec.container.records import Alias, SectionParser, TensorRecord
from wcodec.container.writer import ContainerWriter
from wcodec.errors import Corrupt, EncodeError, FormatError, LimitExceeded, NotAContainer, Truncated, UnsupportedVersion, WcodecError
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


keys = st.text(st.characters(codec="utf-8"), max_size=6)
sections = st.recursive(
    st.builds(Section, st.just("const"), st.dictionaries(keys, st.integers(0, 2**64 - 1) | st.binary() | keys, max_size=2)),
    lambda inner: st.builds(
        Section,
        st.sampled_from(["raw", "other"]),
        st.just({}),
        st.dictionaries(keys, inner | st.builds(stream, st.sampled_from([0, 1, 63, 256, 257, 320, 5000])), max_size=3),
    ),
    max_leaves=6,
)
names = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20), unique=True, max_size=5)


@settings(max_examples=60, deadline=None)
@given(names=names, trees=st.lists(sections, min_size=5, max_size=5), metadata=st.none() | st.dictionaries(keys, keys, max_size=3))
def test_round_trip(names, trees, metadata):
    def fill(w):
        for name, tree in zip(names, trees, strict=False):
            index = w.add(name, SPEC, tree, DIGEST)
            assert same(w.written(index).section, tree)

    data = write(fill, metadata=metadata)
    assert data == write(fill, metadata=metadata)
    with ContainerReader(data) as reader:
        reader.check_everything()
        assert list(reader.names) == names and reader.manifest.metadata == metadata and reader.size == len(data)
        for name, tree in zip(names, trees, strict=False):
            record = reader.record(name)
            assert same(record.section, tree) and record.spec == SPEC and record.digest == DIGEST
            assert record.lossless and not record.tolerant and reader.record(name) is record


def test_all_kinds_of_entries(tmp_path):
    data = write(fill_all_kinds, metadata={}, encoder={"version": "1", "recipe": "x"}, source_header=None, minor=3)
    path = tmp_path / "m.wcodec"
    path.write_bytes(data)
    for source, backend in ((data, "pread"), (path, "pread"), (path, "mmap"), (np.frombuffer(data, np.uint8), "mmap")):
        with ContainerReader(source, backend=backend) as r:
            r.check_everything()
            assert r.minor == 3 and r.manifest.metadata == {} and r.manifest.encoder == {"version": "1", "recipe": "x"}
            assert r.record("c") == Alias(0, True) and r.target("c") is r.record("a") and r.record(-1) is r.record("d")
            b, d = r.record("b"), r.record("d")
            assert b.tolerant and b.source == b"" and not b.lossless and d.source == DIGEST and d.spec == Spec.of("F4", 2)
            assert r.record("a").section.parts["10"] == Ref(0) and r.resource(0).spec == Spec.of("F32", 300)
            assert same(r.resource(0).section, raw(1200))
            assert isinstance(r.record("a").section.parts["1"].parts["data"], MemoryStream)
            offsets = r.manifest.extents[:, 0]
            assert not (offsets % 64).any() and list(r.manifest.extents[:, 1]) == [1200, 300, 257, 1000]
            with pytest.raises(Corrupt, match="C-19"):
                r.stream(4)
            with pytest.raises(KeyError):
                r.record("nobody")
            assert len(r.manifest_digest) == 32


def test_worked_bytes():
    """The dump of container.md section 10."""
    page = (Path(__file__).parents[1] / "spec" / "container.md").read_text()
    lines = page.split("## 10. Worked bytes")[1].split("```")[1].split("\n")
    dump = " ".join(line[:52] for line in lines).replace("00 × 48", "00" * 48)
    data = bytes.fromhex(dump)
    assert data == write()
    check_all(data)


def test_every_prefix_is_refused():
    data = write(fill_all_kinds)
    for stop in range(len(data)):
        with pytest.raises(FormatError) as caught:
            ContainerReader(data[:stop])
        assert caught.value.rule in ("C-1", "C-4")
        assert isinstance(caught.value, Truncated if stop else NotAContainer)


def test_every_changed_byte_is_noticed():
    data = write(fill_all_kinds)
    for at in range(len(data)):
        for flip in (1, 0x80):
            broken = bytearray(data)
            broken[at] ^= flip
            with pytest.raises(WcodecError):
                check_all(bytes(broken))


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


EMPTY = {"checksums": b"", "extents": b"", "tensors": []}
FRONT = write()[:64]


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
        ("C-10", msgpack.pack(EMPTY | {"extents": bytes(8)})),
        ("C-10", msgpack.pack(EMPTY | {"checksums": bytes(7)})),
        ("C-10", msgpack.pack(EMPTY | {"voids": bytes(7)})),
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


def test_bombs_stop_early():
    with pytest.raises(LimitExceeded):
        ContainerReader(with_manifest(FRONT, b"\xdd" + (1 << 22).to_bytes(4, "big") + b"\x91\x91\x90" * (1 << 22)))
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


def record_fields(**changes):
    fields = {"dtype": "U8", "shape": [3], "section": {"codec": "raw", "parts": {"data": b"abc"}}, "digest": DIGEST}
    return {key: value for key, value in (fields | changes).items() if value is not ...}


def nested(depth: int):
    return {"codec": "x", "parts": {"p": nested(depth - 1)}} if depth > 1 else {"codec": "x"}


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
    refused("C-21", with_resources(nested(2), tensor={"codec": "x", "parts": {"p": nested(6), "q": {"codec": "x", "parts": {"r": ref(0)}}}}
                                   | {"parts": {"p": {"codec": "x", "parts": {"p": {"codec": "x", "parts": {"p": {"codec": "x", "parts":
                                      {"p": {"codec": "x", "parts": {"p": {"codec": "x", "parts": {"p": ref(0)}}}}}}}}}}}}))  # fmt: skip


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


def test_voids():
    data = write(fill_all_kinds)
    trailer = Trailer.unpack(data[-40:], len(data))
    moved = restamp(data, lambda f: f)
    front = moved[: trailer.offset] + b"old manifest"
    front += bytes(-len(front) % 64)
    fields = msgpack.unpack(moved[trailer.offset : -40]) | {"voids": struct.pack("<QQ", trailer.offset, 12)}
    check_all(with_manifest(front, msgpack.pack(fields)))
    refused("C-12", with_manifest(front, msgpack.pack(fields | {"voids": b""})))
    refused("C-14", with_manifest(front[:-1] + b"x", msgpack.pack(fields)))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_below_a_fitting_checksum(data):
    """Whatever a manifest says, only errors of ours come out, and nothing hangs."""
    whole = DAMAGED
    trailer = Trailer.unpack(whole[-40:], len(whole))
    stored = bytearray(whole[trailer.offset : -40])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(stored) - 1))
        what = data.draw(st.sampled_from(["change", "cut", "insert"]))
        if what == "change":
            stored[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del stored[at : at + data.draw(st.integers(1, 8))]
        else:
            stored[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        if not stored:
            break
    try:
        check_all(with_manifest(whole[: trailer.offset], bytes(stored)))
    except WcodecError:
        pass


DAMAGED = restamp(write(fill_all_kinds, metadata={"k": "v"}), lambda f: f)

values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**64 - 1) | keys | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(keys, inner, max_size=20),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(values)
def test_messagepack(value):
    assert msgpack.unpack(msgpack.pack(value)) == value
    for bad in (1.5, None, {1: 2}, np.uint8(1), {"a": [None]}):
        with pytest.raises(TypeError):
            msgpack.pack([value, bad])


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40))
def test_messagepack_of_any_bytes(data):
    try:
        value = msgpack.unpack(data)
    except Corrupt as e:
        assert e.rule == "C-8"
    else:
        assert msgpack.pack(value) == data


def test_ranges_check_their_chunks_only(tmp_path):
    size = 3 * CHUNK + 1000
    path = tmp_path / "m.wcodec"
    data = bytearray(write(lambda w: w.add("a", Spec.of("U8", size), raw(size), DIGEST)))
    data[64 + CHUNK + 5] ^= 1
    path.write_bytes(data)
    want = np.frombuffer(bytes(data), np.uint8)[64 : 64 + size]
    for backend in ("pread", "mmap"):
        with ContainerReader(path, backend=backend) as reader:
            part = reader.record("a").section.parts["data"]
            for start, stop in ((0, 0), (0, CHUNK), (5, 9), (2 * CHUNK, size), (size - 1, size), (3 * CHUNK - 1, 3 * CHUNK + 1)):
                with part.read(start, stop) as got:
                    assert np.array_equal(got, want[start:stop])
            for start, stop in ((0, size), (CHUNK, CHUNK + 1), (CHUNK - 1, CHUNK + 1)):
                with pytest.raises(Corrupt, match="C-13"), part.read(start, stop):
                    pass
            for start, stop in ((-1, 3), (3, 2), (0, size + 1)):
                with pytest.raises(ValueError, match="bytes"):
                    part.read(start, stop)


def test_a_file_cut_while_open_is_truncated(tmp_path):
    path = tmp_path / "m.wcodec"
    path.write_bytes(write(lambda w: w.add("a", Spec.of("U8", 3 * CHUNK), raw(3 * CHUNK), DIGEST)))
    with ContainerReader(path) as reader:
        part = reader.record("a").section.parts["data"]
        with path.open("r+b") as file:
            file.truncate(CHUNK + 100)
        with part.read(0, 100) as got:
            assert got.size == 100
        with pytest.raises(Truncated) as caught, part.read(0, 2 * CHUNK):
            pass
        assert caught.value.at == "a"


def test_many_threads_read_one_file(tmp_path):
    sizes = [int(x) for x in np.random.default_rng(1).integers(1, 3 * CHUNK, 12)]
    path = tmp_path / "m.wcodec"
    with ContainerWriter(path) as writer:
        for i, size in enumerate(sizes):
            writer.add(str(i), Spec.of("U8", size), raw(size, i), DIGEST)
    with ContainerReader(path) as reader:

        def read(i: int) -> bool:
            start = sizes[i % 12] // 3
            with reader.record(str(i % 12)).section.parts["data"].read(start, sizes[i % 12]) as got:
                return np.array_equal(got, stream(sizes[i % 12], i % 12).data[start:])

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, range(200)))


def test_91000_tensors():
    packed = msgpack.pack(record_fields())
    names = [f"model.layers.{i // 1000}.mlp.experts.{i % 1000}.weight" for i in range(91_000)]
    manifest = Manifest(names=names, records=[packed] * len(names)).pack()
    data = with_manifest(FRONT, zstdframe.compress(manifest, 3), compressed=True)
    with ContainerReader(data) as reader:
        assert len(reader.names) == 91_000 and reader.record(names[-1]).spec == SPEC


def test_content_digest_ignores_order_and_follows_aliases():
    def fill(order, w):
        for name in order:
            w.add(name, SPEC, raw(5), DIGEST)

    a = ContainerReader(write(lambda w: fill("aéz", w))).content_digest()
    b = ContainerReader(write(lambda w: fill("zaé", w))).content_digest()

    def fill_alias(w):
        fill("z", w)
        w.add_alias("a", 0, False)
        w.add_alias("é", 0, True)

    assert a == b == ContainerReader(write(fill_alias)).content_digest()
    assert a == content_digest([("é", SPEC, DIGEST), ("a", SPEC, DIGEST), ("z", SPEC, DIGEST)])
    assert a != content_digest([("é", SPEC, DIGEST), ("a", SPEC, DIGEST)])


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_fork_reads_on(tmp_path):
    import multiprocessing

    path = tmp_path / "m.wcodec"
    path.write_bytes(write(lambda w: w.add("a", Spec.of("U8", 5000), raw(5000), DIGEST)))
    reader = ContainerReader(path)

    def child() -> None:
        reader.check_everything()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    assert process.exitcode == 0


def test_records_repack_to_the_same_bytes():
    with ContainerReader(write(fill_all_kinds)) as reader:
        for i, stored in enumerate(reader.manifest.records):
            counter = iter(range(100))
            first = {"a": 1, "d": 3}.get(reader.names[i], 0)

            def place(part, counter=counter, first=first):
                if part.size > records.INLINE:
                    return first + next(counter)
                with part.read(0, part.size) as data:
                    return data.tobytes()

            assert records.pack_record(reader.record(i), place) == stored


def test_writer_refuses_what_a_reader_would():
    with ContainerWriter(io.BytesIO()) as w:
        w.add("a", SPEC, raw(3), DIGEST)
        w.add_alias("b", 0, True)
        deep = raw(300)
        for _ in range(8):
            deep = Section("x", {}, {"p": deep})
        for rule, call in (
            ("C-15", lambda: w.add("a", SPEC, raw(3), DIGEST)),
            ("C-15", lambda: w.add("", SPEC, raw(3), DIGEST)),
            ("C-15", lambda: w.add("\ud800", SPEC, raw(3), DIGEST)),
            ("C-15", lambda: w.add_alias("a\0", 0, True)),
            ("C-16", lambda: w.add("x", SPEC, raw(3), b"")),
            ("C-17", lambda: w.add_alias("x", 1, True)),
            ("C-17", lambda: w.add_alias("x", 2, True)),
            ("C-19", lambda: w.add("x", SPEC, Section("x", {}, {"p": Ref(0)}), DIGEST)),
            ("C-21", lambda: w.add("x", SPEC, deep, DIGEST)),
            ("C-21", lambda: w.add_resource(SPEC, deep)),
        ):
            with pytest.raises(EncodeError) as caught:
                call()
            assert caught.value.rule == rule
        assert isinstance(w.written(0), TensorRecord)
        with pytest.raises(KeyError):
            w.written(1)
