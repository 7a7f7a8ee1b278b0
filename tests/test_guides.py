"""The guides' code runs, from top to bottom, as it stands."""

import re
import shlex

import numpy as np
import pytest
from battery import ROOT
from safetensors.numpy import save_file

import wcodec
from wcodec.cli import main
from wcodec.codecs import CODECS
from wcodec.recipes import read_recipe

GUIDES = sorted((ROOT / "spec" / "guide").glob("*.md"))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_code(guide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known, names = dict(CODECS), {}
    try:
        for block in re.findall(r"```python\n(.*?)```", guide.read_text(), re.S):
            exec(compile(block, guide.name, "exec"), names)
    finally:
        CODECS.clear()
        CODECS.update(known)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_recipes(guide, tmp_path):
    """TOML blocks are recipes, which encode some of a model and warn of nothing."""
    rng = np.random.default_rng(0)
    names = ["l.0.q_proj.weight", "l.0.k_proj.weight", "l.0.mlp.up.weight", "embed.weight", "norm.weight", "conv"]
    shapes = [(64, 64), (64, 64), (96, 64), (99, 64), (64,), (8, 16, 3, 3)]
    source = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in zip(names, shapes, strict=True)}
    save_file(source, tmp_path / "m.safetensors")
    blocks = re.findall(r"```toml\n(.*?)```", guide.read_text(), re.S)
    assert len(blocks) >= 3 or guide.stem != "recipes"
    for i, block in enumerate(blocks):
        path = tmp_path / f"{i}.toml"
        path.write_text(block)
        assert len(read_recipe(path).rules) == block.count("[[rule]]")
        report = wcodec.encode(tmp_path / "m.safetensors", tmp_path / "m.wcodec", recipe=path, force=True)
        assert not report.lossless


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_commands(guide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"a.weight": np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)}, "model.safetensors")
    for block in re.findall(r"```bash\n(.*?)```", guide.read_text(), re.S):
        for command in block.splitlines():
            assert main([*shlex.split(command, comments=True)[1:], "--force"]) == 0, command
