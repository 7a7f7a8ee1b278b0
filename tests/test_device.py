"""The battery, golden files, damage and the api on tensors: torch on the cpu, and every kernel on CUDA where there is one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from battery import DEVICES, EXAMPLES, FIXTURES, MASKS, cases, make_env, pass_battery, same_bits
from everything import everything
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernels import Case, each, outcome
from kernels import cases as streams
from safetensors.torch import load_file as load_safetensors
from strategies import masks, tensors, windows
from test_codecs import takes

import wcodec
import wcodec.torch
from wcodec.api.files import STORAGE
from wcodec.api.opened import Opened
from wcodec.backends import choose, get_backend
from wcodec.backends.torch import TorchBackend, proof
from wcodec.backends.torch.arrays import as_array
from wcodec.backends.torch.floats import rounded
from wcodec.cli import main
from wcodec.codecs import CODECS
from wcodec.codecs.base import decode
from wcodec.coding.numbers import LOSSY, from_float32
from wcodec.errors import BackendUnavailable, Corrupt, WcodecError
from wcodec.selftest import selftest
from wcodec.types import DTYPES, MemoryStream, Spec

EACH = [pytest.param(name, marks=pytest.mark.cuda if "@" in name else ()) for name in DEVICES]


def opening(name: str) -> dict[str, Any]:
    kernels, _, device = name.partition("@")
    return {"kernels": kernels, "device": device or "cpu"}


@pytest.mark.parametrize("device", EACH)
@pytest.mark.parametrize(("codec", "options"), EXAMPLES)
@given(data=st.data())
@settings(max_examples=3)
def test_battery(codec, options, device, data):
    dtypes = ("U8", "U16", "U32") if codec == "rans" else tuple(DTYPES)
    spec, x = data.draw(masks(codec, **options) if codec in MASKS else tensors(dtypes))
    if codec == "const" and x.size:
        x = np.repeat(x[:1], x.size)
    assume(codec in MASKS or takes(codec, options, spec, x))
    pass_battery(codec, options, spec, x, data.draw(st.lists(windows(x.size), max_size=1)), ("numpy", device))


@pytest.mark.parametrize("device", EACH)
@pytest.mark.parametrize("case", cases("v1"))
def test_golden_files(case, device):
    """Every tensor of every golden file, in one batch per file, tolerant ones by their values."""
    for path in sorted(case.glob("*.wcodec")):
        with Opened(path, STORAGE) as near, Opened(path, STORAGE, **opening(device)) as far:
            known = [name for name in near.offset_keys() if readable(near, name)]
            want, found = near.get_tensors(known), far.get_tensors(known)
            for name in known:
                x = far.env.backend.to_host(found[name]).view(want[name].dtype)
                if not near.record(name).tolerant:
                    assert same_bits(x, want[name]), f"{path}: {name}"


def readable(opened: Opened, name: str) -> bool:
    try:
        opened.record(name)
    except WcodecError:
        return False
    return True


@pytest.mark.parametrize("device", EACH)
@pytest.mark.parametrize("case", cases("bad"))
def test_bad_files(case, device):
    """Damage gives the same error as on the cpu."""
    path = next((p for p in (case / "case.wcodec", case) if p.exists()), case)
    assert verdict(path, **opening(device)) == verdict(path)


def verdict(path: Any, **options: Any) -> Any:
    try:
        wcodec.verify(path, deep=True, **options)
    except (WcodecError, OSError) as error:
        return type(error), getattr(error, "rule", None)
    return None


@pytest.mark.parametrize("device", EACH)
@given(streams(), st.integers(0, 2**32))
@settings(max_examples=25)
def test_damaged_words(device, case: Case, seed):
    """Words, states and tables that do not fit give the rule that numpy gives."""
    backend: Any = make_env(device).backend
    rng = np.random.default_rng(seed)
    case.words, case.states = case.words.copy(), case.states.copy()
    match rng.integers(4):
        case 0 if case.words.size:
            case.words[rng.integers(case.words.size, size=3)] ^= np.uint8(1) << rng.integers(8, size=3).astype(np.uint8)
        case 1 if case.states.size:
            case.states.reshape(-1)[rng.integers(case.states.size)] = rng.integers(2**32)
        case 2:
            case.job.tables.frequencies[rng.integers(len(case.job.tables.frequencies))] = 0
    want = np.empty(case.count, np.uint8)
    rule = outcome(get_backend("numpy"), case, want)
    case.words, out = backend.from_host(case.words), backend.empty(case.count, np.dtype(np.uint8))
    assert outcome(backend, case, out) == rule
    assert rule or same_bits(backend.to_host(out), want)


@pytest.mark.parametrize("device", EACH)
def test_one_launch_for_many_tensors(device, monkeypatch):
    """Equal verbs of all tensors go together, and one look at the end says which tensor is damaged."""
    x = {f"layer.{i}": torch.randn(40, 64).bfloat16() for i in range(7)}
    data = wcodec.torch.save(x)
    backend: Any = make_env(device).backend
    launched: list[tuple[str, int]] = []
    run = type(backend).run
    monkeypatch.setattr(type(backend), "run", lambda self, name, calls: (launched.append((name, len(calls))), run(self, name, calls))[1])
    with Opened(data, STORAGE, **opening(device)) as opened:
        opened.get_tensors()
    assert ("rans_join", 7) in launched and sum(name == "rans_join" for name, _ in launched) == 1


@pytest.mark.parametrize("device", EACH)
def test_one_launch_for_the_parts_of_a_tensor(device, monkeypatch):
    """Experts decode together, and what follows waits for all of them."""
    spec, env = Spec.of("BF16", 7, 20, 64), make_env(device)
    x = torch.randn(*spec.shape).bfloat16().view(torch.int16).numpy().view(np.uint16).ravel()
    section = CODECS["concat"].encode(x, spec, make_env("numpy"), lengths=[1] * 7, codec="planes")
    backend: Any = env.backend
    launched: list[tuple[str, int]] = []
    run = type(backend).run
    monkeypatch.setattr(type(backend), "run", lambda self, name, calls: (launched.append((name, len(calls))), run(self, name, calls))[1])
    with backend.batch() as batch, batch.tape("experts"):
        out, copied = (backend.empty(spec.count, spec.dtype.storage) for _ in range(2))
        backend.fill(out, 0)
        decode(section, spec, env, 0, spec.count, out)
        backend.copy(out, copied)
    assert launched == [("fill", 1), ("rans_join", 7), ("copy", 1)]
    assert same_bits(backend.to_host(copied), x)


def test_rounding_is_the_same_everywhere():
    """Every upper half of a float32, with lower halves that are ties, next to ties, and NaNs that signal."""
    low = np.array([0, 1, 0x7FF, 0x800, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x7FFF, 0x8000, 0x8001, 0xEFFF, 0xF000, 0xFFFF], np.uint32)
    values = (np.arange(1 << 16, dtype=np.uint32)[:, None] << np.uint32(16) | low).ravel().view(np.float32)
    for dtype in (DTYPES[name] for name in LOSSY):
        want = from_float32(values, dtype)
        assert same_bits(as_array(rounded(torch.from_numpy(values), dtype)), want)
        for backend in each():
            out = np.empty_like(want)
            backend.round_floats(values, dtype, out)
            assert same_bits(out, want)


@pytest.mark.parametrize("device", EACH)
def test_errors_name_the_tensor(device):
    env = make_env(device)
    backend: Any = env.backend
    with pytest.raises(Corrupt, match=r"^file: b: .* \[CODEBOOK-2\]$"), backend.batch() as batch:
        for name, index in (("a", 1), ("b", 9), ("c", 10)):
            with batch.tape(f"file: {name}"):
                out = backend.empty(5, np.dtype(np.uint16))
                backend.gather(backend.from_host(np.arange(2, dtype=np.uint16)), 1, backend.from_host(np.full(5, index, np.uint8)), out)
    with pytest.raises(Corrupt, match="CODEBOOK-2"):  # without a batch, at once
        backend.gather(backend.from_host(np.arange(2, dtype=np.uint16)), 1, backend.from_host(np.full(5, 7, np.uint8)), out)


@pytest.mark.parametrize("device", EACH)
def test_every_codec_at_once(device):
    with Opened(everything(), STORAGE) as near, Opened(everything(), STORAGE, **opening(device)) as far:
        want, found = near.get_tensors(), far.get_tensors()
        for name, x in want.items():
            assert near.record(name).tolerant or same_bits(far.env.backend.to_host(found[name]).view(x.dtype), x), name
            parts, others = near.get_parts(name), far.get_parts(name)
            for key, part in parts.items():
                assert same_bits(far.env.backend.to_host(others[key]).view(part.dtype), part)


@pytest.mark.parametrize("device", EACH)
def test_same_file_from_a_device(device, tmp_path):
    """Encoding on a device gives the bytes that the cpu gives; the result decodes there, and stays there."""
    path = FIXTURES / "v1/dtypes/expect.safetensors"
    wcodec.encode(path, tmp_path / "cpu.wcodec")
    wcodec.encode(path, tmp_path / "there.wcodec", **opening(device))
    assert (tmp_path / "cpu.wcodec").read_bytes() == (tmp_path / "there.wcodec").read_bytes()
    wcodec.decode(tmp_path / "there.wcodec", tmp_path / "again.safetensors", **opening(device))
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    where = opening(device)["device"]
    state = {name: x.to(where) for name, x in load_safetensors(FIXTURES / "v1/weights/expect.safetensors").items()}
    wcodec.torch.save_file(state, tmp_path / "state.wcodec", **opening(device))
    found = wcodec.torch.load_file(tmp_path / "state.wcodec", **opening(device))
    assert all(torch.equal(found[name], x) and found[name].device == x.device for name, x in state.items())


@pytest.mark.parametrize("device", EACH)
def test_same_trellis_from_a_device(device, tmp_path):
    """Columns are searched there, small tensors and halves as well."""
    state = {"a.weight": torch.randn(70, 130) * 0.02, "b.weight": torch.randn(64, 200).bfloat16(), "a.bias": torch.randn(70)}
    wcodec.torch.save_file(state, tmp_path / "cpu.wcodec", recipe="trellis")
    there = {name: x.to(opening(device)["device"]) for name, x in state.items()}
    wcodec.torch.save_file(there, tmp_path / "there.wcodec", recipe="trellis", **opening(device))
    assert (tmp_path / "cpu.wcodec").read_bytes() == (tmp_path / "there.wcodec").read_bytes()


@pytest.mark.parametrize("device", EACH)
def test_slices_and_out(device):
    x = {"m": torch.randn(30, 20, 3), "v": torch.arange(50), "s": torch.tensor(3.0), "e": torch.empty(0, 4)}
    with wcodec.safe_open(wcodec.torch.save(x), "pt", **opening(device)) as file:
        for index in (np.s_[2:9:3], np.s_[::-4], np.s_[5], np.s_[..., None], np.s_[4:4], np.s_[1:7, ::-1, 1], np.s_[:, 3, None]):
            assert torch.equal(file.get_slice("m")[index].cpu(), torch.from_numpy(x["m"].numpy()[index].copy()))
        assert torch.equal(file.get_slice("v")[-3:].cpu(), x["v"][-3:]) and file.get_slice("s")[()].item() == 3
        assert file.get_slice("e")[:].shape == (0, 4)
        out = torch.empty(30, 20, 3, device=opening(device)["device"])
        assert file.get_tensor("m", out=out) is out and torch.equal(out.cpu(), x["m"])


def test_numpy_is_for_the_cpu():
    with pytest.raises(ValueError, match="cpu"):
        wcodec.safe_open(b"", "np", "cuda")
    with pytest.raises(ValueError, match="torch"):
        wcodec.safe_open(b"", "np", kernels="torch")


def test_settings_of_torch_change_no_bit():
    data = everything()
    with Opened(data, STORAGE) as near, Opened(data, STORAGE, kernels="torch") as far, torch.autocast("cpu", dtype=torch.bfloat16):
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            want, found = near.get_tensors(), far.get_tensors()
        finally:
            torch.set_float32_matmul_precision(before)
        assert all(near.record(name).tolerant or same_bits(found[name].numpy().view(x.dtype), x) for name, x in want.items())


def test_a_device_must_prove_itself(monkeypatch):
    """Without proof there is a warning with the reason, and the cpu decodes."""
    backend = get_backend("torch")
    assert isinstance(backend, TorchBackend) and proof.prove(backend) is None
    monkeypatch.setattr(TorchBackend, "scatter", lambda self, found, values, out, clear: None)
    assert proof.prove(backend) == "scatter gives other bits than numpy"
    monkeypatch.undo()
    data, wrong = wcodec.torch.save({"x": torch.ones(3)}), "join_planes gives other bits than numpy"
    monkeypatch.setattr(choose, "_on_device", lambda name, device: backend)
    monkeypatch.setattr(proof, "prove", lambda backend: wrong)
    choose.for_device.cache_clear()
    try:
        with pytest.raises(BackendUnavailable, match=wrong):
            choose.for_device("meta")
        with pytest.warns(RuntimeWarning, match=f"cpu and copies, not on meta: .*{wrong}"):
            found = wcodec.safe_open(data, "pt", "meta").get_tensor("x")
        assert found.device.type == "meta"
    finally:
        choose.for_device.cache_clear()


def test_cpu_path_imports_no_torch():
    import subprocess
    import sys

    code = "import sys, wcodec, wcodec.numpy, wcodec.api.encoder, wcodec.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_selftest(monkeypatch, capsys):
    some, folder = ["const", "bitpack", "zstd", "nm", "draw"], str(FIXTURES / "v1/weights")
    assert main(["selftest", *some, "--untimed", "--json", "--fixtures", folder]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["good"] and report["backend"] == "torch" and all(check["count"] for check in report["checks"])
    assert selftest(kernels="torch", names=["raw"]).speeds["decode"] > 0
    monkeypatch.setattr(TorchBackend, "unpack_bits", lambda self, data, width, base, out: out.zero_())
    assert main(["selftest", "bitpack", "--untimed"]) == 1
    out = capsys.readouterr().out
    assert "unpack_bits gives other bits than numpy" in out and "bitpack {} decodes to other bits" in out and "WRONG" in out
    assert main(["selftest", "--device", "abacus"]) == 3


def test_where_codecs_run(capsys):
    assert main(["codecs", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["codecs"]}
    assert rows["planes"]["decode_on"] == rows["planes"]["encode_on"] == ["numpy", "native", "torch", "triton"]
    assert rows["zstd"]["decode_on"] == ["numpy", "native"] and rows["zstd"]["decode_host"] and rows["uniform"]["encode_host"]
    assert rows["raw"]["since"] == "1.0"
    assert main(["codecs"]) == 0
    assert "No GPU has run this version yet" in capsys.readouterr().out


def test_damage_in_a_batch_names_the_tensor():
    """A file that is sound but for the words of one tensor: the end of the batch finds it."""
    state = {f"t{i}": torch.randn(64, 64).bfloat16() for i in range(4)}
    with Opened(wcodec.torch.save(state), STORAGE, kernels="torch") as opened:
        section = opened.record("t2").section.parts["symbol"]
        stream = section.parts["data"]
        with stream.read(0, stream.size) as data:
            damaged = data.copy()
        damaged[-40:] ^= 0x5A
        section.parts = {**section.parts, "data": MemoryStream(damaged)}
        with pytest.raises(Corrupt, match=r"^bytes: t2: .*\[E-6\]$"):
            opened.get_tensors()
        with pytest.raises(Corrupt, match=r"^bytes: t2: .*\[E-6\]$"):
            opened.get_tensor("t2")
        assert torch.equal(opened.get_tensor("t1").view(torch.bfloat16).view(64, 64), state["t1"])
