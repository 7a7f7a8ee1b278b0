"""Files and folders through the API, saving and loading through both faces, and the same bytes however they are made."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from battery import BACKENDS, FIXTURES, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import tensors

import wcodec
import wcodec.numpy
import wcodec.torch
from wcodec.api.encoder import encode_tensors
from wcodec.container.safetensors import canonical_header

RNG = np.random.default_rng(0)
DTYPES = [dtype for name in wcodec.torch.NAMES.values() if isinstance(dtype := getattr(torch, name), torch.dtype) and dtype != torch.bool]


def weights(*shape):
    return torch.from_numpy(RNG.standard_normal(shape).astype(np.float32) * 0.02).to(torch.bfloat16)


def small(folder, name="m.safetensors", **more):
    found = {"w": weights(40, 50), "b": torch.arange(30), **more}
    safetensors.torch.save_file(found, folder / name, {"format": "pt"})
    return folder / name


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=9), tensors(), max_size=4),
    st.booleans(),
)
@settings(max_examples=40)
def test_files_come_back_byte_for_byte(tmp_path_factory, found, metadata):
    found.pop("__metadata__", None)
    folder = tmp_path_factory.getbasetemp()
    said = {"a": "б\n"} if metadata else None
    source = canonical_header([(name, spec) for name, (spec, _) in found.items()], said) + b"".join(x.tobytes() for _, x in found.values())
    (folder / "s.safetensors").write_bytes(source)
    report = wcodec.encode(folder / "s.safetensors", folder / "s.wcodec", threads=2, force=True)
    assert report.lossless and report.readback and report.size == (folder / "s.wcodec").stat().st_size
    back = wcodec.decode(folder / "s.wcodec", folder / "back.safetensors", force=True)
    assert back.same_file and (folder / "back.safetensors").read_bytes() == source
    assert wcodec.verify(folder / "s.wcodec", deep=True).tensors == len(found)
    assert wcodec.diff(folder / "s.wcodec", folder / "s.safetensors").same
    assert wcodec.inspect(folder / "s.wcodec").summary() == "lossless"


HEADERS = [
    '{"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}',
    ' {"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}}'[1:] + " " * 9,
    '{"\\u0061":{"shape":[1,5],"dtype":"U8","data_offsets":[0,5]},"__metadata__":{"z":"1","a":"2"}}',
    '{"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5],"x":[null,1.25]},"__metadata__":null}',
    '{"e":{"dtype":"F32","shape":[0],"data_offsets":[5,5]},"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"f":{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}',
    '{"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]}}',
]


@pytest.mark.parametrize("header", HEADERS)
def test_headers_that_are_not_canonical(tmp_path, header):
    source = len(header.encode()).to_bytes(8, "little") + header.encode() + bytes([1, 2, 3, 4, 5])
    (tmp_path / "m.safetensors").write_bytes(source)
    assert wcodec.encode(tmp_path / "m.safetensors").target == str(tmp_path / "m.wcodec")
    wcodec.decode(tmp_path / "m.wcodec", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source
    wcodec.verify(tmp_path / "m.wcodec", deep=True)


def test_the_same_bytes_however_they_are_made(tmp_path):
    source = small(
        tmp_path,
        big=weights(1100, 4096),
        same=weights(30, 30),
        ids=torch.arange(70_000) // 3,
        u=torch.randint(0, 9, (90_000,), dtype=torch.uint8),
    )
    made = set()
    for i, options in enumerate(({"threads": 1}, {"threads": 2}, {"threads": 5}, {"threads": 2, "readback": False}, {})):
        wcodec.encode(source, tmp_path / f"{i}", **options)
        made.add((tmp_path / f"{i}").read_bytes())
    assert len(made) == 1
    found = {}
    source = small(tmp_path, name="n.safetensors", u=torch.randint(0, 9, (20_000,), dtype=torch.uint8))
    for backend in BACKENDS:
        wcodec.encode(source, tmp_path / backend, kernels=backend)
        found[backend] = (tmp_path / backend).read_bytes()
    assert len(set(found.values())) == 1


def test_include(tmp_path):
    source = small(tmp_path, **{"h.0.w": weights(3, 3), "h.1.w": weights(3, 3)})
    report = wcodec.encode(source, include=["h.*", "b"])
    assert [row.name for row in report.tensors] == ["b", "h.0.w", "h.1.w"]
    assert [row.name for row in wcodec.inspect(source.with_suffix(".wcodec"), include=["*.1.*"]).tensors] == ["h.1.w"]
    back = wcodec.decode(source.with_suffix(".wcodec"), tmp_path / "part", include=["h.1.*"])
    assert not back.same_file and list(safetensors.torch.load_file(tmp_path / "part")) == ["h.1.w"]
    assert wcodec.diff(source, source.with_suffix(".wcodec"), include=["h.*"]).same
    assert wcodec.diff(source, source.with_suffix(".wcodec")).only_a == ["w"]
    for call in (
        lambda: wcodec.encode(source, tmp_path / "x", include=["z*"]),
        lambda: wcodec.decode(tmp_path / "m.wcodec", tmp_path / "x", include=["z*"]),
    ):
        with pytest.raises(wcodec.WcodecError, match="z\\*"):
            call()
    assert not (tmp_path / "x").exists()


def test_existing_and_broken_files(tmp_path):
    source = small(tmp_path)
    wcodec.encode(source)
    kept = source.with_suffix(".wcodec").read_bytes()
    for call in (wcodec.encode, lambda p: wcodec.decode(p.with_suffix(".wcodec"))):
        with pytest.raises(FileExistsError):
            call(source)
    wcodec.encode(source, force=True)
    wcodec.decode(source.with_suffix(".wcodec"), force=True)
    assert source.with_suffix(".wcodec").read_bytes() == kept
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(source.read_bytes()[:-1])
    for bad, kind in ((cut, wcodec.Truncated), (source.with_suffix(".wcodec"), wcodec.NotAContainer)):
        with pytest.raises(kind):
            wcodec.encode(bad, tmp_path / "out.wcodec")
    with pytest.raises(wcodec.RecipeError):
        wcodec.encode(source, tmp_path / "out.wcodec", recipe="tasty")
    with pytest.raises(FileNotFoundError):
        wcodec.encode(tmp_path / "nobody", tmp_path / "out.wcodec")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.safetensors", "m.safetensors", "m.wcodec"]


def test_a_failed_encode_leaves_what_was_there(tmp_path, monkeypatch):
    source = small(tmp_path)
    wcodec.encode(source)
    kept = source.with_suffix(".wcodec").read_bytes()
    for fail in (OSError("full"), KeyboardInterrupt(), wcodec.EncodeError("no")):

        def progress(done, total, fail=fail):
            raise fail

        with pytest.raises(type(fail)):
            wcodec.encode(source, force=True, progress=progress)
        with pytest.raises(type(fail)):
            wcodec.decode(source.with_suffix(".wcodec"), tmp_path / "out", progress=progress)
    monkeypatch.setattr("wcodec.backends.base.Backend.same", lambda self, a, b: False)
    with pytest.raises(wcodec.EncodeError, match="read back"):
        wcodec.encode(source, force=True, kernels="numpy")
    assert source.with_suffix(".wcodec").read_bytes() == kept and len(list(tmp_path.iterdir())) == 2


def sharded(folder):
    folder.mkdir()
    parts = {
        "model-00001-of-00002.safetensors": {"a": weights(30, 40), "b": torch.arange(9)},
        "model-00002-of-00002.safetensors": {"c": weights(50, 30)},
    }
    for name, found in parts.items():
        safetensors.torch.save_file(found, folder / name)
    where = {tensor: name for name, found in parts.items() for tensor in found}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 5472, "x": [1]}, "weight_map": where}))
    return {name: (folder / name).read_bytes() for name in parts}


@pytest.mark.parametrize("by_index", [False, True])
def test_sharded_folders(tmp_path, by_index):
    source = tmp_path / "in"
    kept = sharded(source)
    path = source / "model.safetensors.index.json" if by_index else source
    report = wcodec.encode(path, tmp_path / "enc")
    names = ["model-00001-of-00002.wcodec", "model-00002-of-00002.wcodec", "model.wcodec.index.json"]
    assert sorted(p.name for p in (tmp_path / "enc").iterdir()) == names and [row.name for row in report.tensors] == ["b", "a", "c"]
    index = json.loads((tmp_path / "enc" / names[2]).read_text())
    assert (
        set(index["shards"]) == set(names[:2])
        and index["weight_map"]["c"] == names[1]
        and index["metadata"] == {"total_size": 5472, "x": [1]}
    )
    encoded = tmp_path / "enc" / names[2] if by_index else tmp_path / "enc"
    assert wcodec.verify(encoded, deep=True).files == 2 and wcodec.inspect(encoded).files == 2
    assert wcodec.diff(source, encoded).same
    assert wcodec.decode(encoded, tmp_path / "dec").same_file
    assert {name: (tmp_path / "dec" / name).read_bytes() for name in kept} == kept
    decoded = json.loads((tmp_path / "dec" / "model.safetensors.index.json").read_text())
    assert decoded == json.loads((source / "model.safetensors.index.json").read_text())
    (tmp_path / "enc" / names[1]).write_bytes((tmp_path / "enc" / names[0]).read_bytes())
    with pytest.raises(wcodec.Corrupt, match="C-29"):
        wcodec.verify(encoded)
    (tmp_path / "enc" / names[1]).unlink()
    with pytest.raises(FileNotFoundError):
        wcodec.verify(encoded)


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head, self.norm = torch.nn.Embedding(50, 16), torch.nn.Linear(16, 50, bias=False), torch.nn.BatchNorm1d(16)
        self.head.weight = self.embed.weight


def test_models_with_tied_weights(tmp_path):
    model, other = Tied(), Tied()
    wcodec.torch.save_model(model, tmp_path / "m.wcodec", {"a": "b"})
    rows = {row.name: row for row in wcodec.inspect(tmp_path / "m.wcodec").tensors}
    assert rows["head.weight"].alias == "embed.weight" and wcodec.safe_open(tmp_path / "m.wcodec").metadata() == {"a": "b"}
    state = wcodec.torch.load_file(tmp_path / "m.wcodec")
    assert state["embed.weight"].data_ptr() == state["head.weight"].data_ptr() and set(state) == set(model.state_dict())
    assert wcodec.torch.load_model(other, tmp_path / "m.wcodec") == ([], [])
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    assert other.head.weight is other.embed.weight
    safetensors.torch.save_model(model, str(tmp_path / "theirs.safetensors"))
    wcodec.encode(tmp_path / "theirs.safetensors")
    assert wcodec.torch.load_model(Tied(), tmp_path / "theirs.wcodec") == ([], [])
    wcodec.torch.save_file({"other": torch.ones(3)}, tmp_path / "wrong.wcodec")
    with pytest.raises(RuntimeError, match="does not fit"):
        wcodec.torch.load_model(model, tmp_path / "wrong.wcodec")
    missing, unexpected = wcodec.torch.load_model(model, tmp_path / "wrong.wcodec", strict=False)
    assert unexpected == ["other"] and "embed.weight" in missing


def test_equal_tensors_are_stored_once_and_loaded_apart(tmp_path):
    x = weights(60, 60)
    wcodec.torch.save_file({"a": x, "b": x.clone(), "c": x.view(torch.int16).clone()}, tmp_path / "m.wcodec")
    rows = {row.name: row.alias for row in wcodec.inspect(tmp_path / "m.wcodec").tensors}
    assert rows == {"a": None, "b": "a", "c": None}
    for face in (wcodec.torch, wcodec.numpy):
        found = face.load_file(tmp_path / "m.wcodec")
        found["a"][0, 0] = 5
        assert found["b"][0, 0] != 5
    with wcodec.safe_open(tmp_path / "m.wcodec", "pt") as opened:
        assert torch.equal(opened.get_tensor("b"), x) and opened.get_slice("b")[3].shape == (60,)


def test_what_save_refuses(tmp_path):
    x = torch.zeros(4, 6)
    for bad in ({"x": x.T}, {"x": x[:, ::2]}, {"x": x.to_sparse()}, {"a": x, "b": x}, {"a": x, "b": x[1:]}):
        for call in (lambda t: wcodec.torch.save_file(t, tmp_path / "m"), wcodec.torch.save):
            with pytest.raises(ValueError):
                call(bad)
    with pytest.raises(TypeError):
        wcodec.torch.save({"x": torch.zeros(2, dtype=torch.complex128)})
    with pytest.raises(TypeError):
        wcodec.numpy.save({"x": np.zeros(2, "datetime64[s]")})
    with pytest.raises(wcodec.EncodeError):
        wcodec.numpy.save({"a\n": np.zeros(2)})
    assert not list(tmp_path.iterdir())
    others = wcodec.numpy.load(wcodec.numpy.save({"x": np.arange(6).reshape(2, 3).T, "y": np.arange(3).astype(">i4")}))
    assert others["x"].tolist() == [[0, 3], [1, 4], [2, 5]] and others["y"].tolist() == [0, 1, 2]
    both = wcodec.torch.load(wcodec.torch.save({"a": x[:2], "b": x[2:]}))
    assert both["a"].shape == both["b"].shape == (2, 6)


def test_save_is_what_encode_makes(tmp_path):
    """Tensors saved directly and through safetensors give one file."""
    found = {"w": weights(40, 50), "h": torch.ones(600, dtype=torch.float16), "i": torch.arange(50), "s": torch.tensor(2.5)}
    wcodec.torch.save_file(found, tmp_path / "a.wcodec", {"k": "v"})
    safetensors.torch.save_file(found, tmp_path / "b.safetensors", {"k": "v"})
    wcodec.encode(tmp_path / "b.safetensors")
    assert (tmp_path / "a.wcodec").read_bytes() == (tmp_path / "b.wcodec").read_bytes() == wcodec.torch.save(found, {"k": "v"})
    arrays = safetensors.numpy.load_file(tmp_path / "b.safetensors")
    assert wcodec.numpy.save(arrays, {"k": "v"}) == (tmp_path / "a.wcodec").read_bytes()
    every = {f"{dtype}.{i}": torch.arange(16, dtype=torch.uint8).view(dtype) for dtype in DTYPES for i in range(2)}
    safetensors.torch.save_file(every, tmp_path / "c.safetensors")
    wcodec.encode(tmp_path / "c.safetensors")
    assert wcodec.torch.save(every) == (tmp_path / "c.wcodec").read_bytes()
    wcodec.torch.save_file({"x": torch.zeros(2)}, tmp_path / "a.wcodec")
    assert list(wcodec.torch.load_file(tmp_path / "a.wcodec")) == ["x"]
    assert encode_tensors({}, tmp_path / "none.wcodec") == [] and wcodec.numpy.load_file(tmp_path / "none.wcodec") == {}


WITHOUT_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError("torch is blocked", name="torch")
sys.meta_path.insert(0, Block())
import pathlib, wcodec, wcodec.numpy
folder = pathlib.Path(sys.argv[1])
wcodec.encode(folder / "m.safetensors")
assert wcodec.verify(folder / "m.wcodec", deep=True).tensors == 2 and wcodec.inspect(folder / "m.wcodec").lossless
wcodec.decode(folder / "m.wcodec", folder / "back.safetensors")
assert (folder / "back.safetensors").read_bytes() == (folder / "m.safetensors").read_bytes()
assert wcodec.diff(folder / "m.wcodec", folder / "back.safetensors").same
assert sorted(wcodec.numpy.load_file(folder / "m.wcodec")) == ["b", "w"]
try:
    wcodec.safe_open(folder / "m.wcodec", "pt")
except ModuleNotFoundError:
    print("fine")
"""


def test_without_torch(tmp_path):
    small(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path)], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.stdout == "fine\n" and done.returncode == 0, done.stderr


def test_two_encodes_are_equal_to_the_fixture_in_all_but_the_encoder():
    """What encode wrote when the fixture was made decodes to what it decodes to now."""
    case = FIXTURES / "v1" / "encoded"
    assert wcodec.diff(case / "case.wcodec", case / "expect.safetensors").same and ROOT.exists()
