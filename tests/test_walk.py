"""Calibration of transformers models: from the command line, and block by block while they are encoded."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import wcodec
from wcodec.calibration.statistics import Statistics
from wcodec.cli import main
from wcodec.container.shards import index_name
from wcodec.errors import EncodeError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
CONTEXT, STEP = 32, "trellis:step=0.02,states=8"


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A folder with a tiny Llama, whose head is not its embedding, and a text."""
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=CONTEXT, tie_word_embeddings=False, initializer_range=0.1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "text.txt").write_text("How vexingly quick daft zebras jump! " * 10)
    return folder


@pytest.fixture(scope="module")
def statistics(llama, tmp_path_factory):
    target = tmp_path_factory.mktemp("stats") / "text.stats"
    assert main(["calibrate", str(llama), "--text", str(llama / "text.txt"), "-o", str(target), "--no-gradients"]) == 0
    return target


def digests(report):
    return {row.name: row.digest for row in report.tensors}


def test_text(llama, statistics, tmp_path, capsys):
    """A text is cut into pieces that the model has positions for; the size is told before, facts after."""
    target = tmp_path / "s"
    assert main(["calibrate", str(llama), "--text", str(llama / "text.txt"), "-o", str(target), "--json"]) == 0
    said = capsys.readouterr()
    found, facts = Statistics(target), json.loads(said.out)
    assert facts == {"target": str(target), "size": target.stat().st_size, "layers": 22, "inputs": 13, "samples": -(-370 // CONTEXT)}
    assert "22 layers with 13 kinds of inputs" in said.err and "Loading" not in said.err
    model = transformers.AutoModelForCausalLM.from_pretrained(llama)
    ids = torch.from_numpy(np.frombuffer((llama / "text.txt").read_bytes(), np.uint8).astype(np.int64))
    wanted = wcodec.calibrate(model, [{"input_ids": its[None]} for its in ids.split(CONTEXT)], tmp_path / "w")
    for name in wanted:
        np.testing.assert_array_equal(found.curvature(name).inputs, wanted.curvature(name).inputs)


def test_tensors(llama, tmp_path, capsys):
    """Arrays are what the model is called with; gradients come with them."""
    np.savez(tmp_path / "x.npz", input_ids=np.arange(60).reshape(3, 20), attention_mask=np.ones((3, 20), np.int64))
    target = tmp_path / "s"
    assert main(["calibrate", str(llama), "--tensors", str(tmp_path / "x.npz"), "-o", str(target), "--gradients"]) == 0
    assert "from 3 samples" in capsys.readouterr().out
    assert Statistics(target).curvature("model.layers.1.mlp.up_proj.weight").outputs.shape == (96,)


def test_use(llama, statistics, tmp_path, capsys):
    """What was gathered goes into a file that is good."""
    out = tmp_path / "m.wcodec"
    assert main(["encode", str(llama / "model.safetensors"), "-r", STEP, "--calibration", str(statistics), "-o", str(out)]) == 0
    assert main(["verify", "--deep", str(out)]) == 0
    assert "23 of 30 tensors changed" in capsys.readouterr().out
    assert wcodec.encode(llama / "model.safetensors", tmp_path / "p.wcodec", recipe=STEP).size != out.stat().st_size


def test_wrong(llama, statistics, tmp_path, capsys):
    """Every mistake has its line and its code; nothing is left behind."""
    text, target = ["--text", str(llama / "text.txt")], tmp_path / "s"
    mistakes = [
        (2, [], "give one of them"),
        (2, [*text, "--tensors", "x.npz"], "give one of them"),
        (3, [*text, "--limit", "1KB"], "the limit is 1,000"),
        (3, ["--text", str(tmp_path / "none")], "no such file"),
        (2, [*text, "--context", "0"], "context"),
    ]
    for code, options, message in mistakes:
        assert main(["calibrate", str(llama), "-o", str(target), *options]) == code
        assert message in capsys.readouterr().err and not target.exists()
    assert main(["calibrate", str(llama), "-o", str(statistics), *text]) == 3
    assert f"{statistics}: exists already" in capsys.readouterr().err
    assert main(["calibrate", str(tmp_path), "-o", str(target), *text]) == 3
    assert "not a model folder" in capsys.readouterr().err
    (tmp_path / "empty.txt").write_text("")
    assert main(["calibrate", str(llama), "--text", str(tmp_path / "empty.txt"), "-o", str(target)]) == 3
    both = ["--calibrate", str(llama / "text.txt"), "--calibration", str(statistics)]
    assert main(["encode", str(llama), "-o", str(tmp_path / "o"), "-r", STEP, *both]) == 2
    assert "--calibrate and --calibration exclude each other" in capsys.readouterr().err
    assert main(["encode", str(llama), "-o", str(tmp_path / "o"), "-r", STEP, "--no-gradients"]) == 2
    assert "--no-gradients goes with --calibrate or --calibrate-tensors" in capsys.readouterr().err


def test_same_statistics(llama, statistics, tmp_path):
    """A walk that hands on what original blocks make encodes as statistics of the whole model do, bit for bit."""
    from wcodec.calibrating import walk_folder

    source = llama / "model.safetensors"
    whole = wcodec.encode(source, tmp_path / "w.wcodec", recipe=STEP, calibration=statistics)
    with walk_folder(source, text=llama / "text.txt", scratch=tmp_path, sequential=False, gradients=False) as walk:
        found = wcodec.encode(source, tmp_path / "m.wcodec", recipe=STEP, calibration=walk)
    assert digests(found) == digests(whole) and [row.name for row in found.tensors] == [row.name for row in whole.tensors]
    assert (tmp_path / "w.wcodec").stat().st_size == pytest.approx((tmp_path / "m.wcodec").stat().st_size, rel=0.01)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.wcodec", "w.wcodec"]


def test_sequential(llama, tmp_path):
    """Blocks see what encoded ones before them make: the first is encoded as in any walk, later ones are not."""
    from wcodec.calibrating import walk_folder

    rules = ["*embed*=lossless"]
    reports = []
    for sequential in (False, True):
        with walk_folder(llama, text=llama / "text.txt", scratch=tmp_path, sequential=sequential) as walk:
            reports.append(digests(wcodec.encode(llama, tmp_path / str(sequential), recipe=STEP, rules=rules, calibration=walk)))
    same = {name for name, digest in reports[0].items() if reports[1][name] == digest}
    changed = reports[0].keys() - same
    assert not any(".0." in name for name in changed) and {name.split(".")[2] for name in changed if "layers" in name} == {"1", "2"}
    assert "lm_head.weight" in changed


def test_bounded(llama, tmp_path):
    """Between two parts of a walk no weights are in memory; in a part, those of one block."""
    from wcodec.calibrating import walk_folder

    with walk_folder(llama, text=llama / "text.txt", scratch=tmp_path) as walk:
        model, names = walk._model, list(load_file(llama / "model.safetensors"))
        there = []
        hook = model.model.layers[1].register_forward_hook(
            lambda *_: there.append({name for name, its in model.named_parameters() if not its.is_meta})
        )
        parts = []
        for part in walk.parts(names):
            parts.append(part)
            assert all(its.is_meta for its in model.parameters())
        hook.remove()
    assert sorted(name for part in parts for name in part) == sorted(names) and parts[-1] == ["lm_head.weight"] and len(parts) == 5
    assert {frozenset(its) for its in there if any("layers" in name for name in its)} == {frozenset(parts[2])}


def test_gradients(llama, tmp_path):
    """What errors cost the outputs of a block is known inside it alone, and divides the bytes of its matrices."""
    from wcodec.calibrating import walk_folder

    names = list(load_file(llama / "model.safetensors"))
    with walk_folder(llama, text=llama / "text.txt", scratch=tmp_path) as walk:
        known = [{name for name in names if walk.cost(name)} for _ in walk.parts(names)]
        assert walk.cost(names[0]) is None
    assert [len(its) for its in known] == [0, 7, 7, 7, 0] and not known[1] & known[2]
    sizes = []
    for gradients in (False, True):
        with walk_folder(llama, text=llama / "text.txt", scratch=tmp_path, gradients=gradients) as walk:
            report = wcodec.encode(llama, tmp_path / str(gradients), bpw=6, effort="fast", calibration=walk)
        assert 5.6 < report.bpw <= 6
        sizes.append({row.name: row.size for row in report.tensors if not row.lossless})
    ratios = [sizes[1][name] / sizes[0][name] for name in sizes[0] if "layers.1" in name]
    assert min(ratios) < 0.95 and max(ratios) > 1.05


def test_command(llama, tmp_path, capsys):
    """Shards that cut through blocks keep to a target together, in the order of the source."""
    tensors = load_file(llama / "model.safetensors")
    source, names, where = tmp_path / "model", list(tensors), {}
    source.mkdir()
    (source / "config.json").write_bytes((llama / "config.json").read_bytes())
    for i in range(2):
        part = {name: tensors[name] for name in names[i::2]}
        save_file(part, source / f"model-0000{i + 1}-of-00002.safetensors", {"format": "pt"})
        where |= dict.fromkeys(part, f"model-0000{i + 1}-of-00002.safetensors")
    (source / index_name("model", ".safetensors")).write_text(json.dumps({"weight_map": where}))
    options = ["--effort", "fast", "--bpw", "6", "--calibrate", str(llama / "text.txt"), "--json"]
    assert main(["encode", str(source), "-o", str(tmp_path / "out"), *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert 5.7 < report["bpw"] <= 6 and not report["lossless"]
    assert main(["verify", "--deep", str(tmp_path / "out"), "--json"]) == 0
    assert main(["decode", str(tmp_path / "out"), "-o", str(tmp_path / "back")]) == 0
    for file in sorted(source.glob("*.safetensors")):
        assert list(load_file(tmp_path / "back" / file.name)) == list(load_file(file))
    assert not list(tmp_path.glob(".wcodec-*"))
    assert wcodec.encode(source, tmp_path / "plain", effort="fast", bpw=6).bpw != report["bpw"]


def test_refused(llama, tmp_path):
    """Checkpoints under other names are not walked along."""
    from wcodec.calibrating import walk_folder

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_bytes((llama / "config.json").read_bytes())
    tensors = load_file(llama / "model.safetensors")
    save_file({f"x.{name}": its for name, its in tensors.items()}, tmp_path / "other" / "model.safetensors")
    with pytest.raises(EncodeError, match="names must be"):
        walk_folder(tmp_path / "other", text=llama / "text.txt")


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_other_models(kind, tmp_path):
    """Blocks that return tuples or take masks, and layers that lie the other way round."""
    from wcodec.calibrating import walk_folder

    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=256, n_positions=32, n_embd=32, n_layer=2, n_head=2)
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.BertConfig(
            vocab_size=256, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, max_position_embeddings=32
        )
        model = transformers.BertModel(config)
    model.save_pretrained(tmp_path / "m")
    np.savez(tmp_path / "x.npz", input_ids=np.arange(60).reshape(3, 20), attention_mask=np.arange(60).reshape(3, 20) % 20 < 15)
    with walk_folder(tmp_path / "m", tensors=tmp_path / "x.npz", scratch=tmp_path) as walk:
        report = wcodec.encode(tmp_path / "m", recipe=STEP, calibration=walk)
    plain = wcodec.encode(tmp_path / "m", tmp_path / "plain", recipe=STEP)
    changed = {name for name, digest in digests(plain).items() if digests(report)[name] != digest}
    assert not report.lossless and len({name.split(".")[2] for name in changed if ".h." in name or ".layer." in name}) >= 2
