"""Threads, windows and environments: into what the api cuts its work."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wcodec.backends import for_device, get_backend
from wcodec.codecs import CODECS, Env, unit
from wcodec.container.reader import ContainerReader
from wcodec.errors import BackendUnavailable
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


DEVICE = ("torch", "triton")
"""Kernels that work on tensors of a device."""


def make_env(kernels: str = "auto", reader: ContainerReader | None = None, limits: Limits | None = None, device: str = "cpu") -> Env:
    """Make the environment that codecs work in, for a file or for encoding; on a device where that, or kernels of one, is asked for.

    A device that cannot be used is told in a warning: then this is an environment on the cpu. Raises BackendUnavailable.
    """
    options: dict[str, Any] = {}
    if reader is not None:
        options = {"resource": reader.resource, "decoded": (limits or Limits()).bound(reader.size)}
    if kernels in DEVICE:
        return Env(get_backend(kernels, device), CODECS, near=Env(get_backend(), CODECS, **options), **options)
    near = Env(get_backend(kernels), CODECS, **options)
    if device == "cpu" or kernels != "auto":
        return near
    try:
        return Env(for_device(device), CODECS, near=near, **options)
    except BackendUnavailable as reason:
        warnings.warn(f"wcodec works on the cpu and copies, not on {device}: {reason.message}", RuntimeWarning, stacklevel=4)
        return near


def pieces(section: Section, spec: Spec, env: Env, size: int = PIECE) -> Iterator[tuple[int, int]]:
    """Yield windows (start, stop) of storage elements that decode apart without waste; a device decodes all together."""
    if spec.count <= size or env.near is not None:
        yield 0, spec.count
        return
    step = unit(section, spec, env)
    step *= max(1, size // step)
    for start in range(0, spec.count, step):
        yield start, min(start + step, spec.count)


@contextmanager
def together(env: Env, place: str) -> Iterator[None]:
    """Let what is decoded inside the block be done as one batch of a device, whose end raises what is wrong."""
    if env.near is None:
        yield
        return
    backend: Any = env.backend
    with backend.batch() as batch, batch.tape(place):
        yield
