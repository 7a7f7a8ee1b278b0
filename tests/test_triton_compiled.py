"""Kernels compiled ahead of time, for GPUs that are not here: what they take is recorded in tools/results/kernels.md."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton")

ROOT = Path(__file__).parent.parent
TABLE = (ROOT / "tools/results/kernels.md").read_text()
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.splitlines() if line.startswith("|")][2:]
recorded = pytest.mark.skipif(f"Triton {triton.__version__}:" not in TABLE, reason="the table is of another version of Triton")


def test_figures() -> None:
    assert {target for _, target, *_ in ROWS} == {"sm_80", "sm_90", "sm_100", "gfx942"}
    assert all(int(spills) == 0 for _, _, _, spills, *_ in ROWS)
    assert all(int(inexact) == 0 for *_, inexact in ROWS)
    plain = {target: (int(registers), int(loop)) for name, target, registers, _, _, _, loop, _ in ROWS if name == "rans decode, tokens"}
    for target, loop in (("sm_80", 117), ("sm_90", 115)):  # what a kernel for nothing else took
        assert plain[target][0] <= 40 and plain[target][1] <= 1.15 * loop


@recorded
def test_the_table_is_of_these_kernels() -> None:
    """Compile some kernels, and look for the names of all; ``python tools/kernels.py`` writes the table anew."""
    names = ["rans decode, joined 16 bits, rest", "rans encode, tokens", "quantise"]
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "tools/kernels.py", "--check", *names]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"these rows are new:\n{done.stdout}{done.stderr[-2000:]}"
