"""What it costs to open a file of many tensors, to import the package, and to start the command."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from benchmarks.pool import Setup, Worker, WorkerError
from benchmarks.report import Report

TENSORS, SHAPE = 1000, (64, 64)
FIRST = """
import sys, time
import wcodec.numpy
from wcodec import safe_open
began = time.perf_counter()
with safe_open(sys.argv[1], framework="np", threads=1) as file:
    file.get_tensor(sys.argv[2])
print(time.perf_counter() - began)
"""


def run(setup: Setup, report: Report) -> None:
    rows: list[list[str]] = []
    try:
        rows += open_many(setup, report)
    except WorkerError as error:
        report.absent("wcodec", str(error))
        rows.append(["open", str(error), ""])
    else:
        rows += imports(setup, report) + help_text(setup, report)
    report.table("open", "opening, importing, starting", ("what", "median", "slowest"), rows)


def milliseconds(values: list[float]) -> list[str]:
    return [f"{statistics.median(values) * 1000:.1f} ms", f"{max(values) * 1000:.1f} ms"]


def open_many(setup: Setup, report: Report) -> list[list[str]]:
    """Each time in a new interpreter that has imported what it needs, the file in page cache."""
    path = setup.scratch / "thousand.wcodec"
    with Worker(setup, "none", path, warm=False) as worker:
        size = worker.ask("generate", count=TENSORS, shape=SHAPE)["size"]
    names = (f"layers.{TENSORS // 2:04d}.weight", "layers.0000.weight")
    values = [float(fresh(FIRST, setup, path, names[turn % 2])) for turn in range(2 * setup.repetitions)]
    path.unlink()
    report.at_most(f"open {TENSORS} tensors and read one", statistics.median(values) * 1000, 10, "ms")
    return [[f"open {TENSORS} tensors ({size:,} bytes), read one of {SHAPE[0]} x {SHAPE[1]} F32", *milliseconds(values)]]


def fresh(code: str, setup: Setup, *arguments: str | Path) -> str:
    """What a program prints in an interpreter of its own, which keeps compiled modules as an installed package does."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=setup.scratch, env=env).stdout


def imports(setup: Setup, report: Report) -> list[list[str]]:
    """The time that the import statement itself takes in a fresh interpreter."""
    code = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"
    taken: dict[str, list[float]] = {"numpy": [], "wcodec": [], "wcodec.numpy": []}
    for turn in range(setup.repetitions + 1):
        for module, values in taken.items():
            printed = fresh(code.format(module), setup)
            if turn:
                values.append(float(printed))
    without = "import sys, wcodec; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", without], cwd=setup.scratch, check=False)
    ratio = statistics.median(taken["wcodec"]) / statistics.median(taken["numpy"])
    report.at_most("import wcodec / import numpy", ratio, 2.5, "x", 2)
    rows = [[f"import {module}", *milliseconds(values)] for module, values in taken.items()]
    return [*rows, ["import wcodec brings torch in", "yes" if done.returncode else "no", ""]]


def help_text(setup: Setup, report: Report) -> list[list[str]]:
    """The whole command, interpreter included."""
    command = Path(sysconfig.get_path("scripts")) / ("wcodec.exe" if os.name == "nt" else "wcodec")
    if not command.exists():
        return [["wcodec --help", "the command is not installed", ""]]
    values = []
    for turn in range(setup.repetitions + 1):
        began = time.perf_counter()
        done = subprocess.run([command, "--help"], capture_output=True, check=False, cwd=setup.scratch)
        if done.returncode:
            return [["wcodec --help", f"exit code {done.returncode}", ""]]
        if turn:
            values.append(time.perf_counter() - began)
    report.at_most("wcodec --help", statistics.median(values), 0.5, "s", 2)
    return [["wcodec --help", *milliseconds(values)]]
