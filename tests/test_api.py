"""The API beside safetensors' own: the same calls on the same content give the same results."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from battery import BACKENDS, digest, make_env
from hypothesis import given, settings
from hypothesis import strategies as st

import wcodec
import wcodec.numpy
import wcodec.torch
from wcodec.api.slices import read_slice
from wcodec.backends import Backend
from wcodec.codecs import CODECS
from wcodec.container.writer import ContainerWriter
from wcodec.errors import BackendUnavailable, Corrupt, LimitExceeded, UnknownCodec
from wcodec.types import Limits, Section, Spec

RNG = np.random.default_rng(0)
TENSORS = {
    "b.weight": RNG.standard_normal((30, 70)).astype(np.float32),
    "a.weight": (RNG.standard_normal((40, 33)) * 0.02).astype(np.float16),
    "bf16": (RNG.standard_normal((64, 50)) * 0.02).astype(ml_dtypes.bfloat16),
    "ids": np.arange(600, dtype=np.int64).reshape(20, 30),
    "cube": (np.arange(7 * 11 * 13) % 50).astype(np.uint8).reshape(7, 11, 13),
    "scalar": np.array(3, np.int32),
    "mask": np.arange(300) % 3 == 0,
    "empty": np.empty((0, 4), np.int16),
    "complex": RNG.standard_normal((12, 60)).astype(np.complex64),
    "zeros": np.zeros((9, 100), np.float64),
    "ключ": np.ones(5, np.uint16),
}
METADATA = {"format": "pt", "ключ": "значение"}
NUMPY_ONLY = ("f8", "bf16")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The same content in both formats."""
    folder = tmp_path_factory.mktemp("api")
    safetensors.numpy.save_file(TENSORS, folder / "m.safetensors", METADATA)
    wcodec.encode(folder / "m.safetensors")
    return folder / "m.wcodec", folder / "m.safetensors"


def plain(x):
    """Bytes, shape and dtype of an array of either framework."""
    if isinstance(x, torch.Tensor):
        return x.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if x.numel() else b"", tuple(x.shape), x.dtype
    return np.ascontiguousarray(x).tobytes(), x.shape, x.dtype


OPTIONS = [{}, {"backend": "mmap"}, {"threads": 1}, *({"kernels": name} for name in BACKENDS)]


