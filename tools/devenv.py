"""The project's environment in ``.venv``, for quickstart.py and check.py. Standard library only."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BINARIES = VENV / ("Scripts" if os.name == "nt" else "bin")
SUFFIX = ".exe" if os.name == "nt" else ""
PYTHON = BINARIES / f"python{SUFFIX}"
BUILD_TOOLS = ("scikit-build-core>=0.10", "cmake>=3.20", "ninja>=1.10")
OLDEST = (3, 11)


class Problem(Exception):
    """Something that the person at the keyboard has to know or do; shown without a traceback."""


def tool(name: str) -> str:
    return str(BINARIES / f"{name}{SUFFIX}")


def say(text: str) -> None:
    print(text, flush=True)


def run(command: Sequence[str | Path], what: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a command whose output matters only when it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=dict(os.environ) | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        last = "\n".join(done.stdout.strip().splitlines()[-40:])
        raise Problem(f"{what} failed (exit code {done.returncode}):\n{last}")


def requirements(extra: str) -> list[str]:
    """What pyproject.toml lists under an extra."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return list(document["project"]["optional-dependencies"][extra])


def check_machine() -> None:
    """Fail early, and in words, when something that cannot be installed by pip is missing."""
    if sys.version_info < OLDEST:
        raise Problem(f"Python {'.'.join(map(str, OLDEST))} or newer is needed; this is {platform.python_version()} ({sys.executable})")
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            raise Problem(f"this Python has no module {module!r}; on Debian and Ubuntu: apt-get install python3-venv") from None
    named = os.environ.get("CC", "").split()
    candidates = named[:1] or ["cc", "gcc", "clang"]
    if os.name != "nt" and not any(shutil.which(candidate) for candidate in candidates):
        raise Problem(f"no C compiler found ({', '.join(candidates)}); on Debian and Ubuntu: apt-get install gcc libc6-dev")


def ensure() -> bool:
    """Make ``.venv`` if it is not there or does not work; return whether it was made now."""
    check_machine()
    if PYTHON.exists() and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
        return False
    say(f"making {VENV.name}")
    run([sys.executable, "-m", "venv", "--clear", VENV], "making the environment")
    return True


def pip(*arguments: str | Path, what: str) -> None:
    run([PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments], what)


def install(extra: str = "") -> None:
    """Install the package from this tree, editable, compiling its C sources; and the named extra.

    Python files are used where they lie. The C library is compiled under ``build/``, incrementally, each time that this is called.
    """
    pip("install", "--quiet", *BUILD_TOOLS, what="installing the build tools")
    target = f"{ROOT}[{extra}]" if extra else str(ROOT)
    pip("install", "--quiet", "--no-build-isolation", "--editable", target, what="installing the package")


def planned(requirement: str, index: str | None) -> dict[str, Any]:
    """The metadata of the release that pip would install."""
    command = [
        str(PYTHON),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--dry-run",
        "--no-deps",
        "--ignore-installed",
    ]
    command += ["--report", "-", requirement] + (["--index-url", index] if index else [])
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Problem(f"pip finds no {requirement}:\n{done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)["install"][0]["metadata"]
    return found


def cuda_of_torch() -> str | None:
    """The CUDA version that the installed torch was built for; "absent" when there is no torch."""
    code = "import torch; print(torch.__version__, torch.version.cuda)"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False, cwd=VENV)
    if done.returncode:
        return "absent"
    _version, cuda = done.stdout.split()
    return None if cuda == "None" else cuda


def install_torch(requirement: str, index: str | None = None) -> None:
    """Install the pinned torch as a CPU build; refuse before anything is downloaded when pip would take a CUDA build."""
    code = "import importlib.metadata as m; print(m.version('torch').split('+')[0])"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False)
    if done.stdout.strip() != requirement.partition("==")[2]:
        wanted = planned(requirement, index).get("requires_dist") or []
        if (
            any(line.startswith(("nvidia-", "cuda-")) for line in wanted)
            and platform.system() == "Linux"
            and platform.machine() == "x86_64"
        ):
            raise Problem(
                f"pip would install a CUDA build of {requirement}, several GB. Name an index that has the CPU build "
                "with --torch-index URL, or put its wheel into a folder and set PIP_FIND_LINKS to it"
            )
        pip("install", "--quiet", requirement, *(["--index-url", index] if index else []), what=f"installing {requirement}")
    check_torch()


def check_torch() -> None:
    cuda = cuda_of_torch()
    if cuda is not None:
        state = "is not importable" if cuda == "absent" else f"is a build for CUDA {cuda}"
        raise Problem(f"the torch in {VENV.name} {state}; the checks want the CPU build: remove {VENV.name} and run again")


class Clock:
    """Prints how long each step took and keeps the list."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float, bool]] = []
        self.began = time.monotonic()

    def step(self, name: str, began: float, good: bool) -> None:
        seconds = time.monotonic() - began
        self.steps.append((name, seconds, good))
        say(f"-- {name}: {'ok' if good else 'FAILED'} ({seconds:.1f} s)")

    @property
    def total(self) -> float:
        return time.monotonic() - self.began
