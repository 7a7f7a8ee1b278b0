"""joint-rank-k and mpo: groups by name, fused matrices, budgets, shards, and files that decode to the product of their factors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from battery import decoded, make_env, same_bits
from safetensors.numpy import save_file

import wcodec
from wcodec.codecs import check
from wcodec.codecs.base import stored_size
from wcodec.codecs.lossless import lossless
from wcodec.errors import EncodeError, RecipeError
from wcodec.recipes.groups import find_groups, split_fused
from wcodec.recipes.joint_rank_k import JointRankK
from wcodec.recipes.mpo import Mpo
from wcodec.types import Resource, Spec


class Model:
    """Tensors in memory; ``lent`` counts those read at the same time."""

    def __init__(self, files=None, **shapes):
        rng = np.random.default_rng(0)
        self.arrays = {}
        for name, shape in shapes.items():
            low = max(2, min(shape) // 4)
            w = rng.standard_normal((shape[0], low)) @ rng.standard_normal((low, shape[1])) + 0.1 * rng.standard_normal(shape)
            self.arrays[name] = w.astype(np.float32)
        self.names, self.files, self.lent, self.most = list(shapes), files or {}, 0, 0

    def spec(self, name):
        return Spec.of("F32", *self.arrays[name].shape)

    def file(self, name):
        return self.files.get(name, "")

    @contextmanager
    def read(self, name):
        self.lent += 1
        self.most = max(self.most, self.lent)
        yield self.arrays[name].reshape(-1).view(np.uint32)
        self.lent -= 1


def run(method, model, names=None, threads=1):
    """Sections of all tensors; None for one that stays lossless."""
    env = make_env()
    method.prepare(model.names if names is None else names, model, env)

    def encode(name):
        try:
            return method.encode(name, model.arrays[name].reshape(-1).view(np.uint32), model.spec(name), env)
        except EncodeError as error:
            return str(error)

    with ThreadPoolExecutor(threads) as pool:
        found = dict(zip(model.names, pool.map(encode, model.names), strict=True))
    for name, section in found.items():
        if not isinstance(section, str):
            check(section, model.spec(name), env)
    return found


def value(section, model, name):
    return decoded(section, model.spec(name), make_env()).view(np.float32).reshape(model.arrays[name].shape)


def relative(section, model, name):
    return np.linalg.norm(value(section, model, name) - model.arrays[name]) / np.linalg.norm(model.arrays[name])


LLAMA = {
    "l.0.self_attn.q_proj.weight": (64, 64), "l.0.self_attn.k_proj.weight": (16, 64), "l.0.self_attn.v_proj.weight": (16, 64),
    "l.0.self_attn.o_proj.weight": (64, 64), "l.0.mlp.gate_proj.weight": (150, 64), "l.0.mlp.up_proj.weight": (150, 64),
}  # fmt: skip

ARCHITECTURES = {
    "llama": (["l.{}.self_attn.q_proj.weight", "l.{}.self_attn.k_proj.weight"], ["l.{}.self_attn.v_proj.weight"]),
    "gates": (["l.{}.mlp.gate_proj.weight", "l.{}.mlp.up_proj.weight"], ["l.{}.mlp.down_proj.weight"]),
    "bert": (["e.{}.attention.self.query.weight", "e.{}.attention.self.key.weight"], ["e.{}.attention.self.value.weight"]),
    "distilbert": (["t.{}.attention.q_lin.weight", "t.{}.attention.k_lin.weight"], ["t.{}.attention.v_lin.weight"]),
    "t5": (["b.{}.layer.0.SelfAttention.q.weight", "b.{}.layer.0.SelfAttention.k.weight"], ["b.{}.layer.1.EncDecAttention.q.weight"]),
    "mixtral": (["m.{}.experts.1.w1.weight", "m.{}.experts.1.w3.weight"], ["m.{}.experts.1.w2.weight"]),
    "flux": (["b.{}.attn.to_q.weight", "b.{}.attn.to_k.weight"], ["b.{}.attn2.to_q.weight", "b.{}.attn2.to_k.weight"]),
    "whisper": (["d.{}.self_attn.q_proj.weight", "d.{}.self_attn.k_proj.weight"], ["d.{}.encoder_attn.q_proj.weight"]),
    "phi": (["l.{}.mlp.gate_up_proj.weight"], ["l.{}.mlp.down_proj.weight", "l.{}.self_attn.q_proj.lora_A.weight"]),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_groups_of_the_usual_architectures(name):
    joined, alone = ARCHITECTURES[name]
    names = [text.format(layer) for layer in (0, 11) for text in [*alone, *reversed(joined)]]
    groups, odd = find_groups(names, None)
    assert [group.names for group in groups] == [tuple(text.format(layer) for text in joined) for layer in (0, 11)]
    assert not odd


def test_groups_of_a_recipe():
    names = ["a.0.left.w", "a.0.right.w", "a.1.left.w", "a.1.right.w", "b"]
    groups, _ = find_groups(names, [["left", "right"]])
    assert [group.names for group in groups] == [("a.0.left.w", "a.0.right.w"), ("a.1.left.w", "a.1.right.w")]
    assert find_groups(names, [["le.*"]])[0][0].names == ("a.0.left.w",)
    for bad, text in ((["left", "middle"], "without middle"), (["left", "["], "regular"), (["(left|right)"], "same member")):
        with pytest.raises(RecipeError, match=text):
            find_groups(names, [bad])
    with pytest.raises(RecipeError, match="two groups"):
        find_groups(names, [["left", "right"], ["left"]])
    assert find_groups(["x.query.weight"], None) == ([], {"x.query.weight without key: not joined": ("x.query.weight",)})


def test_splits_of_fused_matrices():
    assert split_fused("h.0.attn.c_attn.weight", 64, 192, None).lengths == (128, 64)
    assert split_fused("h.0.attn.c_attn.weight", 64, 192, None).columns
    assert split_fused("h.0.attn.c_attn.weight", 80, 64, None).lengths == (72, 8)  # multi-query, a Linear
    assert split_fused("layers.0.self_attn.qkv_proj.weight", 96, 64, None).lengths == (80, 16)  # grouped queries
    assert split_fused("layers.0.self_attn.in_proj_weight", 192, 64, None).lengths == (128, 64)
    heads = split_fused("h.0.self_attention.query_key_value.weight", 192, 64, 4)
    assert heads.lengths == (32, 16) * 4 and heads.joined == (True, False) * 4
    falcon = split_fused("h.0.query_key_value.weight", 64 + 2 * 16, 64, 2)  # two keys of 8 rows, four queries each
    assert falcon.lengths == (40, 8) * 2
    assert split_fused("h.0.query_key_value.weight", 192, 64, 1).lengths == (128, 64)
    assert split_fused("h.0.mlp.c_fc.weight", 192, 64, None) is None
    for name, shape in (("query_key_value", (192, 64)), ("qkv", (64, 64)), ("qkv", (65, 64)), ("c_attn", (64, 65))):
        with pytest.raises(RecipeError):
            split_fused(f"a.{name}.weight", *shape, None)


@pytest.mark.parametrize("threads", [1, 3])
def test_members_share_one_right_factor(threads):
    model = Model(**LLAMA)
    found = run(JointRankK(keep=0.6), model, threads=threads)
    q, k, v, o, gate, up = (found[name] for name in model.names)
    assert isinstance(q.parts["right"], Resource) and q.parts["right"] is k.parts["right"] and gate.parts["right"] is up.parts["right"]
    assert q.params == k.params == {"rank": int(0.6 * 64 * 80 // (64 + 80))} and gate.params["rank"] == int(0.6 * 64 * 300 // 364)
    assert "no other matrix" in v and "no other matrix" in o
    assert model.most == 1
    stacked = np.vstack([model.arrays[name] for name in model.names[:2]]).astype(np.float64)
    s = np.linalg.svd(stacked, compute_uv=False)
    error = np.vstack([value(found[name], model, name) for name in model.names[:2]]) - stacked
    assert np.isclose(np.linalg.norm(error), np.sqrt((s[q.params["rank"] :] ** 2).sum()), rtol=1e-3)


def test_joint_is_better_than_separate_at_equal_size():
    model = Model(**{"a.query.weight": (96, 96), "a.key.weight": (96, 96)})
    base = np.random.default_rng(1).standard_normal((30, 96)).astype(np.float32)
    for name in model.names:
        model.arrays[name] = (np.random.default_rng(len(name)).standard_normal((96, 30)).astype(np.float32) @ base) + model.arrays[name]
    joint, separate = run(JointRankK(keep=0.5), model), run(JointRankK(keep=0.5, groups=[], separate=True), model)
    assert sum(relative(joint[n], model, n) for n in model.names) < sum(relative(separate[n], model, n) for n in model.names)


@pytest.mark.parametrize(("option", "least"), [({"energy": 0.99}, 0.99), ({"error": 0.1}, 0.99), ({"rank": 12}, 0)])
def test_ranks(option, least):
    model = Model(**LLAMA)
    found = run(JointRankK(**option), model)
    kept = 1 - sum(relative(found[n], model, n) ** 2 * np.sum(model.arrays[n] ** 2) for n in model.names[4:]) / sum(
        np.sum(model.arrays[n] ** 2) for n in model.names[4:]
    )
    assert kept >= least - 1e-5 and ("rank" not in option or found[model.names[0]].params == {"rank": 12})
    for bad in ({"keep": 0.5, "rank": 3}, {"scope": "layer"}, {"scope": "model", "energy": 0.9}):
        with pytest.raises(RecipeError):
            JointRankK(**bad)


def test_one_budget_for_the_model():
    model = Model(**LLAMA)
    for name in model.names[4:]:
        model.arrays[name] *= np.float32(0.3)
    found = run(JointRankK(keep=0.5, scope="model"), model)
    total = sum(array.size for array in model.arrays.values())
    ranks = [found[model.names[i]].params["rank"] for i in (0, 4)]
    spent = ranks[0] * 144 + ranks[1] * 364 + 16 * 64 + 64 * 64
    assert 0.5 * total - 364 <= spent <= 0.5 * total
    assert ranks[0] >= 20 > ranks[1] >= 16  # what stands out everywhere comes first
    with pytest.raises(RecipeError, match="leaves nothing"):
        run(JointRankK(keep=0.02, scope="model"), model)


def test_fused_by_rows_and_heads():
    model = Model(**{"a.qkv_proj.weight": (96, 64), "b.query_key_value.weight": (192, 64)})
    found = run(JointRankK(keep=0.6, heads=4), model)
    for name, values in (("a.qkv_proj.weight", np.r_[80:96]), ("b.query_key_value.weight", np.r_[32:48, 80:96, 128:144, 176:192])):
        section, x = found[name], model.arrays[name]
        got = value(section, model, name)
        assert section.codec == "concat" and same_bits(got[values].view(np.uint32).ravel(), x[values].view(np.uint32).ravel())
        joined = np.setdiff1d(np.arange(x.shape[0]), values)
        s = np.linalg.svd(x[joined].astype(np.float64), compute_uv=False)
        rank = section.parts["0"].params["rank"]
        assert np.isclose(np.linalg.norm(got[joined] - x[joined]), np.sqrt((s[rank:] ** 2).sum()), rtol=1e-3)
        assert len({id(part.parts["right"]) for part in section.parts.values() if part.codec == "lowrank"}) == 1


def test_fused_by_columns():
    model = Model(**{"h.0.attn.c_attn.weight": (64, 192)})
    section = run(JointRankK(keep=0.6), model)["h.0.attn.c_attn.weight"]
    x, got = model.arrays["h.0.attn.c_attn.weight"], value(section, model, "h.0.attn.c_attn.weight")
    assert section.codec == "sparse" and same_bits(got[:, 128:].copy().view(np.uint32).ravel(), x[:, 128:].copy().view(np.uint32).ravel())
    s = np.linalg.svd(x[:, :128].astype(np.float64), compute_uv=False)
    rank = section.parts["fill"].params["rank"]
    assert np.isclose(np.linalg.norm(got - x), np.sqrt((s[rank:] ** 2).sum()), rtol=1e-3)


def test_members_that_are_missing_or_elsewhere():
    model = Model(**LLAMA)
    with pytest.raises(RecipeError, match="part of the group"):
        run(JointRankK(), model, names=[name for name in model.names if "k_proj" not in name])
    lone = Model(**{"a.query.weight": (64, 64)})
    method = JointRankK()
    assert "no other" in run(method, lone)["a.query.weight"] and method.notes == ["a.query.weight without key: not joined"]
    odd = Model(**{"a.query.weight": (64, 64), "a.key.weight": (64, 32)})
    with pytest.raises(RecipeError, match="different sizes"):
        run(JointRankK(), odd)
    apart = Model(files={"l.0.self_attn.k_proj.weight": "second"}, **LLAMA)
    method = JointRankK(rank=5)
    found = run(method, apart)
    assert method.notes == ["l.0.self_attn.*.weight: members in different shards are coded apart"]
    assert not isinstance(found["l.0.self_attn.q_proj.weight"].parts["right"], Resource)


def test_joining_values_warns():
    model = Model(**LLAMA)
    method = JointRankK(groups=[["q_proj", "k_proj", "v_proj"]], keep=0.5)
    with pytest.warns(RuntimeWarning, match="values"):
        found = run(method, model)
    assert found["l.0.self_attn.v_proj.weight"].codec == "lowrank" and method.notes


def test_what_does_not_profit_stays_lossless():
    model = Model(**LLAMA)
    found = run(JointRankK(rank=80), model)
    assert all(isinstance(section, str) for section in found.values()) and "not smaller" in found[model.names[0]]
    model.arrays["l.0.self_attn.k_proj.weight"][3, 3] = np.inf
    found = run(JointRankK(rank=3), model)
    assert "finite" in found["l.0.self_attn.q_proj.weight"] and found["l.0.mlp.gate_proj.weight"].codec == "lowrank"


def test_factors_through_another_codec():
    model = Model(**LLAMA)
    plain, coded = run(JointRankK(rank=16), model), run(JointRankK(rank=16, factors={"codec": "uniform", "bits": 8}), model)
    for name in model.names[:2]:
        assert abs(relative(coded[name], model, name) - relative(plain[name], model, name)) < 0.01
        assert stored_size(coded[name]) < 0.5 * stored_size(plain[name])


def test_covariance_weighs_inputs():
    model = Model(**{"a.query.weight": (64, 64), "a.key.weight": (64, 64)})
    scale = np.exp(np.random.default_rng(2).standard_normal(64) * 2)
    covariance = np.diag(scale**2)
    plain = run(JointRankK(rank=8), model)
    weighed = run(JointRankK(rank=8, covariance=dict.fromkeys(model.names, covariance)), model)

    def error(found):
        return sum(np.linalg.norm((value(found[n], model, n) - model.arrays[n]) * scale) ** 2 for n in model.names)

    assert error(weighed) < 0.7 * error(plain)
    wrong = run(JointRankK(rank=8, covariance=dict.fromkeys(model.names, np.eye(3))), model)
    assert all("covariance" in section for section in wrong.values())


def test_mpo():
    model = Model(**{"a.weight": (64, 80)})
    x = model.arrays["a.weight"].reshape(-1).view(np.uint32)
    for options in ({"keep": 0.4}, {"bond": 10}, {"error": 0.5}, {"keep": 0.4, "sites": 2, "cores": {"codec": "uniform", "bits": 8}}):
        section = Mpo(**options).encode("a.weight", x, model.spec("a.weight"), make_env())
        check(section, model.spec("a.weight"), make_env())
        assert stored_size(section) < stored_size(lossless(x, model.spec("a.weight"), make_env()))
        assert relative(section, model, "a.weight") < 0.9 and ("error" not in options or relative(section, model, "a.weight") <= 0.5)
    with pytest.raises(EncodeError, match="not smaller"):
        Mpo(error=1e-7).encode("a.weight", x, model.spec("a.weight"), make_env())
    with pytest.raises(RecipeError):
        Mpo(bond=3, keep=0.5)


@pytest.mark.parametrize("recipe", ["joint-rank-k:keep=0.5", "joint-rank-k:rank=9,separate=true,factors={codec='uniform'}", "mpo:keep=0.5"])
def test_files(recipe, tmp_path):
    """The public way: encode, verify deeply, decode; two threads; norms and vectors stay lossless."""
    model = Model(**LLAMA)
    source = model.arrays | {"norm.weight": np.ones(64, np.float32), "l.0.self_attn.q_proj.bias": np.arange(64, dtype=np.float32)}
    save_file(source, tmp_path / "m.safetensors")
    report = wcodec.encode(tmp_path / "m.safetensors", recipe=recipe, threads=2)
    assert report.size < 0.9 * (tmp_path / "m.safetensors").stat().st_size
    wcodec.verify(tmp_path / "m.wcodec", deep=True)
    with wcodec.safe_open(tmp_path / "m.wcodec", "np") as opened:
        for name, x in source.items():
            y = opened.get_tensor(name)
            assert y.shape == x.shape and np.linalg.norm(y - x) < np.linalg.norm(x)
            assert x.ndim == 2 or np.array_equal(x, y)
