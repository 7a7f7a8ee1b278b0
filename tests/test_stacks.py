"""Walks along models with several stacks of blocks: encoders with decoders."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import wcodec
from wcodec.cli import main
from wcodec.errors import EncodeError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from wcodec.calibrating import calibrate_folder, walk_folder  # noqa: E402
from wcodec.calibration.walk import Walk  # noqa: E402
from wcodec.calibration.weights import hollow  # noqa: E402

STEP, COARSE = "trellis:step=0.02,states=8", "trellis:step=0.08,states=8"
SAMPLES = 6
SIZES = {
    "vocab_size": 256, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "init_std": 0.1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "forced_eos_token_id": None,
}  # fmt: skip


def make(kind, folder):
    """Make a folder with a tiny model, and samples beside it."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    samples = {"input_ids": random.integers(3, 256, (SAMPLES, 20)), "decoder_input_ids": random.integers(3, 256, (SAMPLES, 12))}
    if kind == "whisper":
        config = transformers.WhisperConfig(
            num_mel_bins=8, max_source_positions=16, max_target_positions=16, suppress_tokens=None, begin_suppress_tokens=None, **SIZES
        )
        model = transformers.WhisperForConditionalGeneration(config)
        samples["input_features"] = random.standard_normal((SAMPLES, 8, 32)).astype(np.float32)
        del samples["input_ids"]
    elif kind == "t5":
        config = transformers.T5Config(vocab_size=256, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2)
        model = transformers.T5ForConditionalGeneration(config)
    else:
        model = transformers.MarianMTModel(transformers.MarianConfig(max_position_embeddings=32, **SIZES))
        samples["attention_mask"] = (np.arange(20) < random.integers(10, 21, (SAMPLES, 1))).astype(np.int64)
    model.save_pretrained(folder)
    np.savez(folder / "x.npz", **samples)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return make("whisper", tmp_path_factory.mktemp("whisper"))


def encode(folder, target, recipe=STEP, rules=(), **options):
    with walk_folder(folder, tensors=folder / "x.npz", scratch=target.parent, **options) as walk:
        return wcodec.encode(folder, target, recipe=recipe, rules=rules, calibration=walk)


def digests(report):
    return {row.name: row.digest for row in report.tensors}


def changed(one, other):
    return {name for name, digest in digests(one).items() if digests(other)[name] != digest}


@pytest.mark.parametrize("kind", ["whisper", "marian"])
def test_same_statistics(kind, tmp_path):
    """A walk that hands on what original blocks make encodes as statistics of the whole model do, bit for bit, behind the encoder, too."""
    folder = make(kind, tmp_path / "m")
    calibrate_folder(folder, tmp_path / "w.stats", tensors=folder / "x.npz", gradients=False)
    whole = wcodec.encode(folder, tmp_path / "whole", recipe=STEP, calibration=tmp_path / "w.stats")
    plain = encode(folder, tmp_path / "plain", sequential=False, gradients=False)
    assert digests(plain) == digests(whole) and not changed(plain, whole) and not plain.lossless
    assert changed(plain, wcodec.encode(folder, tmp_path / "none", recipe=STEP))


def test_sequential(whisper, tmp_path):
    """Blocks of the decoder see what the encoded encoder makes: if it lost nothing, that of any walk."""
    outside = ["*embed*=lossless", "*.conv?.*=lossless"]
    reports = [
        encode(whisper, tmp_path / str(i), rules=rules, sequential=i > 0, gradients=False)
        for i, rules in enumerate([outside, outside, [*outside, "*encoder.layers*=lossless"]])
    ]
    found, first = changed(*reports[:2]), "model.decoder.layers.0.encoder_attn.k_proj.weight"
    assert {first, "model.encoder.layers.1.fc1.weight"} <= found and not any(".encoder.layers.0." in name for name in found)
    assert digests(reports[0])[first] == digests(reports[2])[first]


