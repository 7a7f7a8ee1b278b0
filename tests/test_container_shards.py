"""Shards, and files that are something else."""

from __future__ import annotations

import io

import numpy as np
import pytest
from containers import raw
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from wcodec.container import sniff, zstdframe
from wcodec.container.reader import ContainerReader
from wcodec.container.shards import ShardIndex, check_shard_name, index_name, read_index, shard_name, shards_of, stem_of
from wcodec.container.writer import ContainerWriter
from wcodec.errors import Corrupt, FormatError, NotAContainer, Truncated, WcodecError
from wcodec.types import Spec

DIGEST = bytes(32)


def test_names_of_shards():
    assert shard_name("model", 1, 5) == "model-00001-of-00005.wcodec"
    assert index_name("model") == "model.wcodec.index.json"
    assert index_name("model", ".safetensors") == "model.safetensors.index.json"
    for name in ("model-00001-of-00005.wcodec", "model.wcodec.index.json", "model.wcodec", "model"):
        assert stem_of(name, ".wcodec") == "model"
    for bad in ("", ".", "..", "a/b", "a\\b", "C:x", "a\0", 3, None):
        with pytest.raises(Corrupt) as caught:
            check_shard_name(bad)
        assert caught.value.rule == "C-28"


def test_shards(tmp_path):
    index = ShardIndex({}, {}, {"total_size": 3, "kept": [1.5, None]})
    for number in (1, 2):
        name = shard_name("model", number, 2)
        with ContainerWriter(tmp_path / name) as writer:
            writer.add(f"t{number}", Spec.of("U8", 300), raw(300), DIGEST)
        with ContainerReader(tmp_path / name) as reader:
            index.shards[name] = reader.manifest_digest.hex()
        index.weight_map[f"t{number}"] = name
    path = tmp_path / index_name("model")
    path.write_bytes(index.pack())
    assert read_index(path, ".wcodec") == index
    assert shards_of(path, ".wcodec") == shards_of(tmp_path, ".wcodec") == [tmp_path / name for name in index.files]
    for name in index.files:
        with ContainerReader(tmp_path / name) as reader:
            index.check_shard(name, reader.manifest_digest, reader.names)
            for digest, names in ((bytes(32), reader.names), (reader.manifest_digest, ["t1", "t2"]), (reader.manifest_digest, [])):
                with pytest.raises(Corrupt) as caught:
                    index.check_shard(name, digest, names)
                assert caught.value.rule == "C-29"
    (tmp_path / index.files[0]).unlink()
    with pytest.raises(FileNotFoundError):
        shards_of(tmp_path, ".wcodec")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 10**5, "{}", '{"weight_map":{}}', '{"weight_map":{"a":1},"shards":{}}',
     '{"weight_map":{"a":"x"},"shards":{}}',
     '{"weight_map":{"a":"../x"},"shards":{"../x":""}}',
     '{"weight_map":{},"shards":{"/x":""}}', '{"weight_map":{},"shards":{},"metadata":[1]}'],
)  # fmt: skip
def test_broken_indexes(tmp_path, text):
    (tmp_path / "i").write_text(text)
    with pytest.raises(Corrupt) as caught:
        read_index(tmp_path / "i", ".wcodec")
    assert caught.value.rule == "C-28" and str(tmp_path) in caught.value.at


def test_folders_without_index(tmp_path):
    with pytest.raises(NotAContainer):
        shards_of(tmp_path, ".safetensors")
    for name in ("b.safetensors", "a.safetensors", ".hidden.safetensors", "x.bin"):
        (tmp_path / name).touch()
    assert [p.name for p in shards_of(tmp_path, ".safetensors")] == ["a.safetensors", "b.safetensors"]
    assert shards_of(tmp_path / "x.bin", ".safetensors") == [tmp_path / "x.bin"]
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors.index.json").touch()
    with pytest.raises(NotAContainer, match="several"):
        shards_of(tmp_path, ".safetensors")


def zipped(*names: str) -> bytes:
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "empty"),
        (b"GGUF\3\0\0\0", "GGUF"),
        (b"\x80\x02}q\x00.", "pickle"),
        (zipped("archive/data.pkl", "archive/version"), "PyTorch"),
        (zipped("readme.txt"), "zip file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "LFS"),
        (b"\n<!DOCTYPE html><html>", "HTML"),
        (b'{"error": "not found"}', "error message"),
        (b'{"weight_map": {}}', "JSON"),
        (zstdframe.compress(b"x", 3), "zstd"),
        (b"\x1f\x8b\x08", "gzip"),
        (save({"a": np.ones(3)}), "a safetensors file"),
        (save({"a": np.ones(3)})[:20], "safetensors file that was cut off"),
        (b"\xd7WCDC", "cut off"),
        (bytes(50), "zeros"),
        (b"hello there", "text"),
        (b"\xff\xfe\x00\x12" * 5, "unknown bytes"),
    ],
)
def test_wrong_files_are_named(tmp_path, head, words):
    assert words in sniff.describe(head[:4096], len(head))
    (tmp_path / "m").write_bytes(head)
    with pytest.raises(FormatError) as caught:
        ContainerReader(tmp_path / "m")
    assert words in str(caught.value) or isinstance(caught.value, Truncated)
    assert str(tmp_path / "m") in str(caught.value)


@settings(max_examples=200)
@given(st.binary(max_size=100), st.integers(0, 2**64))
def test_sniffing_never_fails(head, size):
    assert sniff.describe(head, size)
    with pytest.raises(WcodecError):
        ContainerReader(head)
