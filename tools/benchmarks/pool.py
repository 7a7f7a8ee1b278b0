"""Starts the worker processes, talks to them, and takes interleaved measurements of several of them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks import sides
from benchmarks.report import Report

REUSED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
}
"""Lets glibc hand out memory that the process has used before, so that codecs without an ``out=`` decode into touched memory too."""
BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Bound the threads of whichever BLAS numpy and torch came with."""


class WorkerError(Exception):
    """A worker could not do what it was asked; the message says why."""


class Missing(WorkerError):
    """The codec is not installed."""


@dataclass(frozen=True)
class Setup:
    """What all parts share: where files lie, which interpreter has the peers, how often to repeat."""

    files: tuple[Path, ...]
    scratch: Path
    disk: Path
    peers_python: str
    repetitions: int
    threads: tuple[int, ...]
    checkpoint: int
    peers: tuple[str, ...]
    cpu: bool = False
    """Show CPU seconds of all threads instead of seconds on the wall: for a machine that others use too."""
    long: bool = False
    """Take minutes for what big matrices need."""


class Worker:
    """One child process with one codec and one file."""

    def __init__(self, setup: Setup, codec: str, path: Path, *, threads: int = 1, warm: bool = True, preload: Iterable[str] = ()) -> None:
        self.codec, self.threads = codec, threads
        own = codec in ("none", "safetensors", "zstd") or codec.startswith(("wcodec", "gguf"))
        job = {"codec": codec, "path": str(path), "threads": threads, "scratch": str(setup.scratch), "preload": list(preload)}
        command = [sys.executable if own else setup.peers_python, str(Path(__file__).with_name("worker.py")), json.dumps(job)]
        environment = dict(os.environ) | (REUSED if warm else {}) | dict.fromkeys(BLAS, str(threads))
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True, env=environment)
        self.closed = False
        hello = self._answer()
        if "missing" in hello:
            self._stop()
            raise Missing(f"{sides.NEEDS.get(codec, codec)} not installed" if hello["missing"] != "numpy" else "numpy not installed")
        self.pid = int(hello["ready"])

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        self.send(do, **arguments)
        return self._answer()

    def send(self, do: str, **arguments: Any) -> None:
        """Ask without waiting; `answer` takes the reply."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do} | arguments) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines()
            self._stop()
            raise WorkerError(f"{self.codec}: the worker ended: {said[-1] if said else 'no message'}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.codec}: {answer['error']}")
        return answer

    def _stop(self) -> None:
        if not self.closed:
            self.closed = True
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout, self.errors):
                assert pipe is not None
                pipe.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.closed:
            with suppress(WorkerError, OSError):
                self.ask("close")
            self._stop()


def start(
    stack: ExitStack, setup: Setup, report: Report, path: Path, codecs: Iterable[str], **options: Any
) -> dict[tuple[str, int], Worker]:
    """Workers for every codec and every number of threads that it can use; what cannot be started is noted in the report."""
    workers = {}
    for codec in codecs:
        for threads in setup.threads if sides.SIDES[codec].threaded else (1,):
            try:
                workers[codec, threads] = stack.enter_context(Worker(setup, codec, path, threads=threads, **options))
            except WorkerError as error:
                report.absent(codec, str(error))
                break
    return workers


Step = tuple[str, Worker, str, dict[str, Any]]
"""A label, the worker, what to ask of it, and the arguments."""


def interleave(steps: list[Step], setup: Setup, report: Report) -> dict[str, dict[str, float]]:
    """Ask A B C, A B C, … and return for each label the median of each number answered, all labels of a worker that failed left out.

    The first round warms up and is dropped.
    """
    taken: dict[str, dict[str, list[float]]] = {label: {} for label, *_ in steps}
    failed: set[int] = set()
    for round_ in range(setup.repetitions + 1):
        for label, worker, do, arguments in steps:
            if id(worker) in failed:
                continue
            try:
                answer = worker.ask(do, **arguments)
            except WorkerError as error:
                report.absent(worker.codec, str(error))
                failed.add(id(worker))
                continue
            if round_:
                for key, value in answer.items():
                    taken[label].setdefault(key, []).append(float(value))
    good = [label for label, worker, *_ in steps if id(worker) not in failed]
    medians = {label: {key: statistics.median(values) for key, values in taken[label].items()} for label in good}
    if setup.cpu:
        for numbers in medians.values():
            numbers["seconds"] = numbers["cpu"]
            if "compress" in numbers:
                numbers["compress"] = numbers["compress cpu"]
    return medians
