"""The gate: makes or reuses ``.venv`` and runs every check that a change has to pass.

Steps: environment (package compiled and installed, test extras, the pinned CPU build of torch), ruff check, ruff format, mypy --strict,
the import contracts, the package without torch, the tests. All of them run even when one fails; the exit code is 0 only if none did.

    python3 tools/check.py                      # everything
    python3 tools/check.py --fast               # do not touch the environment (C sources are not recompiled)
    python3 tools/check.py --fast -- -k planes  # arguments after -- go to pytest
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import devenv
from devenv import Clock, Problem, say

WITHOUT_TORCH = """
import sys, tempfile, pathlib
import numpy as np
import wcodec, wcodec.numpy
assert not any(name == "torch" or name.startswith("torch.") for name in sys.modules), "wcodec brings torch in"
try:
    import torch
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("torch was to be hidden")
tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(1000, np.float16), "c": np.array(7, np.int64)}
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "x.wcodec"
    wcodec.numpy.save_file(tensors, path)
    back = wcodec.numpy.load_file(path)
    assert back.keys() == tensors.keys() and all(np.array_equal(back[name], value) for name, value in tensors.items())
    wcodec.decode(path, path.with_suffix(".safetensors"))
    wcodec.encode(path.with_suffix(".safetensors"), path, force=True)
print("works without torch:", wcodec.__file__)
"""


def environment(options: argparse.Namespace) -> None:
    devenv.ensure()
    for requirement in devenv.requirements("test"):
        if requirement.startswith("torch=="):
            devenv.install_torch(requirement, options.torch_index)
    devenv.install("test")
    devenv.check_torch()


def call(command: list[str], extra: Mapping[str, str] | None = None) -> bool:
    say(f"$ {' '.join(Path(part).name if part == command[0] else part for part in command)}")
    return subprocess.run(command, cwd=devenv.ROOT, env=dict(os.environ) | dict(extra or {}), check=False).returncode == 0


def without_torch() -> bool:
    """Run a round trip with a stand-in for torch on the path that cannot be imported."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "torch"
        package.mkdir()
        (package / "__init__.py").write_text("raise ModuleNotFoundError('hidden for this check', name='torch')\n")
        script = Path(folder) / "round_trip.py"
        script.write_text(WITHOUT_TORCH)
        return call([str(devenv.PYTHON), str(script)], {"PYTHONPATH": folder})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="leave the environment as it is")
    parser.add_argument("--torch-index", metavar="URL", help="package index that has the CPU build of torch, where pip's own has none")
    parser.add_argument("--workers", default="2", help="processes for pytest (default: %(default)s)")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest")
    options = parser.parse_args()

    clock = Clock()
    began = time.monotonic()
    try:
        if options.fast:
            if not devenv.PYTHON.exists():
                raise Problem(f"--fast needs {devenv.VENV.name}: run once without it")
        else:
            environment(options)
    except Problem as problem:
        say(f"check: {problem}")
        clock.step("environment", began, False)
        return 1
    clock.step("environment", began, True)

    # the slowest tests are named, and one that hangs shows where
    pytest = [devenv.tool("pytest"), "-n", options.workers, "--durations=5", "-o", "faulthandler_timeout=300"]
    checks = {
        "ruff check": lambda: call([devenv.tool("ruff"), "check", "."]),
        "ruff format": lambda: call([devenv.tool("ruff"), "format", "--check", "."]),
        "mypy": lambda: call([devenv.tool("mypy"), "--strict"]),
        "import contracts": lambda: call([devenv.tool("lint-imports")]),
        "without torch": without_torch,
        "pytest": lambda: call([*pytest, *options.pytest]),
    }
    for name, check in checks.items():
        began = time.monotonic()
        clock.step(name, began, check())
    failed = [name for name, _, good in clock.steps if not good]
    say(f"\n{len(clock.steps)} steps in {clock.total:.0f} s" + (f", failed: {', '.join(failed)}" if failed else ", all good"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
