"""Fine-tuning along walks: norms and biases make up for what matrices lost, and files say so."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import wcodec
import wcodec.numpy
from wcodec.cli import main
from wcodec.coding.numbers import from_float32, to_float32
from wcodec.errors import EncodeError, RecipeError
from wcodec.types import DTYPES

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from wcodec.calibrating import walk_folder  # noqa: E402
from wcodec.calibration.finetuning import HELD, tune  # noqa: E402
from wcodec.calibration.walk import Walk  # noqa: E402
from wcodec.calibration.weights import hollow  # noqa: E402

CONTEXT, COARSE = 32, "trellis:step=0.08,states=8"


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A folder with a tiny Llama in bfloat16, all of whose norms begin as ones, and a text."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, attention_bias=True,
        max_position_embeddings=CONTEXT, tie_word_embeddings=False, initializer_range=0.1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).bfloat16().save_pretrained(folder)
    (folder / "text.txt").write_text("How vexingly quick daft zebras jump! " * 10)
    return folder


def encode(folder, target, finetune=True, **options):
    with walk_folder(folder, text=folder / "text.txt", scratch=target.parent, finetune=finetune) as walk:
        return wcodec.encode(folder, target, calibration=walk, **options)


@pytest.fixture(scope="module")
def encoded(llama, tmp_path_factory):
    """A folder with the model encoded along a walk without and with fine-tuning, and both reports."""
    folder = tmp_path_factory.mktemp("encoded")
    return folder, *(encode(llama, folder / name, name == "tuned", recipe=COARSE) for name in ("plain", "tuned"))


def test_better(llama, encoded):
    """Matrices of the first block stay, its vectors do not; the file tells, reads back, and what blocks give is nearer on other texts."""
    folder, plain, tuned = encoded
    rows = {row.name: row for row in tuned.tensors}
    changed = {name for name, row in rows.items() if row.tuned}
    assert changed and all(".layers." in name and len(rows[name].shape) == 1 for name in changed)
    for row in plain.tensors:
        mine = rows[row.name]
        assert not row.tuned and (len(row.shape) > 1 or mine.lossless != mine.tuned)
        if row.name in changed:
            assert row.lossless and not mine.lossless and mine.error is not None and mine.gap is None and mine.alias is None
        elif ".layers.1." not in row.name and "lm_head" not in row.name:
            assert (mine.digest, mine.lossless) == (row.digest, row.lossless)
    assert any("fine-tuned norms and biases of" in note and "smaller" in note for note in tuned.notes)
    file = folder / "tuned" / "model.wcodec"
    assert main(["verify", "--deep", str(file)]) == 0
    assert wcodec.inspect(file).to_json()["encoder"]["recipe"] == f"{COARSE}\n--finetune: {len(changed)} tensors"
    found, source = wcodec.numpy.load_file(file), load_file(llama / "model.safetensors")
    assert list(found) == list(source) and all(found[name].dtype == source[name].dtype for name in source)
    assert {name for name in changed if (found[name] == source[name]).all()} == set()
    ids = torch.from_numpy(np.random.default_rng(1).choice(np.frombuffer((llama / "text.txt").read_bytes(), np.uint8), (4, CONTEXT)))
    off = [distance(llama, folder / name / "model.wcodec", ids.long()) for name in ("plain", "tuned")]
    assert off[1] < off[0]


def distance(folder, path, ids):
    """By how much what the last block gives is off, squared."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        wanted = model.model(ids).last_hidden_state
        weights = {name: torch.from_numpy(its.astype(np.float32)) for name, its in wcodec.numpy.load_file(path).items()}
        model.load_state_dict(weights)
        return float((model.model(ids).last_hidden_state - wanted).square().mean())


def test_same(llama, encoded, tmp_path):
    """The same machine makes the same file."""
    encode(llama, tmp_path / "again", recipe=COARSE)
    assert (tmp_path / "again" / "model.wcodec").read_bytes() == (encoded[0] / "tuned" / "model.wcodec").read_bytes()


