"""wcodec verify."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wcodec.cli.errors import BAD, GOOD, UNTOLD, Failure, reporting
from wcodec.cli.options import Backend, Device, Jobs, Json, Kernels, Limit, NoProgress, limits
from wcodec.cli.progress import Bar
from wcodec.cli.text import counted, emit, human, say
from wcodec.errors import WcodecError

if TYPE_CHECKING:
    from wcodec.types import Limits

EXAMPLES = """\b
Examples:
  wcodec verify model.wcodec
  wcodec verify --deep encoded/ 'more/*.wcodec'
  wcodec verify --json *.wcodec | jq '.files[] | select(.error)'
"""

Verdict = dict[str, Any] | Failure


def run(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help=".wcodec files, folders or indexes of shards, or globs.", show_default=False)
    ],
    deep: Annotated[bool, typer.Option("--deep", help="Decode every tensor too, and compare its digest.")] = False,
    jobs: Jobs = None,
    backend: Kernels = Backend.auto,
    device: Device = "cpu",
    limit: Limit = None,
    json: Json = False,
    no_progress: NoProgress = False,
) -> None:
    """Check every stored byte; with --deep every tensor, too.

    Prints a line for each file and goes on after a bad one. The exit code is the worst of all: 1 if any file is damaged, else
    3 if any could not be checked, else 0.
    """
    verify = _Verify(deep, jobs or None, backend.value, device, limits(limit), not no_progress)
    found: list[Verdict] = []
    with reporting(None, json):
        for verdict in (verdict for pattern in files for verdict in verify.all_of(pattern)):
            found.append(verdict)
            if not json:
                _show(verdict)
        bad = [verdict for verdict in found if isinstance(verdict, Failure)]
        worst = min(bad, key=lambda failure: failure.code != BAD, default=None)
        if json:
            rows = [v.to_json() | {"good": False} if isinstance(v, Failure) else v for v in found]
            emit({"good": worst is None, "files": rows, **(worst.to_json() if worst else {})})
        elif len(found) > 1:
            _summarise(found)
    raise typer.Exit(GOOD if worst is None else worst.code)


@dataclass(frozen=True, slots=True)
class _Verify:
    deep: bool
    jobs: int | None
    backend: str
    device: str
    limits: Limits | None
    bar: bool

    def all_of(self, pattern: str) -> Iterator[Verdict]:
        """Check what a word of the command line stands for, file by file; an index comes after its shards."""
        paths = [pattern] if Path(pattern).exists() else sorted(glob(pattern, recursive=True)) or [pattern]  # noqa: PTH207
        for path in map(Path, paths):
            members = _attempt(path, partial(_members, path))
            if isinstance(members, Failure):
                yield members
                continue
            index, files = members
            whole = True
            for file in files:
                verdict: Verdict = _attempt(file, partial(self._file, file))
                whole = whole and not isinstance(verdict, Failure)
                yield verdict
            if index is not None and whole:
                yield _attempt(index, partial(_index, index))

    def _file(self, path: Path) -> dict[str, Any]:
        from wcodec.api.checks import verify

        with Bar(path.name, self.bar) as bar:
            where: dict[str, Any] = {"threads": self.jobs, "kernels": self.backend, "device": self.device}
            report = verify(path, deep=self.deep, limits=self.limits, progress=bar, **where)
        return {"good": True} | report.to_json()


def _attempt(path: Path, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except (WcodecError, OSError, MemoryError) as error:
        return Failure.of(error, path)


def _members(path: Path) -> tuple[Path | None, list[Path]]:
    """Return the index, if there is one, and the files of a path."""
    from wcodec.api.indexes import find
    from wcodec.container.shards import WCODEC, read_index, shards_of

    index = find(path, WCODEC)
    if index is None:
        return None, shards_of(path, WCODEC)
    return index, [index.parent / name for name in read_index(index, WCODEC).files]


def _index(path: Path) -> dict[str, Any]:
    """Check that an index and its shards, each good by itself, belong together."""
    from contextlib import ExitStack

    from wcodec.api.files import open_shards

    with ExitStack() as stack:
        found = open_shards(path, stack, threads=1, kernels="numpy")
        tensors = sum(len(opened.reader.names) for opened in found.values())
    return {"good": True, "path": str(path), "files": len(found), "tensors": tensors, "index": True}


def _show(verdict: Verdict) -> None:
    if isinstance(verdict, Failure):
        verdict.show(False)
    elif "index" in verdict:
        say(f"{verdict['path']}: good, {counted(verdict['files'], 'shard')}, {counted(verdict['tensors'], 'tensor')}")
    else:
        decoded = ", all decoded" if verdict["deep"] else ""
        say(f"{verdict['path']}: good, {counted(verdict['tensors'], 'tensor')}, {human(verdict['size'])}{decoded}")


def _summarise(found: list[Verdict]) -> None:
    codes = [verdict.code if isinstance(verdict, Failure) else GOOD for verdict in found]
    words = {GOOD: "good", BAD: "damaged", UNTOLD: "could not be checked"}
    counts = [f"{codes.count(code)} {word}" for code, word in words.items() if code in codes]
    say(f"{len(found)} files: {', '.join(counts)}")
