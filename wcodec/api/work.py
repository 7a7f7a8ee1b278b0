"""Workers, windows and environments: how the api spreads decoding over threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from wcodec.backends import get_backend
from wcodec.codecs import CODECS, Env, unit
from wcodec.container.reader import ContainerReader
from wcodec.types import Limits, Section, Spec

T = TypeVar("T")
R = TypeVar("R")

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


def ordered(pool: ThreadPoolExecutor | None, work: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Map in order with at most ``ahead`` results in flight; without a pool, one after the other."""
    if pool is None:
        yield from map(work, items)
        return
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        for future in waiting:
            if not future.cancelled():
                future.exception()


def make_pool(threads: int) -> ThreadPoolExecutor | None:
    """Make a pool of workers; none for a single thread."""
    return ThreadPoolExecutor(threads, "wcodec") if threads > 1 else None
