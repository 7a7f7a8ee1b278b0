"""Models before and after encoding: the numbers against plain ones, and a tiny random Llama from the command line."""

import json
from math import exp

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import wcodec
from wcodec.cli import main
from wcodec.evaluation import compare, load_checkpoint


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "text.txt").write_text("How vexingly quick daft zebras jump! " * 6)
    np.savez(folder / "ids.npz", np.arange(40) * 7 % 256)
    return folder


def test_compare_counts_as_defined():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 30, 5)).astype(np.float32)
    targets = rng.integers(0, 5, 30)
    p, q = (np.exp(x.astype(np.float64)) / np.exp(x.astype(np.float64)).sum(1, keepdims=True) for x in (first, second))
    kl = (p * np.log(p / q)).sum(1)
    loss = -np.log(p[np.arange(30), targets])
    halves = [(first[:9], targets[:9]), (first[9:], targets[9:])]
    found = compare(halves, [(second[:9], None), (second[9:], None)])
    assert found.positions == 30 and found.kl.mean == pytest.approx(kl.mean()) and found.kl_median == pytest.approx(np.median(kl))
    assert found.kl_p99 == pytest.approx(np.quantile(kl, 0.99)) and found.kl.error == pytest.approx(kl.std(ddof=1) / 30**0.5)
    assert found.agreement.mean == pytest.approx((first.argmax(1) == second.argmax(1)).mean())
    before, after = found.perplexity
    assert before.mean == pytest.approx(exp(loss.mean())) and before.error == pytest.approx(exp(loss.mean()) * loss.std(ddof=1) / 30**0.5)
    assert found.change.mean == pytest.approx(np.log(after.mean / before.mean))
    assert json.loads(json.dumps(found.to_json()))["perplexity_before"]["mean"] == pytest.approx(before.mean)
    same = compare([(first, None)], [(first, None)])
    assert same.kl.mean == 0 and same.agreement.mean == 1 and same.perplexity is None


def test_answers_must_match():
    x = np.zeros((3, 4))
    with pytest.raises(wcodec.EncodeError, match="shapes"):
        compare([(x, None)], [(x[:2], None)])
    with pytest.raises(wcodec.EncodeError, match="nothing to compare"):
        compare([], [])


def test_callable(tmp_path):
    source = {"w": np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32), "b": np.zeros(32, np.float16)}
    save_file(source, tmp_path / "m.safetensors")
    wcodec.encode(tmp_path / "m.safetensors", bpw=5)
    inputs = np.random.default_rng(1).normal(size=(50, 64))

    def evaluate(weights):
        yield inputs @ weights["w"].T + weights["b"], None

    found = wcodec.quality(tmp_path / "m.safetensors", tmp_path / "m.wcodec", evaluate)
    assert found.positions == 50 and 0 < found.kl.mean < 1 and 0.5 < found.agreement.mean <= 1
    loaded = load_checkpoint(tmp_path / "m.safetensors")
    assert all(np.array_equal(loaded[name], array) and loaded[name].dtype == array.dtype for name, array in source.items())


def test_llama(llama, tmp_path, capsys):
    source = llama / "model.safetensors"
    wcodec.encode(source, tmp_path / "same.wcodec")
    wcodec.encode(source, tmp_path / "less.wcodec", max_error=0.1)
    assert "lm_head.weight" not in load_file(source)  # tied: the model makes it
    assert main(["quality", str(llama), str(tmp_path / "same.wcodec"), "--text", str(llama / "text.txt"), "--max-kl", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kl"]["mean"] == 0 and found["agreement"]["mean"] == 1 and found["good"] is True
    assert found["perplexity_before"] == found["perplexity_after"] and found["positions"] == 6 * 37 - 1
    less = ["quality", str(llama), str(tmp_path / "less.wcodec"), "--text", str(llama / "ids.npz"), "--context", "16"]
    assert main(less) == 0
    out = capsys.readouterr().out
    assert "perplexity" in out and "divergence" in out and "of 37 positions" in out
    assert main([*less, "--max-kl", "1e-9"]) == 1
    assert "above 1e-09" in capsys.readouterr().out


def test_refusals(llama, tmp_path, capsys):
    def refused(*words):
        code = main(["quality", *map(str, words)])
        return code, capsys.readouterr().err

    source, text = llama / "model.safetensors", llama / "text.txt"
    code, err = refused(tmp_path, source, "--text", text)
    assert code == 3 and "no config.json" in err
    np.savez(tmp_path / "far.npz", np.array([1, 999]))
    assert "the model knows 0 to 255" in refused(llama, source, "--text", tmp_path / "far.npz")[1]
    (tmp_path / "short.txt").write_text("a")
    assert "predicts nothing" in refused(llama, source, "--text", tmp_path / "short.txt")[1]
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    assert "do not fit" in refused(llama, tmp_path / "other.safetensors", "--text", text)[1]