def test_target(llama, tmp_path, capsys):
    """A target holds from the command line, and the report tells which tensors were fine-tuned."""
    options = ["--effort", "fast", "--bpw", "5", "--calibrate", str(llama / "text.txt"), "--context", str(CONTEXT), "--finetune"]
    assert main(["encode", str(llama), "-o", str(tmp_path / "out"), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith("fine-tuned") and "layers." in line for line in lines)
    file = tmp_path / "out" / "model.wcodec"
    changed = {line.split()[0] for line in lines if line.endswith("fine-tuned")}
    assert {row.name for row in wcodec.inspect(file).tensors if row.tuned} == changed
    assert main(["inspect", str(file)]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines() if ", fine-tuned" in line} == changed
    assert 4.7 < 8 * file.stat().st_size / sum(its.size for its in load_file(llama / "model.safetensors").values()) <= 5


def test_nothing(llama, tmp_path):
    """Without vectors in the file nothing is trained; and without matrices there is nothing to make up for."""
    report = encode(llama, tmp_path / "m", recipe=COARSE, include=["*_proj.weight"])
    assert not any(row.tuned for row in report.tensors) and any("nothing was fine-tuned" in note for note in report.notes)
    report = encode(llama, tmp_path / "l", recipe="lossless")
    assert report.lossless and any("0 of 2 blocks" in note for note in report.notes)


def test_refused(llama, tmp_path, capsys):
    """It takes a walk, two samples, and no bound that it would break."""
    text = llama / "text.txt"
    assert main(["encode", str(llama), "-o", str(tmp_path / "o"), "--finetune"]) == 2
    assert "--finetune goes with --calibrate" in capsys.readouterr().err
    with pytest.raises(EncodeError, match="two samples"):
        walk_folder(llama, text=text, finetune=True, sequential=False)
    (tmp_path / "short.txt").write_text("How quick!")
    with pytest.raises(EncodeError, match="two samples"):
        walk_folder(llama, text=tmp_path / "short.txt", finetune=True)
    with pytest.raises(RecipeError, match="exclude each other"):
        encode(llama, tmp_path / "e", max_error=0.1)


class Block(torch.nn.Module):
    """A convolution and a norm."""

    def __init__(self):
        super().__init__()
        self.mix, self.norm = torch.nn.Conv1d(32, 32, 3, padding=1), torch.nn.LayerNorm(32)

    def forward(self, x):
        return x + self.norm(torch.relu(self.mix(x.transpose(1, 2))).transpose(1, 2))


class Stack(torch.nn.Module):
    """Blocks that share a norm."""

    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.ModuleList([Block(), Block()])
        self.blocks[1].norm = self.blocks[0].norm

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def test_tied(tmp_path):
    """Biases of convolutions are trained; a norm that two blocks share is not."""
    torch.manual_seed(0)
    weights = {name: its.detach().numpy() for name, its in Stack().named_parameters()}
    save_file(weights, tmp_path / "m.safetensors")
    with hollow():
        model = Stack()
    samples = [torch.randn(1, 20, 32) for _ in range(6)]
    with Walk(model, samples, weights.__getitem__, weights, scratch=tmp_path, finetune=True) as walk:
        report = wcodec.encode(tmp_path / "m.safetensors", recipe="trellis:relative=1,states=8", calibration=walk)
    tuned = {row.name for row in report.tensors if row.tuned}
    assert tuned and tuned <= {"blocks.0.mix.bias", "blocks.1.mix.bias"}


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_tune(dtype):
    """A bias that lacks something gets it, rounded to its dtype; what cannot be better stays, and all is left as it was."""
    its = DTYPES[dtype]
    layer = torch.nn.Linear(8, 8).requires_grad_(False)
    samples = [torch.randn(16, 8) for _ in range(8)]
    lacking = {"bias": layer.bias}
    before = layer.bias.clone()

    def rounded(name, values):
        return to_float32(from_float32(values, its), its)

    wanted = [layer(x) + 0.03 for x in samples]
    found = tune(lacking, lambda i: layer(samples[i]), lambda i: wanted[i], 8, rounded, epochs=20, rate=0.01)
    assert found.after < 0.02 * found.before and np.array_equal(rounded("", found.values["bias"]), found.values["bias"])
    assert torch.equal(layer.bias, before) and not layer.bias.requires_grad and layer.bias.grad is None
    exact = [layer(x) for x in samples]
    other = [exact[i] + (0.03 if i % HELD else 0.001) for i in range(8)]
    assert not tune(lacking, lambda i: layer(samples[i]), lambda i: other[i], 8, rounded, epochs=20, rate=0.01).values
    assert not tune(lacking, lambda i: layer(samples[i]), lambda i: exact[i], 8, rounded).values
