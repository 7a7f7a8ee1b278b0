"""One process for one codec and one file. Reads commands as JSON lines from standard input, answers with JSON lines.

The first line that it prints says whether it is ready. It is started by `pool.Worker`, never by hand.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import memory, sides
from benchmarks.side import Timer


class Memcpy:
    """Copies as many bytes as the decoded output has, into memory that was touched before."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self.copy = np.copyto
        self.source, self.target = np.ones(size, np.uint8), np.ones(size, np.uint8)

    def __call__(self) -> dict[str, float]:
        timer = Timer()
        self.copy(self.target, self.source)
        return timer.stop()


def in_child(call: Any) -> Any:
    """Run `call` in a forked copy of this process, so that it meets fresh memory but finished imports, and return what it returned."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            answer = call()
        except BaseException as error:  # the parent reports it
            answer = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(write, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"error": "the child process died"}


def touch(tensors: dict[str, Any]) -> int:
    """Read one byte of every page of every tensor, so that a loader that only maps a file pays for it as the others do."""
    import numpy as np

    total = 0
    for value in tensors.values():
        if not isinstance(value, np.ndarray):
            import torch

            value = value.reshape(-1).view(torch.uint8).numpy() if value.numel() else np.empty(0, np.uint8)
        elif value.size:
            value = value.reshape(-1).view(np.uint8)
        total += int(value[::4096].sum(dtype=np.int64)) if value.size else 0
    return total


class Server:
    """Answers the commands of one worker."""

    def __init__(self, codec: str, path: str, threads: int, scratch: str, preload: list[str]) -> None:
        for module in preload:
            __import__(module)
        self.path, self.threads = Path(path), threads
        self.side = None if codec == "none" else sides.SIDES[codec](self.path, threads, Path(scratch))
        self.copy: Memcpy | None = None

    def memcpy(self) -> dict[str, float]:
        if self.copy is None:
            self.copy = Memcpy(self.side.layout.data)
            self.copy()
        return self.copy()

    def size(self) -> dict[str, float]:
        return {"size": self.side.size()}

    def encode(self, readback: bool = False) -> dict[str, float]:
        return self.side.encode(readback)

    def decode(self) -> dict[str, float]:
        return self.side.decode()

    def store(self) -> dict[str, float]:
        """Write the encoded file in another process, so that this one keeps its memory as it was after its imports."""
        return in_child(lambda: self.side.store() or {})

    def load(self, framework: str) -> dict[str, float]:
        def run() -> dict[str, float]:
            before = memory.private(os.getpid()) if memory.KNOWN else 0
            timer = Timer()
            tensors = self.side.load(framework)
            touch(tensors)
            taken = timer.stop()
            return taken | ({"private": memory.private(os.getpid()) - before} if memory.KNOWN else {})

        return in_child(run)

    def generate(self, count: int, shape: list[int]) -> dict[str, float]:
        """Write `count` small tensors to the file through wcodec itself."""
        import numpy as np

        import wcodec.numpy

        random = np.random.default_rng(1)
        tensors = {f"layers.{index:04d}.weight": random.standard_normal(shape, np.float32) for index in range(count)}
        wcodec.numpy.save_file(tensors, self.path)
        return {"size": self.path.stat().st_size}

    def codecs(self, suffix: str, repetitions: int, cpu: bool) -> dict[str, Any]:
        """Measure every codec on the matrices of the file whose names end so."""
        from benchmarks import lines

        return lines.measure(self.path, suffix, repetitions, cpu)

    def convert(self, action: str, target: str, **options: Any) -> dict[str, float]:
        """Encode or decode file to file."""
        import wcodec

        timer = Timer()
        {"encode": wcodec.encode, "decode": wcodec.decode}[action](self.path, Path(target), threads=self.threads, force=True, **options)
        return timer.stop()

    def close(self) -> dict[str, float]:
        if self.side:
            self.side.close()
        return {}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not look like an answer

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        server = Server(**json.loads(sys.argv[1]))
    except ModuleNotFoundError as error:
        answer({"missing": error.name})
        return
    except Exception as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        return
    answer({"ready": os.getpid()})
    for line in sys.stdin:
        command = json.loads(line)
        name = command.pop("do")
        try:
            answer(getattr(server, name)(**command))
        except Exception as error:
            traceback.print_exc()
            answer({"error": f"{type(error).__name__}: {error}"})
        if name == "close":
            return


if __name__ == "__main__":
    main()
