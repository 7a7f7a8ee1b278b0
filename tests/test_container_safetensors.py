"""safetensors files, judged by the safetensors library."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
from containers import raw
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from wcodec.container.reader import ContainerReader
from wcodec.container.safetensors import SafetensorsFile, SafetensorsWriter, canonical_header, header_matches, parse_header
from wcodec.container.writer import ContainerWriter
from wcodec.errors import Corrupt, FormatError, NotAContainer, Truncated
from wcodec.types import DTYPES, Spec

DIGEST = bytes(32)


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


entries = st.lists(
    st.tuples(st.text(st.characters(codec="utf-8"), max_size=8), st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3)),
    max_size=6,
    unique_by=lambda e: e[0],
).map(lambda es: [(n, d, [*s, 8] if DTYPES[d].bits < 8 else s) for n, d, s in es if n != "__metadata__"])


def header_of(text: str | bytes) -> bytes:
    text = text.encode() if isinstance(text, str) else text
    return len(text).to_bytes(8, "little") + text


def accepts(data: bytes) -> bool:
    """What the library says."""
    try:
        safetensors.deserialize(data)
    except safetensors.SafetensorError:
        return False
    return True


def reads(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        with SafetensorsFile(path) as file:
            assert file.header_bytes == data[: len(file.header_bytes)]
        return True
    except FormatError:
        return False


@settings(max_examples=100)
@given(entries, st.none() | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), st.text(max_size=4), max_size=3))
def test_canonical_header_is_valid_safetensors(found, metadata):
    metadata = metadata if metadata is None else {k: v for k, v in metadata.items() if v.isprintable()}
    specs = [(name, Spec.of(dtype, *shape)) for name, dtype, shape in found]
    header = canonical_header(specs, metadata)
    assert len(header) % 8 == 0
    assert parse_header(header)[0] == metadata
    assert accepts(header + bytes(sum(spec.size for _, spec in specs)))
    names = {e.name for e in parse_header(header)[1]}
    assert names == {name for name, _ in specs}
    ordered = [(e.name, e.spec) for e in parse_header(header)[1]]
    assert header_matches(header, ordered, metadata)
    assert not header_matches(header, [*ordered, ("more", Spec.of("U8", 0))], metadata)
    assert not header_matches(header, ordered, {"other": "x"})


def test_canonical_header_is_what_safetensors_writes(tmp_path):
    arrays = {
        "b": np.ones((2, 3), np.float32),
        'a"\\\n\x01é': np.ones(5, np.uint8),
        "": np.ones((), np.int64),
        "e": np.ones((0, 4), np.int16),
    }
    for metadata in (None, {"format": "pt"}):
        path = tmp_path / "m.safetensors"
        path.write_bytes(save(arrays, metadata))
        with SafetensorsFile(path) as file:
            assert canonical_header([(e.name, e.spec) for e in file.entries], file.metadata) == file.header_bytes
            for entry in file.entries:
                want = arrays[entry.name].tobytes()
                assert file.read(entry, 0, len(want)).tobytes() == want
                out = np.zeros(100, np.uint8)
                assert file.read(entry, len(want) // 2, len(want), out).tobytes() == want[len(want) // 2 :]
            with pytest.raises(ValueError, match="bytes"):
                file.read(file.entries[0], 0, 10**6)


E = '{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'


def one(**changes) -> str:
    return json.dumps({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]} | changes})


HEADERS = [
    "{}", "{} ", "{}\n", "{}x", "[]", "\ufeff{}", "", "{", b'{"\xff":1}', one(),
    f'{{"a":{E},"a":{E}}}', f'{{"a":{E},"a":{E.replace("U8", "I8")}}}', f'{{"a":{E},"a":{E.replace("0,2", "2,4")}}}',
    '{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}', f'{{"__metadata__":{{}},"__metadata__":{{}},"a":{E}}}',
    f'{{"__metadata__":{{"k":"v","k":"w"}},"a":{E}}}', f'{{"__metadata__":null,"a":{E}}}', f'{{"__metadata__":{{"k":1}},"a":{E}}}',
    f'{{"__metadata__":[],"a":{E}}}', f'{{"\\u005f_metadata__":{{"k":"v"}},"a":{E}}}',
    one(x=1), one(x=None), one(x={"y": [1.5, "z"]}),
    one().replace("]}}", '],"x":NaN}}'), one().replace("]}}", '],"x":1e999}}'),
    one().replace("]}}", '],"x":-}}'), one().replace("]}}", '],"x":"\\ud800"}}'),
    one().replace("]}}", '],"x":' + "[" * 200 + "]" * 200 + "}}"),
    one().replace("]}}", '],"x":"a\tb"}}'), one().replace("]}}", '],"x":1' + "0" * 5000 + "}}"), one().replace("]}}", '],"x":-0}}'),
    one(shape=[2.0]), one(shape=[-2]), one(shape=[True, 2]), one(shape=2), one(shape=None), one(shape=[2, 1, 1]), one(shape=[]),
    one(data_offsets=[0, 2, 3]), one(data_offsets=[1, 3]), one(data_offsets=[0]), one(data_offsets=[2, 0]),
    one(data_offsets=[0, 2**64 + 2]),
    one().replace("[0", "[-0"), one().replace("[0", "[00"), one().replace("2]}}", "2e0]}}"), one().replace("2]}}", "2]},}"),
    one(dtype="u8"), one(dtype="C128"), one(dtype="F8_E4M3FN"), one(dtype=8), one(dtype="F4", shape=[4]), one(dtype="F4", shape=[3]),
    one(dtype="F6_E2M3", shape=[8], data_offsets=[0, 6]), one(dtype="C64", shape=[1], data_offsets=[0, 8]), one(dtype="F16", shape=[1]),
    f'{{"\\u0000":{E}}}', f'{{"":{E}}}', f'{{"\\ud800":{E}}}', f'{{"\\ud83d\\ude00":{E}}}', f'{{"a":{E}}}'.replace(",", " ,\r\n\t"),
    '{"a":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},"b":' + E + ',"c":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
    '{"a":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},"b":' + E + "}", '{"a":3}', '{"a":null}', '{"a":{}}',
]  # fmt: skip


@pytest.mark.parametrize("text", HEADERS)
def test_headers_are_judged_as_the_library_does(tmp_path, text):
    for data in (b"ab", b"", b"abc", bytes(4), bytes(6), bytes(8)):
        whole = header_of(text) + data
        assert reads(tmp_path / "m", whole) == accepts(whole), data


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.sampled_from([*'{}[]",:-0123456789. \\aeu', "", "00", "1e5", '"x":1,', "\x7f", "é"]), st.booleans())
def test_damaged_headers_are_judged_as_the_library_does(tmp_path_factory, at, text, insert):
    at %= len(DAMAGED)
    header = (DAMAGED[:at] + text + DAMAGED[at + (not insert) :]).strip()
    data = header_of(header) + bytes(14)
    assert reads(tmp_path_factory.getbasetemp() / "damaged", data) == accepts(data)


DAMAGED = '{"__metadata__":{"k":"v"},"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},'
DAMAGED += '"b":{"dtype":"I16","shape":[3],"data_offsets":[8,14]}}'


def test_safetensors_stricter_than_the_library(tmp_path):
    for text in (" {}", '{"a":["U8",[2],[0,2]]}', one(shape=[1] * 70 + [2])):
        data = header_of(text) + b"ab" * ("U8" in text)
        assert accepts(data) and not reads(tmp_path / "m", data)


def test_cut_safetensors_are_truncated(tmp_path):
    data = save({"a": np.ones(50)})
    for stop in range(len(data)):
        (tmp_path / "m").write_bytes(data[:stop])
        with pytest.raises(NotAContainer if stop < 8 else Truncated):
            SafetensorsFile(tmp_path / "m")
    (tmp_path / "m").write_bytes(data + b"x")
    with pytest.raises(Corrupt):
        SafetensorsFile(tmp_path / "m")


def test_safetensors_writer(tmp_path):
    data = save({"a": np.arange(50)})
    header = data[:-400]
    with SafetensorsWriter(tmp_path / "m", header) as writer:
        writer.write(np.frombuffer(data[-400:-100], np.uint8))
        writer.write(data[-100:])
    assert (tmp_path / "m").read_bytes() == data
    with pytest.raises(FileExistsError):
        SafetensorsWriter(tmp_path / "m", header)
    with pytest.raises(ValueError, match="header wants"), SafetensorsWriter(tmp_path / "m", header, force=True):
        pass
    with pytest.raises(KeyboardInterrupt), SafetensorsWriter(tmp_path / "n", header):
        raise KeyboardInterrupt
    assert (tmp_path / "m").read_bytes() == data and names_in(tmp_path) == ["m"]


def test_kept_header(tmp_path):
    source = header_of(json.dumps({"a": json.loads(E)}) + "   ")
    for spec, fine in ((Spec.of("U8", 2), True), (Spec.of("I8", 2), False)):
        buffer = io.BytesIO()
        with ContainerWriter(buffer, source_header=source) as writer:
            writer.add("a", spec, raw(2), DIGEST)
        with ContainerReader(buffer.getvalue()) as reader:
            assert reader.manifest.kept_header() == source
            if fine:
                reader.check_everything()
            else:
                with pytest.raises(Corrupt) as caught:
                    reader.check_everything()
                assert caught.value.rule == "C-27"