def test_command(whisper, tmp_path, capsys):
    """From arrays, to a target that holds; the file is good and tells what was trained."""
    out = tmp_path / "out"
    options = ["--calibrate-tensors", str(whisper / "x.npz"), "--effort", "fast", "--json", "--no-gradients", "--finetune"]
    options += ["-t", "*.fc?.*", "-t", "*layer_norm*"]  # quicker than all
    assert main(["encode", str(whisper), "-o", str(out), "--bpw", "6", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 4.5 < report["bpw"] <= 6 and not report["lossless"]
    assert main(["verify", "--deep", str(out), "--json"]) == 0
    tuned = {row["name"] for row in report["tensors"] if row["tuned"]}
    assert tuned and {row.name for row in wcodec.inspect(out).tensors if row.tuned} == tuned
    assert not list(tmp_path.glob(".wcodec-*"))
    assert main(["encode", str(whisper), "-o", str(out), "--calibrate-tensors", "x.npz", "--calibrate", "x.txt"]) == 2
    assert "--calibrate and --calibrate-tensors exclude each other" in capsys.readouterr().err
    (tmp_path / "x.txt").write_text("How quick!")
    for command in (["encode", str(whisper), "--calibrate"], ["calibrate", str(whisper), "--text"]):
        assert main([*command, str(tmp_path / "x.txt"), "-o", str(tmp_path / "o")]) == 3
        assert "does not run on samples of input_ids" in capsys.readouterr().err


def test_finetune(whisper, tmp_path):
    """Blocks of both stacks are trained towards the original model, and what it gives in the end is nearer."""
    plain, tuned = (encode(whisper, tmp_path / str(its), COARSE, finetune=its) for its in (False, True))
    found = {row.name for row in tuned.tensors if row.tuned}
    assert {name.split(".layers.")[0] for name in found} == {"model.encoder", "model.decoder"}
    assert any("of 4 blocks" in note for note in tuned.notes)
    assert distance(whisper, tmp_path / "True") < distance(whisper, tmp_path / "False")
    assert not {row.name for row in plain.tensors if row.tuned}


def distance(folder, path):
    """By how much what the model gives is off, squared, on its samples."""
    kind = json.loads((folder / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32).eval()
    batch = {name: torch.from_numpy(its) for name, its in np.load(folder / "x.npz").items()}
    with torch.no_grad():
        wanted = model(**batch).logits
        model.load_state_dict({k: torch.from_numpy(v) for k, v in wcodec.numpy.load_file(path / "model.wcodec").items()}, strict=False)
        return float((model(**batch).logits - wanted).square().mean())


def test_wanted(whisper, tmp_path):
    """What decoder blocks aim at is what the original model gives there, from what its own encoder gives."""
    model = transformers.WhisperForConditionalGeneration.from_pretrained(whisper, dtype=torch.float32).eval()
    batch = {name: torch.from_numpy(its[:1]) for name, its in np.load(whisper / "x.npz").items()}
    seen = {}
    for name, its in model.named_modules():
        if name.rpartition(".")[0].endswith("layers"):
            its.register_forward_hook(lambda module, inputs, found, name=name: seen.__setitem__(name, found))
    with torch.no_grad():
        model(**batch)
    names, aims = list(load_file(whisper / "model.safetensors")), {}
    with walk_folder(whisper, tensors=whisper / "x.npz", scratch=tmp_path, finetune=True, gradients=False) as walk:
        for part in walk.parts(names):
            block = next((name for name in seen if part[0].startswith(f"{name}.")), "")
            if block:
                aims[block] = walk._activations.given(0, "wanted")
            for name in part:  # as if encoding had lost nearly everything
                if name.endswith("weight") and "norm" not in name:
                    values = load_file(whisper / "model.safetensors")[name]
                    walk.replace(name, lambda values=values: values * np.float32(0.1))
    assert aims.keys() == seen.keys()
    for name, its in aims.items():
        torch.testing.assert_close(its, seen[name], rtol=1e-4, atol=1e-5)


def test_disk(whisper, tmp_path):
    """What blocks are given lies on disk, what several are given once; no tensor stays in memory."""
    with walk_folder(whisper, tensors=whisper / "x.npz", scratch=tmp_path, gradients=False) as walk:
        for part in walk.parts(list(load_file(whisper / "model.safetensors"))):
            files = [file.name for file in walk._folder.iterdir() if file.name.startswith("0.now.given")]
            if ".decoder.layers." in part[0]:
                assert len(files) == 1  # what the encoder gives, for both blocks
                calls = [walk._activations._calls[number, "now"] for number in range(SAMPLES)]
                assert not any(isinstance(its, torch.Tensor) for call in calls for args, more in call for its in (*args, *more.values()))


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = torch.nn.Linear(16, 16)

    def forward(self, x, other=None):
        return x + torch.tanh(self.mix(x)) + (0 if other is None else other.mean(-2, keepdim=True))


class Model(torch.nn.Module):
    """Two stacks, called as one of the functions below says."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.left, self.right = (torch.nn.ModuleList([Block(), Block()]) for _ in range(2))
        self.head = torch.nn.Linear(16, 16)

    def forward(self, x):
        return self.how(self, x)


def along(blocks, x, *more):
    for block in blocks:
        x = block(x, *more)
    return x


def right_first(model, x):
    return model.head(along(model.left, x, along(model.right, x)))


def interleaved(model, x):
    for one, other in zip(model.left, model.right, strict=True):
        x = other(one(x))
    return model.head(x)


def never(model, x):
    return model.head(along(model.left, x))


def half(model, x):
    return model.head(model.right[0](along(model.left, x)))


def twice(model, x):
    return model.head(along(model.right, along(model.left, along(model.left, x))))


def between(model, x):
    return model.head(along(model.right, model.left[1](model.left[0](x) * 2)))


def inner(model, x):
    first = model.left[0](x)
    return model.head(along(model.right, model.left[1](first), first))


def inner_head(model, x):
    first = model.left[0](x)
    return along(model.right, model.left[1](first)) + model.head(first)


def weights_of(model, path):
    weights = {name: its.detach().numpy().copy() for name, its in model.named_parameters()}
    save_file(weights, path)
    return weights


def test_order(tmp_path):
    """Stacks are taken in the order of their calls, whatever that of their names."""
    torch.manual_seed(0)
    model = Model(right_first)
    weights = weights_of(model, tmp_path / "m.safetensors")
    samples = [torch.randn(1, 20, 16) for _ in range(4)]
    wcodec.calibrate(model, samples, tmp_path / "s", gradients=False)
    whole = wcodec.encode(tmp_path / "m.safetensors", tmp_path / "w.wcodec", recipe=STEP, calibration=tmp_path / "s")
    with hollow():
        model = Model(right_first)
    with Walk(model, samples, weights.__getitem__, weights, scratch=tmp_path, sequential=False, gradients=False) as walk:
        assert [part[0].split(".")[0] for part in walk.parts(list(weights))] == ["head", "right", "right", "left", "left", "head"]
        found = wcodec.encode(tmp_path / "m.safetensors", recipe=STEP, calibration=walk)
    assert digests(found) == digests(whole)


@pytest.mark.parametrize("how", [interleaved, never, half, twice, between, inner, inner_head])
def test_refused(how, tmp_path):
    """Blocks that are not called one after the other, and what takes more of them than the end of a stack, are refused before all else."""
    weights = weights_of(Model(how), tmp_path / "m.safetensors")
    with hollow():
        model = Model(how)
    with pytest.raises(EncodeError, match="wcodec calibrate"):
        Walk(model, [torch.randn(1, 20, 16)], weights.__getitem__, weights, scratch=tmp_path)


def test_shared(tmp_path):
    """A block that stands in two places is refused."""
    with hollow():
        model = Model(right_first)
    model.left[1] = model.right[0]
    with pytest.raises(EncodeError, match="two places"):
        Walk(model, [torch.randn(1, 20, 16)], weights_of(Model(right_first), tmp_path / "x").__getitem__, (), scratch=tmp_path)


def test_refused_later(tmp_path):
    """A sample that takes another way than the first one is refused, too."""

    def how(model, x):
        return right_first(model, x) if x.shape[1] == 20 else interleaved(model, x)

    weights = weights_of(Model(how), tmp_path / "m.safetensors")
    with hollow():
        model = Model(how)
    with Walk(model, [torch.randn(1, n, 16) for n in (20, 10)], weights.__getitem__, weights, scratch=tmp_path) as walk:
        with pytest.raises(EncodeError, match="wcodec calibrate"):
            list(walk.parts(list(weights)))


def test_more_handed_on(tmp_path):
    """Blocks that hand on more than hidden states, as those of T5 do positions, are refused."""
    folder = make("t5", tmp_path / "m")
    with pytest.raises(EncodeError, match=r"encoder\.block\.1 is given more of other blocks .* \(wcodec calibrate\)"):
        walk_folder(folder, tensors=folder / "x.npz")
