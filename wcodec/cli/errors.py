"""Errors as the command line shows them: one line on stderr, or one JSON object, and the exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from wcodec.cli.text import emit, safe
from wcodec.errors import BackendUnavailable, Corrupt, NotAContainer, RecipeError, Truncated, WcodecError

GOOD, BAD, USAGE, UNTOLD = 0, 1, 2, 3
"""Good or same; damaged or different; wrong usage; cannot tell."""
INTERRUPTED, PIPE = 130, 141
"""What a shell reports for SIGINT and SIGPIPE."""
_TARGET_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong. path: the file concerned. rule: of the spec. code: the exit code."""

    message: str
    rule: str | None
    path: str | None
    code: int

    @classmethod
    def of(cls, error: BaseException, path: Path | None, *, target: Path | None = None, other: Path | None = None) -> Failure:
        """Describe an error; path, target and other as in ``reporting``."""
        if isinstance(error, RecipeError | BackendUnavailable):
            return cls(str(error), None, None, _code(error, None))
        if isinstance(error, WcodecError):
            where, inner = _split(error.at, [place for place in (path, other) if place is not None])
            message = f"{inner}: {error.message}" if inner else error.message
            if isinstance(error, Truncated) and "cut-off" not in message:
                message += ": a cut-off download or copy"
            return cls(message, error.rule, where, _code(error, where))
        if isinstance(error, OSError):
            place = target if error.errno in _TARGET_ERRORS and target else path
            where = _named(error.filename) or (None if place is None else str(place))
            return cls(_reason(error), None, where, UNTOLD)
        return cls("not enough memory", None, None if path is None else str(path), UNTOLD)

    def line(self) -> str:
        """Return ``wcodec: PATH: what is wrong [RULE]``."""
        where = f"{self.path}: " if self.path is not None else ""
        rule = f" [{self.rule}]" if self.rule else ""
        return safe(f"wcodec: {where}{self.message}{rule}")

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"error": self.message, "rule": self.rule, "path": self.path}

    def show(self, as_json: bool) -> None:
        """Print the line to stderr, or the JSON object to stdout."""
        if as_json:
            try:
                emit(self.to_json())
                sys.stdout.flush()
                return
            except OSError:
                silence()
        print(self.line(), file=sys.stderr)


@contextmanager
def reporting(path: Path | None, as_json: bool = False, *, target: Path | None = None, other: Path | None = None) -> Iterator[None]:
    """Turn what a command may raise into its error line and exit code.

    path: what the command reads. other: what it reads, too. target: where it writes.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
        raise typer.Exit(PIPE) from None
    except (WcodecError, OSError, MemoryError) as error:
        failure = Failure.of(error, path, target=target, other=other)
        failure.show(as_json)
        raise typer.Exit(failure.code) from None
    except KeyboardInterrupt:
        Failure("interrupted", None, None, INTERRUPTED).show(as_json)
        raise typer.Exit(INTERRUPTED) from None


def silence() -> None:
    """Send the rest of stdout nowhere: its reader has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _split(at: str | None, paths: Sequence[Path]) -> tuple[str | None, str | None]:
    """Split where an error happened into the file and the place in it."""
    if not at or not paths:
        return (str(paths[0]) if paths else None), at
    for base in map(str, paths):
        if at == base or at.startswith(f"{base}: "):
            return base, at.removeprefix(base).removeprefix(": ") or None
    first, _, rest = at.partition(": ")
    # A shard of the folder or index that was given.
    if Path(first).is_file():
        return first, rest or None
    return str(paths[0]), at


def _code(error: WcodecError, where: str | None) -> int:
    if isinstance(error, RecipeError):
        return USAGE
    if isinstance(error, NotAContainer) and where is not None and Path(where).is_dir():
        return UNTOLD
    return BAD if isinstance(error, Corrupt | NotAContainer | Truncated) else UNTOLD


def _named(name: Any) -> str | None:
    """Return the file of an OSError as text; of the writers' temporary files, their folder."""
    if not isinstance(name, str | bytes | os.PathLike):
        return None
    path = Path(os.fsdecode(name))
    hidden = path.name.startswith(".wcodec-") and path.suffix == ".tmp"
    return str(path.parent if hidden else path)


def _reason(error: OSError) -> str:
    text = error.strerror or str(error) or type(error).__name__
    if isinstance(error, FileExistsError) and "folder or a device" not in text:
        return "exists already; --force replaces it"
    return text[:1].lower() + text[1:]
