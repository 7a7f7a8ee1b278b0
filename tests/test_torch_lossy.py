"""Lossy files in torch: ordinary tensors, the same bits that numpy gets, and recipes given to save_file."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import wcodec  # noqa: E402
import wcodec.numpy  # noqa: E402
import wcodec.torch  # noqa: E402
from wcodec.sections import sparse, tensortrain  # noqa: E402

RECIPES = {
    "uniform:bits=4": "uniform",
    "gwk:values=16": "codebook",
    "bin-quant:bins=9": "codebook",
    "pq:width=4,values=32": "codebook",
    "wfn": "codebook",
    "pruned:keep=0.2": "sparse",
    "n:m": "sparse",
    "gs:keep=0.4,banks=8": "sparse",
    "pruned:keep=0.3,values={codec='uniform',bits=8}": "sparse",
    "joint-rank-k:keep=0.5": "lowrank",
    "lowrank:rank=3,left={codec='uniform',bits=8}": "lowrank",
    "mpo:keep=0.5": "tensortrain",
    "sum:layers=[{codec='lowrank',rank=2},{codec='uniform',bits=4}]": "sum",
}
"""Recipes, and the codec that they give matrices."""
TOLERANT = ("lowrank", "tensortrain", "sum")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def bits(x) -> bytes:
    return x.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def network(dtype, rows: int = 48, cols: int = 64, seed: int = 0):
    """Queries and keys that share their input, and a bias that no recipe may touch."""
    generator = torch.Generator().manual_seed(seed)
    names = ("layers.0.q_proj", "layers.0.k_proj")
    found = {f"{name}.weight": (torch.randn(rows, cols, generator=generator) * 0.02).to(dtype) for name in names}
    return found | {"layers.0.q_proj.bias": torch.randn(rows, generator=generator).to(dtype)}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
def test_ordinary_tensors(recipe, dtype, tmp_path):
    tensors, path = network(dtype), tmp_path / "m.wcodec"
    wcodec.torch.save_file(tensors, path, recipe=recipe)
    rows = {row.name: row for row in wcodec.inspect(path).tensors}
    assert rows["layers.0.q_proj.bias"].lossless
    loaded = wcodec.torch.load_file(path)
    assert list(loaded) == list(wcodec.numpy.load_file(path)) and set(loaded) == set(tensors)
    for name, x in loaded.items():
        assert (x.dtype, x.shape, x.device) == (dtype, tensors[name].shape, tensors[name].device)
        assert x.is_contiguous() and x.layout is torch.strided and not x.requires_grad
        if name.endswith("weight"):
            assert rows[name].codec.startswith(RECIPES[recipe]) and not rows[name].lossless
            assert 0 < torch.dist(x.float(), tensors[name].float()) < torch.linalg.norm(tensors[name].float())
        else:
            assert bits(x) == bits(tensors[name])
    before = {name: bits(x) for name, x in loaded.items()}
    first = next(iter(loaded))
    loaded[first].add_(1)  # memory of its own, which can be written
    assert all(bits(x) == before[name] for name, x in loaded.items() if name != first)


@pytest.mark.parametrize("recipe", RECIPES)
@settings(max_examples=8, deadline=None)
@given(dtype=st.sampled_from(FLOATS), rows=st.integers(16, 70), cols=st.integers(64, 90), seed=st.integers(0, 2**20))
def test_faces_agree(recipe, dtype, rows, cols, seed):
    data = wcodec.torch.save(network(dtype, rows, cols, seed), recipe=recipe)
    in_torch, in_numpy = wcodec.torch.load(data), wcodec.numpy.load(data)
    with wcodec.safe_open(data, "pt") as opened:
        for name, x in in_torch.items():
            if RECIPES[recipe] in TOLERANT and x.dim() > 1:
                close = {"rtol": 0.02, "atol": 1e-5}
                torch.testing.assert_close(x.float(), torch.from_numpy(in_numpy[name].astype(np.float32)), **close)
                torch.testing.assert_close(opened.get_slice(name)[3:9].float(), x[3:9].float(), **close)
            else:
                assert bits(x) == in_numpy[name].tobytes() == bits(opened.get_tensor(name))
                assert bits(opened.get_slice(name)[3:9]) == bits(x[3:9])


def test_modules(tmp_path):
    """A module loads a file of several recipes, shared codebooks and tied weights, and trains on."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"first": torch.nn.Linear(64, 40), "second": torch.nn.Linear(40, 64), "head": torch.nn.Linear(64, 40)})
    model["head"].weight = model["first"].weight
    path = tmp_path / "m.wcodec"
    wcodec.torch.save_model(model, path, recipe="wfn", rules=["second.weight=pruned:keep=0.5"])
    assert {row.name: row.codec.partition("(")[0] for row in wcodec.inspect(path).tensors if row.name.endswith("weight")} == {
        "first.weight": "codebook",
        "second.weight": "sparse",
        "head.weight": "alias",
    }
    wcodec.torch.load_model(model, path)
    state = wcodec.torch.load_file(path)
    assert state["head.weight"].data_ptr() == state["first.weight"].data_ptr()
    assert all(bits(x.detach()) == bits(state[name]) for name, x in model.state_dict().items())
    assert int((model["second"].weight == 0).sum()) == 64 * 40 // 2
    model["second"](model["first"](torch.ones(1, 64))).sum().backward()
    assert model["first"].weight.grad.shape == (40, 64)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_lossless_sparse(dtype, tmp_path):
    """A pruned tensor keeps its zeros, and every bit of what is left."""
    x = network(dtype)["layers.0.q_proj.weight"]
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.9] = 0
    wcodec.torch.save_file({"w": x}, tmp_path / "m.wcodec", recipe="pruned")
    assert bits(wcodec.torch.load_file(tmp_path / "m.wcodec")["w"]) == bits(x)


def test_written_sections(tmp_path):
    """What a method builds itself loads as well."""
    path, rng = tmp_path / "m.wcodec", np.random.default_rng(0)
    cores = [rng.standard_normal(shape).astype(np.float32) for shape in ((1, 4, 4, 3), (3, 4, 4, 1))]
    mask = rng.random((16, 16)) < 0.2
    values = rng.standard_normal(int(mask.sum())).astype(np.float32)
    with wcodec.Writer(path) as writer:
        writer.add("train", tensortrain(cores, (16, 16)))
        writer.add("sparse", sparse(mask, values))
    loaded = wcodec.torch.load_file(path)
    want = np.einsum("oir,rpj->opij", cores[0][0], cores[1][..., 0]).reshape(16, 16)
    torch.testing.assert_close(loaded["train"], torch.from_numpy(want))
    assert np.array_equal(loaded["sparse"].numpy()[mask], values) and not loaded["sparse"].numpy()[~mask].any()
