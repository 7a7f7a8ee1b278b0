"""Tables, targets and the stamp that heads every output."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PACKAGES = ("wcodec", "numpy", "torch", "safetensors", "zstandard", "zipnn", "openzl", "pcodec")


@dataclass(frozen=True)
class Check:
    """One target of the project and what was measured."""

    what: str
    target: str
    measured: str
    passed: bool


@dataclass
class Report:
    """Collects what the parts print, for the terminal and for ``--json``."""

    checks: list[Check] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Codecs that could not be started, and why."""

    def absent(self, codec: str, why: str) -> None:
        self.missing[codec] = why

    def table(self, part: str, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> None:
        print(f"\n## {title}")
        if note:
            print(note)
        print_table(columns, rows)
        self.rows += [{"part": part, "table": title} | dict(zip(columns, row, strict=True)) for row in rows]

    def at_least(self, what: str, measured: float, target: float, unit: str = "x") -> None:
        self._check(what, f">= {target:g} {unit}", f"{measured:.2f} {unit}", measured >= target)

    def at_most(self, what: str, measured: float, target: float, unit: str, digits: int = 1) -> None:
        self._check(what, f"<= {target:.{digits}f} {unit}", f"{measured:.{digits}f} {unit}", measured <= target)

    def _check(self, what: str, target: str, measured: str, passed: bool) -> None:
        self.checks.append(Check(what, target, measured, passed))

    def show_checks(self, since: int = 0, title: str = "targets") -> None:
        if len(self.checks) > since:
            print(f"\n## {title}")
            rows = [(one.what, one.target, one.measured, "PASS" if one.passed else "short") for one in self.checks[since:]]
            print_table(("target", "asked", "measured", ""), rows)

    def document(self, stamp: dict[str, Any]) -> dict[str, Any]:
        return {"stamp": stamp, "missing": self.missing, "checks": [asdict(check) for check in self.checks], "rows": self.rows}


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns aligned, numbers to the right; readable as Markdown too."""
    texts = [[cell if isinstance(cell, str) else f"{cell:,}" if isinstance(cell, int) else f"{cell:.3f}" for cell in row] for row in rows]
    widths = [max(len(column), *(len(row[place]) for row in texts), 1) for place, column in enumerate(columns)]
    right = [all(not isinstance(row[place], str) or row[place][:1].isdigit() for row in rows) for place in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        parts = [cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in zip(cells, widths, right, strict=True)]
        return "| " + " | ".join(parts) + " |"

    print(line(columns))
    print("|" + "|".join("-" * (width + 1) + (":" if to_right else "-") for width, to_right in zip(widths, right, strict=True)) + "|")
    for row in texts:
        print(line(row))


def rate(size: int, seconds: float) -> str:
    """MB/s of original data."""
    return f"{size / seconds / 1e6:,.0f}"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return f"{found.get('model name', platform.machine())} (family {found.get('cpu family', '?')}, model {found.get('model', '?')})"


def versions() -> dict[str, str]:
    """Installed versions of what is compared, in this interpreter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def versions_in(python: str) -> dict[str, str]:
    """The same in another interpreter."""
    code = "import json, sys; sys.path.insert(0, sys.argv[1]); from benchmarks import report; print(json.dumps(report.versions()))"
    folder = str(Path(__file__).parent.parent)
    done = subprocess.run([python, "-c", code, folder], capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}


def kernels() -> str:
    """Which of wcodec's backends would run here, and with which instructions."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from wcodec.backends import get_backend

            backend = get_backend()
    except Exception as error:
        return f"none: {error}"
    return " ".join([backend.name, getattr(backend, "isa", "")]).strip()


def stamp(peers_python: str, threads: Sequence[int]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": list(threads),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "wcodec kernels": kernels(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "versions": versions(),
    }
    if peers_python != sys.executable:
        result["peer versions"] = versions_in(peers_python)
    return result


def show_stamp(values: dict[str, Any]) -> None:
    for key, value in values.items():
        text = ", ".join(f"{name} {version}" for name, version in value.items()) if isinstance(value, dict) else value
        print(f"{key}: {text}")