@pytest.mark.parametrize("framework", ["np", "numpy", "pt", "torch", "pytorch"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_contract(files, framework, options):
    with wcodec.safe_open(files[0], framework, **options) as ours, safetensors.safe_open(files[1], framework) as theirs:
        assert list(ours.keys()) == list(theirs.keys()) == sorted(TENSORS)
        assert list(ours.offset_keys()) == list(theirs.offset_keys())
        assert ours.metadata() == theirs.metadata() == METADATA
        for name in theirs.keys():  # noqa: SIM118 - that is the call under test
            assert plain(ours.get_tensor(name)) == plain(theirs.get_tensor(name))
            assert ours.get_slice(name).get_shape() == theirs.get_slice(name).get_shape()
            assert ours.get_slice(name).get_dtype() == theirs.get_slice(name).get_dtype()
            assert plain(ours.get_slice(name)[:]) == plain(theirs.get_tensor(name)[:]) if TENSORS[name].shape else True
        assert {name: plain(x) for name, x in ours.get_tensors().items()} == {name: plain(x) for name, x in theirs.get_tensors().items()}
        some = ours.get_tensors(["cube", "ids"])
        assert list(some) == ["cube", "ids"] and plain(some["ids"]) == plain(theirs.get_tensor("ids"))
        for call in (ours.get_tensor, ours.get_slice):
            with pytest.raises(KeyError):
                call("nobody")
    with pytest.raises(OSError, match="is closed"):
        ours.get_tensor("ids")


ITEMS = [0, 3, -1, -7, slice(None), slice(1, 4), slice(None, None, 2), slice(5, 1, -2), slice(-3, None), slice(4, 4), slice(9, 99), ...]


@pytest.mark.parametrize("framework", ["np", "pt"])
def test_slices(files, framework):
    """Basic indices against numpy, and against safetensors where it takes them."""
    with wcodec.safe_open(files[0], framework) as ours, safetensors.safe_open(files[1], "np") as theirs:
        view, other, cube = ours.get_slice("cube"), theirs.get_slice("cube"), TENSORS["cube"]
        for index in (*ITEMS, *itertools.product(ITEMS, ITEMS[:8]), *itertools.product(ITEMS[:10:3], ITEMS[:10:2], ITEMS[1:10:2])):
            if not isinstance(index, tuple) or index.count(...) < 2:
                found = view[index]
                assert np.array_equal(np.asarray(found), cube[index]) and tuple(found.shape) == cube[index].shape, index
        for index in (0, -1, (0, 1), (slice(0, 3), slice(1, None)), ..., (..., 1), (2, slice(None), slice(2, 5))):
            assert np.array_equal(np.asarray(view[index]), other[index])
        for name in ("b.weight", "complex", "bf16", "zeros", "mask", "scalar", "empty"):
            for index in (..., (..., slice(0, 3)), None, (None, ...)):
                if isinstance(index, tuple) and TENSORS[name].ndim == 0 and index != (None, ...):
                    continue
                want = TENSORS[name][index]
                assert plain(ours.get_slice(name)[index])[:2] == (want.tobytes(), want.shape)
        for index in (7, -8, (0, 11), (0, 0, 0, 0), (..., ...)):
            with pytest.raises(IndexError):
                view[index]
        for index in ([0, 1], np.array([0]), True, "x", 1.5, (0, [1])):
            with pytest.raises(TypeError):
                view[index]
        assert view[np.int64(2), np.uint8(3)].shape == (13,)


@given(st.data())
@settings(max_examples=150)
def test_slices_read_what_numpy_reads(data):
    shape = tuple(data.draw(st.lists(st.integers(0, 9), max_size=4)))
    x = np.arange(np.prod(shape, dtype=int), dtype=np.uint32).reshape(shape)
    sides = st.none() | st.integers(-12, 12)
    items = [
        st.builds(slice, sides, sides, st.none() | st.sampled_from([1, 2, 3, -1, -2])) | st.integers(-n, n - 1)
        if n
        else st.just(slice(None))
        for n in shape
    ]
    index = [data.draw(item) for item in items[: data.draw(st.integers(0, len(items)))]]
    if data.draw(st.booleans()):
        index.insert(data.draw(st.integers(0, len(index))), None)
    unit, env = data.draw(st.sampled_from([1, 4, 16, 1000])), make_env()

    def window(start, stop, out):
        assert 0 <= start <= stop <= x.size and out.shape == (stop - start,)
        out[:] = x.reshape(-1)[start:stop]

    found = read_slice(Spec.of("U32", *shape), tuple(index), unit, env.borrow, window)
    assert np.array_equal(found, x[tuple(index)]) and found.shape == x[tuple(index)].shape


class Spy(Backend):
    """Counts the symbols that are decoded."""

    count = 0

    def rans_decode(self, job, *rest):
        Spy.count += job.order.count
        return super().rans_decode(job, *rest)


def one(path, spec, section, x):
    with ContainerWriter(path, force=True) as writer:
        writer.add("x", spec, section, digest(x))


def test_slices_decode_only_the_blocks_they_meet(tmp_path):
    spec = Spec.of("U8", 64, 256)
    x = (np.random.default_rng(0).geometric(0.3, spec.count) % 30).astype(np.uint8)
    for options, unit in (({"block": 512}, 512), ({"tile": (2, 128)}, 512), ({"block": 2048, "trellis": 4}, 2048)):
        one(tmp_path / "m", spec, CODECS["rans"].encode(x, spec, make_env(), **options), x)
        for index, most in (
            (0, 1),
            (5, 1),
            (slice(8, 16), max(1, 2048 // unit)),
            ((63, 255), 1),
            (slice(None, None, 32), 2),
            ((slice(None), 3), 64 * 256 // unit),
        ):
            with wcodec.safe_open(tmp_path / "m", "np", threads=1) as opened:
                opened.env.backend = Spy()
                Spy.count = 0
                assert np.array_equal(opened.get_slice("x")[index], x.reshape(64, 256)[index])
                assert 0 < Spy.count <= most * unit, (options, index)


def test_out(files):
    for framework in ("np", "pt"):
        with wcodec.safe_open(files[0], framework) as opened:
            want = opened.get_tensor("b.weight")
            out = np.full((30, 70), 7, np.float32) if framework == "np" else torch.full((30, 70), 7.0)
            assert opened.get_tensor("b.weight", out=out) is out and plain(out) == plain(want)
            wrong = [np.zeros((30, 71), np.float32), np.zeros((30, 70)), np.zeros((70, 30), np.float32).T, [0]]
            for bad in wrong if framework == "np" else [torch.zeros(30, 71), torch.zeros(30, 70).double(), torch.zeros(70, 30).T, 3]:
                with pytest.raises(ValueError, match="out must be"):
                    opened.get_tensor("b.weight", out=bad)


@pytest.mark.parametrize("backend", ["pread", "mmap"])
def test_results_own_their_memory(files, tmp_path, backend):
    path = tmp_path / "m.wcodec"
    path.write_bytes(files[0].read_bytes())
    with wcodec.safe_open(path, "np", backend=backend) as opened:
        found, part = opened.get_tensors(), opened.get_slice("cube")[1:3]
    path.write_bytes(b"")
    for name, x in found.items():
        assert plain(x) == plain(TENSORS[name])
        if x.size:
            x.reshape(-1)[0] = x.reshape(-1)[-1]
    assert np.array_equal(part, TENSORS["cube"][1:3])


@pytest.mark.parametrize("backend", ["pread", "mmap", "bytes"])
def test_a_closed_file_is_not_read(files, backend):
    source = files[0].read_bytes() if backend == "bytes" else files[0]
    opened = wcodec.safe_open(source, "np", backend="pread" if backend == "bytes" else backend)
    whole, part, stream = opened.get_tensors(), opened.get_slice("cube"), opened.reader.stream(0)
    opened.close()
    for call in (lambda: opened.get_tensor("scalar"), opened.get_tensors, lambda: part[:1], lambda: opened.get_parts("cube")):
        with pytest.raises(OSError, match="is closed"):
            call()
    with pytest.raises(OSError), stream.read(0, stream.size):
        pass
    assert all(plain(whole[name]) == plain(x) for name, x in TENSORS.items())


def test_bytes_and_paths(files):
    for source in (files[0], str(files[0]), files[0].read_bytes()):
        with wcodec.safe_open(source) as opened:
            assert plain(opened.get_tensor("ids")) == plain(TENSORS["ids"])
    for bad in ({"framework": "tf"}, {"device": "cuda"}, {"threads": 0}):
        with pytest.raises(ValueError):
            wcodec.safe_open(files[0], **bad)
    with pytest.raises(FileNotFoundError):
        wcodec.safe_open(files[0].with_name("nobody"))
    with pytest.raises(wcodec.NotAContainer, match="safetensors"):
        wcodec.safe_open(files[1])
    with pytest.raises(BackendUnavailable):
        wcodec.safe_open(files[0], kernels="abacus")


def test_many_threads_read_one_file(files):
    with wcodec.safe_open(files[0], "np", threads=2) as opened, ThreadPoolExecutor(8) as pool:
        gate = threading.Barrier(8)

        def read(i):
            if i < 8:
                gate.wait(30)
            name = sorted(TENSORS)[i % len(TENSORS)]
            return (
                plain(opened.get_tensor(name)) == plain(TENSORS[name]) and len(opened.get_tensors()) == len(TENSORS) if i % 9 == 0 else True
            )

        assert all(pool.map(read, range(64)))


def _child(path):
    return {name: plain(x)[0] for name, x in wcodec.numpy.load_file(path, threads=2).items()}


def test_several_processes_read_one_file(files):
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(3) as pool:
        for found in pool.map(_child, [files[0]] * 6):
            assert found == {name: x.tobytes() for name, x in TENSORS.items()}


def test_limits(tmp_path):
    spec, x = Spec.of("U8", 10**6), np.zeros(10**6, np.uint8)
    one(tmp_path / "m", spec, CODECS["const"].encode(x, spec, make_env()), x)
    for call in (
        wcodec.numpy.load_file,
        wcodec.torch.load_file,
        wcodec.verify,
        lambda p, limits: wcodec.decode(p, tmp_path / "o", limits=limits),
    ):
        with pytest.raises(LimitExceeded, match=r"--limit SIZE .* limits="):
            call(tmp_path / "m", limits=Limits(decoded=10**6 - 1))
        call(tmp_path / "m", limits=Limits(decoded=10**6))
    assert not x.any()


def test_unknown_codec_refuses_its_tensor_only(tmp_path):
    spec, x = Spec.of("U8", 5), np.arange(5, dtype=np.uint8)
    with ContainerWriter(tmp_path / "m") as writer:
        writer.add("old", spec, CODECS["raw"].encode(x, spec, make_env()), digest(x))
        writer.add("new", spec, Section("later", {"v": 1}), digest(x))
        writer.add_alias("alias", 1, True)
    with wcodec.safe_open(tmp_path / "m") as opened:
        assert opened.get_tensor("old").tolist() == [0, 1, 2, 3, 4] and opened.keys() == ["alias", "new", "old"]
        for name in ("new", "alias"):
            with pytest.raises(UnknownCodec, match=r"later.*\[C-24\]") as caught:
                opened.get_tensor(name)
            assert str(tmp_path / "m") in caught.value.at
    with pytest.raises(UnknownCodec):
        wcodec.verify(tmp_path / "m")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_tensors_begin_before_all_records_are_read(tmp_path, threads):
    large, small = np.arange(5 << 20, dtype=np.uint32).astype(np.uint8), np.arange(5, dtype=np.uint8)

    def write(last: Section) -> None:
        with ContainerWriter(tmp_path / "m", force=True) as writer:
            for name, x in (("large", large), ("small", small)):
                spec = Spec.of("U8", x.size)
                writer.add(name, spec, CODECS["raw"].encode(x, spec, make_env()), digest(x))
            writer.add_alias("tied", 0, True)
            writer.add("last", Spec.of("U8", 5), last, digest(small))

    write(CODECS["raw"].encode(small, Spec.of("U8", 5), make_env()))
    found = wcodec.numpy.load_file(tmp_path / "m", threads=threads)
    assert list(found) == ["large", "small", "tied", "last"] and found["tied"] is found["large"]
    assert np.array_equal(found["large"], large) and np.array_equal(found["last"], small)
    data = bytearray((tmp_path / "m").read_bytes())
    data[3 << 20] ^= 1
    with pytest.raises(Corrupt, match=r"large.*\[C-13\]"):
        wcodec.safe_open(bytes(data), threads=threads).get_tensors()
    write(Section("later", {"v": 1}))
    with pytest.raises(UnknownCodec, match=r"last.*\[C-24\]"):
        wcodec.numpy.load_file(tmp_path / "m", threads=threads)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"])
def test_small_floats(tmp_path, dtype):
    """Every bit pattern of a dtype, through both faces and safetensors."""
    bits = np.arange(65536 if dtype == "BF16" else 256).astype(np.uint16 if dtype == "BF16" else np.uint8)
    array = bits.view(wcodec.numpy.numpy_dtype(dtype)).reshape(-1, 16)
    tensor = torch.from_numpy(bits.copy().view(np.uint8)).view(wcodec.torch.torch_dtype(dtype)).reshape(-1, 16)
    for face, x in ((wcodec.numpy, array), (wcodec.torch, tensor)):
        data = face.save({"x": x}, {"a": "b"})
        assert plain(wcodec.numpy.load(data)["x"]) == plain(array) and plain(wcodec.torch.load(data)["x"]) == plain(tensor)
    (tmp_path / "m.wcodec").write_bytes(data)
    wcodec.decode(tmp_path / "m.wcodec")
    with safetensors.safe_open(tmp_path / "m.safetensors", "pt") as theirs:
        assert plain(theirs.get_tensor("x")) == plain(tensor) and theirs.metadata() == {"a": "b"}


def test_sub_byte_dtypes(tmp_path):
    packed = torch.arange(64, dtype=torch.uint8).reshape(4, 16).view(torch.float4_e2m1fn_x2)
    wcodec.torch.save_file({"x": packed}, tmp_path / "m.wcodec")
    wcodec.decode(tmp_path / "m.wcodec")
    with wcodec.safe_open(tmp_path / "m.wcodec", "pt") as ours, safetensors.safe_open(tmp_path / "m.safetensors", "pt") as theirs:
        assert ours.get_slice("x").get_shape() == theirs.get_slice("x").get_shape() == [4, 32]
        assert plain(ours.get_tensor("x")) == plain(theirs.get_tensor("x")) == plain(packed)
        with pytest.raises(TypeError):
            ours.get_slice("x")[0]
    assert wcodec.numpy.load_file(tmp_path / "m.wcodec")["x"].tolist() == list(range(64))
    spec = Spec.of("F6_E2M3", 8)
    one(tmp_path / "six", spec, CODECS["raw"].encode(x := np.arange(6, dtype=np.uint8), spec, make_env()), x)
    with pytest.raises(BackendUnavailable):
        wcodec.torch.load_file(tmp_path / "six")
    assert wcodec.numpy.load_file(tmp_path / "six")["x"].tolist() == list(range(6))
