"""A progress bar with rate and time left, on terminals only."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wcodec.cli.text import safe

if TYPE_CHECKING:
    import rich.progress

PATIENCE = 0.5
"""Seconds of work before a bar appears: what is done sooner needs none."""


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers draw no bars of its own."""
    try:
        from transformers.utils import logging as its
    except ImportError:  # what needs it will say so
        yield
        return
    logging: Any = its
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class Bar:
    """Called with (bytes done, bytes in all); draws on stderr and leaves nothing behind. Use as a context manager.

    unit: of what is counted where it is not bytes.
    """

    def __init__(self, what: str, wanted: bool = True, unit: str = "") -> None:
        self._what, self._wanted, self._unit = safe(what), wanted and sys.stderr.isatty(), unit
        self._began = time.monotonic()
        self._drawn: tuple[rich.progress.Progress, rich.progress.TaskID] | None = None

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn is not None:
            self._drawn[0].stop()

    def __call__(self, done: int, total: int) -> None:
        if not self._wanted:
            return
        if self._drawn is not None:
            self._drawn[0].update(self._drawn[1], completed=done, total=total)
        elif time.monotonic() - self._began >= PATIENCE:
            self._draw(done, total)

    def _draw(self, done: int, total: int) -> None:
        from rich import progress
        from rich.console import Console

        count = (progress.TextColumn(f"{{task.completed}}/{{task.total}} {self._unit}"),)
        columns = (
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            *(count if self._unit else (progress.DownloadColumn(), progress.TransferSpeedColumn())),
            progress.TimeRemainingColumn(compact=True),
        )
        bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
        self._drawn = bar, bar.add_task(self._what, total=total, completed=done)
        bar.start()
