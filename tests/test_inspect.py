"""What inspect tells of sections, recounts and accounts, against counts made here from the decoded tensors."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import wcodec
from wcodec import sections as s
from wcodec.api.statistics import Network, Values, entropy, value_keys
from wcodec.cli import main
from wcodec.errors import Corrupt, LimitExceeded
from wcodec.types import DTYPES, Limits

NAMES = [f"l.{i}.self_attn.{part}_proj.weight" for i in range(2) for part in "qk"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    rng = np.random.default_rng(0)
    arrays = {name: (rng.standard_normal((64, 96)) * 0.05).astype(np.float32) for name in NAMES}
    save_file(arrays | {"norm.weight": np.ones(96, np.float32)}, path)
    return path


def encoded(model, recipe: str, stats: bool = True, **options):
    target = model.parent / "x.wcodec"
    wcodec.encode(model, target, recipe=recipe, force=True)
    with wcodec.safe_open(target, "np") as file:
        arrays = {name: file.get_tensor(name) for name in NAMES}
    return wcodec.inspect(target, stats=stats, **options), arrays


def bits(values) -> float:
    counts = np.array(list(Counter(np.asarray(values).reshape(-1).tolist()).values()))
    return float(-(counts / counts.sum() * np.log2(counts / counts.sum())).sum())


def test_codebooks(model):
    report, arrays = encoded(model, "wfn:delta=0.1")
    every = np.concatenate([x.reshape(-1) for x in arrays.values()])
    assert report.network.unique == len(np.unique(every)) and report.network.weights == every.size
    assert report.network.entropy == pytest.approx(bits(every)) and report.network.sections == 4
    for name, x in arrays.items():
        (its,) = report.facts[name]
        assert its["unique"] == its["used"] == len(np.unique(x)) and its["entropy"] == pytest.approx(bits(x))
        assert its["centroids"] >= its["used"] and its["shared"]["centroids"] == 0 and its["sizes"]["centroids"] == 0
    first, *_ = report.resources
    assert (first.used, first.shape, first.index) == (4, [its["centroids"]], 0) and first.size > 0
    fixed, ideal = report.accounts
    assert ideal.counted == pytest.approx(every.size * bits(every) / 8) and ideal.dense == 4 * every.size
    assert fixed.counted == every.size * math.ceil(math.log2(its["centroids"])) / 8 + 4 * its["centroids"]
    assert fixed.stored == sum(row.size for row in report.tensors if row.name in NAMES) + sum(row.size for row in report.resources)
    assert report.size > ideal.stored >= ideal.counted


@pytest.mark.parametrize("width", [2, 5, 7])
def test_codebooks_of_blocks(model, width):
    report, arrays = encoded(model, f"pq:width={width},values=16")
    for name, x in arrays.items():
        (its,) = report.facts[name]
        assert its["width"] == width and its["unique"] == len(np.unique(x)) and its["entropy"] == pytest.approx(bits(x))
    assert report.network.weights == sum(x.size for x in arrays.values())
    assert len(report.accounts) == 1  # weights times entropy says nothing of blocks
    size = its["centroids"] * width * 4 + 64 * math.ceil(96 / width) * math.ceil(math.log2(its["centroids"])) / 8
    assert report.accounts[0].counted == 4 * size


PATTERNS = [("n:m:n=1,m=4", "1:4 along axis 1"), ("gs:banks=8,keep=0.3", "GS(8, 8)"), ("pruned:keep=0.2", "unstructured")]


@pytest.mark.parametrize("recipe, pattern", PATTERNS)
def test_sparse(model, recipe, pattern):
    report, arrays = encoded(model, recipe)
    for row in report.tensors[:4]:
        (its,) = report.facts[row.name]
        kept = np.count_nonzero(arrays[row.name])
        assert its["kept"] == kept and its["fraction"] == kept / arrays[row.name].size and its["pattern"] == pattern
        assert its["sizes"]["mask"] > 0 and sum(its["sizes"].values()) == row.size
    (account,) = report.accounts
    assert account.counted == 4 * sum(np.count_nonzero(x) for x in arrays.values()) and account.ratio == account.dense / account.counted


def test_sparse_of_few_bits_with_a_seed(model):
    """Forty times, as Prune Once for All counts: a tenth of the weights of 8 bits, and nothing for positions."""
    report, _ = encoded(model, "pruned:keep=0.1,values={codec='uniform',bits=8,per='tensor'}")
    assert report.accounts[0].ratio == pytest.approx(40, rel=0.01) and [its["path"] for its in report.facts[NAMES[0]]] == [[], ["values"]]
    report, _ = encoded(model, "dropback:keep=0.1,fill={'*'={codec='philox',seed=1,scale=0.1}}")
    (its,) = report.facts[NAMES[0]]
    assert its["fill"] == "philox" and its["sizes"]["fill"] == 0 and report.accounts[0].ratio == pytest.approx(10, rel=0.01)


def test_factors(model):
    report, _ = encoded(model, "joint-rank-k:rank=8", stats=False)
    for name in NAMES:
        its = report.facts[name][0]
        assert (its["rank"], its["own"], its["parameters"], its["dense"]) == (8, 8 * 64, 8 * (64 + 96), 64 * 96)
    assert report.accounts[0].counted == 4 * (4 * 8 * 64 + 2 * 8 * 96) and [row.used for row in report.resources] == [2, 2]
    report, _ = encoded(model, "joint-rank-k:rank=8,factors={codec='uniform',bits=8}")
    assert report.accounts[0].counted == pytest.approx(4 * 8 * 64 + 2 * 8 * 96)
    assert {its["codec"] for its in report.to_json()["resources"][0]["facts"]} == {"uniform"}
    report, _ = encoded(model, "mpo:bond=4", stats=False)
    its = report.facts[NAMES[0]][0]
    assert its["bonds"] == [4, 4] and its["own"] == its["parameters"] == report.accounts[0].counted / 4 / 4


def test_steps_and_layers(model):
    report, arrays = encoded(model, "uniform:bits=4,per=tensor")
    for name, x in arrays.items():
        (its,) = report.facts[name]
        assert its["levels"] <= 15 and its["used"] == len(np.unique(x)) and its["entropy"] == pytest.approx(bits(x))
    assert report.accounts[0].ratio == 8
    report, _ = encoded(model, "sum")
    (row, its) = report.tensors[0], report.facts[report.tensors[0].name]
    assert its[0]["layers"] == 2 and sum(its[0]["sizes"].values()) == row.size and [fact["path"] for fact in its] == [[], ["0"], ["1"]]


def test_nothing_is_decoded_unless_asked(model, monkeypatch):
    encoded(model, "wfn")

    def never(*_):
        raise AssertionError

    for codec in wcodec.codecs.CODECS.values():
        monkeypatch.setattr(type(codec), "decode", never)
        monkeypatch.setattr(type(codec), "positions", never)
    report = wcodec.inspect(model.parent / "x.wcodec")
    assert report.network is None and "used" not in report.facts[NAMES[0]][0] and len(report.accounts) == 1


def test_chosen_tensors_and_aliases(tmp_path):
    with wcodec.Writer(tmp_path / "x.wcodec") as file:
        book = s.share(np.array([1, 2, 3], np.float32))
        lonely = s.share(np.array([4, 5], np.float32))
        file.add("a", s.codebook(np.zeros((4, 4)), book))
        file.add("b", s.codebook(np.ones((4, 4)), book))
        file.add("c", s.codebook(np.ones((4, 4)), lonely))
        file.alias("d", "a")
    report = wcodec.inspect(tmp_path / "x.wcodec", stats=True)
    assert [row.used for row in report.resources] == [2, 1] and report.network.unique == 3 and report.network.weights == 48
    assert report.accounts[0].tensors == 3 and "d" not in report.facts
    some = wcodec.inspect(tmp_path / "x.wcodec", include=["c"])
    assert [(row.index, row.used) for row in some.resources] == [(1, 1)] and list(some.facts) == ["c"]


def test_bad_files(tmp_path):
    """A recount breaks where decoding would, under the caller's limits, and says where."""
    with pytest.raises(Corrupt):
        with wcodec.Writer(tmp_path / "x.wcodec") as file:
            file.add("w", s.codebook(np.full((4, 4), 9), np.arange(3, dtype=np.float32)))
    path = tmp_path / "y.wcodec"
    with wcodec.Writer(path) as file:
        file.add("w", s.codebook(np.zeros((400, 4)), np.arange(3, dtype=np.float32)))
    assert wcodec.inspect(path, limits=Limits(10)).facts["w"][0]["centroids"] == 3
    with pytest.raises(LimitExceeded, match="w: "):
        wcodec.inspect(path, stats=True, limits=Limits(10))


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "U8", "I32", "F8_E4M3", "C64"])
def test_values_of_every_dtype(dtype):
    rng = np.random.default_rng(1)
    size = DTYPES[dtype].bits // 8
    x = rng.integers(0, 256, 64 * size).astype(np.uint8).view(DTYPES[dtype].storage)
    kind, keys = value_keys(x, DTYPES[dtype])
    assert keys.size == 64 and kind == ("float" if dtype in ("F64", "F32", "F16", "BF16") else dtype)
    zeros = np.array([0.0, -0.0, np.nan, -np.nan, 1.5], np.float32).view(np.uint32)
    assert len(np.unique(value_keys(zeros, DTYPES["F32"])[1])) == 3


