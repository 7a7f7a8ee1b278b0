"""The container: round trips, damage, lies, and many hands on one file."""

from __future__ import annotations

import io
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from containers import (
    DIGEST,
    FRONT,
    SPEC,
    check_all,
    fill_all_kinds,
    raw,
    record_fields,
    refused,
    restamp,
    same,
    stream,
    with_manifest,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from wcodec.container import msgpack, records, zstdframe
from wcodec.container.digest import content_digest
from wcodec.container.layout import CHUNK, Trailer
from wcodec.container.manifest import Manifest
from wcodec.container.reader import ContainerReader
from wcodec.container.records import Alias, TensorRecord
from wcodec.container.writer import ContainerWriter
from wcodec.errors import Corrupt, EncodeError, FormatError, NotAContainer, Truncated, WcodecError
from wcodec.types import MemoryStream, Ref, Section, Spec

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


@settings(max_examples=60)
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
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        with pytest.raises(WcodecError):
            check_all(bytes(broken))


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


def test_tensors_may_come_in_another_order():
    def fill(w):
        w.order = ["c", "a", "d", "b"]
        w.add("a", SPEC, raw(5), DIGEST)
        w.add("b", SPEC, raw(300), DIGEST)
        w.add_alias("c", 1, True)
        w.add("d", SPEC, raw(400), DIGEST)

    with ContainerReader(write(fill)) as reader:
        assert list(reader.names) == ["c", "a", "d", "b"] and reader.record(0) == records.Alias(3, True)
        assert [reader.record(i).section.parts["data"].size for i in (1, 2, 3)] == [5, 400, 300]
        reader.check_everything()


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
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
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
