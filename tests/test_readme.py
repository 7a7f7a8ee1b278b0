"""The README's code runs, from top to bottom, as it stands."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from wcodec.cli import main

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    weights = {f"layer.{i}.weight": rng.standard_normal((64, 96)).astype(np.float32) for i in range(2)}
    save_file(weights | {"ids": np.arange(10)}, tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_code(folder, capsys):
    text = README.read_text()
    commands = [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines() if line.startswith("wcodec ")]
    assert len(commands) >= 5
    for command in commands:
        assert main(shlex.split(command, comments=True)[1:]) == 0, command
    assert (folder / "again.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert "bits per weight" in capsys.readouterr().out
