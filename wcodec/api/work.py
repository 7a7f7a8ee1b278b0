"""Threads, windows and environments: into what the api cuts its work."""

from __future__ import annotations

import os
from collections.abc import Iterator

from wcodec.backends import get_backend
from wcodec.codecs import CODECS, Env, unit
from wcodec.container.reader import ContainerReader
from wcodec.types import Limits, Section, Spec

PIECE = 1 << 22
"""Storage elements that one task decodes, rounded to whole units of the section."""


def thread_count(threads: int | None) -> int:
    """Return the threads to use: as asked, else WCODEC_THREADS, else the cores this process may run on."""
    if threads is None:
        threads = int(os.environ.get("WCODEC_THREADS", 0)) or len(os.sched_getaffinity(0))
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return threads


def make_env(kernels: str = "auto", reader: ContainerReader | None = None, limits: Limits | None = None) -> Env:
    """Make the environment that codecs work in, for a file or for encoding."""
    if reader is None:
        return Env(get_backend(kernels), CODECS)
    return Env(get_backend(kernels), CODECS, reader.resource, (limits or Limits()).bound(reader.size))


def pieces(section: Section, spec: Spec, env: Env, size: int = PIECE) -> Iterator[tuple[int, int]]:
    """Yield windows (start, stop) of storage elements that decode apart without waste."""
    if spec.count <= size:
        yield 0, spec.count
        return
    step = unit(section, spec, env)
    step *= max(1, size // step)
    for start in range(0, spec.count, step):
        yield start, min(start + step, spec.count)