@given(st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=20), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_networks(lists):
    """Merged counts are those of all values together."""
    found = []
    for values in lists:
        x = np.array(values, np.float32)
        found.append(Values.of(*value_keys(x.view(np.uint32), DTYPES["F32"]), np.ones(x.size, np.int64)))
    every = [value for values in lists for value in values]
    network = Network.of(found)
    assert (network.weights, network.unique) == (len(every), len(set(every))) and network.entropy == pytest.approx(bits(every))
    assert Network.of([]).to_json() == {"sections": 0, "weights": 0, "unique": 0, "entropy": 0.0} and entropy(np.zeros(0, np.int64)) == 0


def test_command(model, capsys):
    encoded(model, "wfn")
    path = str(model.parent / "x.wcodec")
    assert main(["inspect", path]) == 0
    out = capsys.readouterr().out
    assert "resource 0" in out and "used by" in out and "centroids" in out and "paper accounting" in out and "whole file" in out
    assert "unique values" not in out
    assert main(["inspect", path, "--stats", "-j", "1"]) == 0
    out = capsys.readouterr().out
    assert "unique values" in out and "N · H" in out
    assert main(["inspect", path, "--stats", "--tree"]) == 0 and " values, " in capsys.readouterr().out
    assert main(["inspect", path, "--stats", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["network"]["unique"] > 3 and found["resources"][0]["used"] == 4 and len(found["accounting"]) == 2
    assert found["tensors"][0]["facts"][0]["used"] > 3
