"""The guides' code runs, from top to bottom, as it stands."""

import re

import pytest
from battery import ROOT

from wcodec.codecs import CODECS

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
