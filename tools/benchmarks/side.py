"""What all codecs that are compared have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import layout

clock = time.perf_counter
Timing = dict[str, float]


class Timer:
    """Seconds on the wall and of the processor, all threads together, from its making to `stop`."""

    def __init__(self) -> None:
        self.wall, self.cpu = clock(), time.process_time()

    def stop(self) -> Timing:
        return {"seconds": clock() - self.wall, "cpu": time.process_time() - self.cpu}


def timed(call: Callable[[], Any]) -> tuple[Timing, Any]:
    timer = Timer()
    value = call()
    return timer.stop(), value


class Side:
    """One codec on one file with a fixed number of threads."""

    threaded = True

    def __init__(self, path: Path, threads: int, scratch: Path) -> None:
        self.layout = layout.read(path)
        self.threads = threads
        self.scratch = scratch
        self.stored = scratch / f"{path.stem}.{type(self).__name__.lower()}.{os.getpid()}"

    def size(self) -> int:
        """Encode, check that decoding gives the same bytes back, and return the bytes of the whole file."""
        raise NotImplementedError

    def encode(self, readback: bool = False) -> Timing:
        raise NotImplementedError

    def decode(self) -> Timing:
        raise NotImplementedError

    def load(self, framework: str) -> dict[str, Any]:
        """Tensors by name from the encoded file, for use inside a fresh process."""
        raise NotImplementedError

    def store(self) -> None:
        """Write the encoded file that `load` reads."""
        raise NotImplementedError

    def close(self) -> None:
        self.stored.unlink(missing_ok=True)
