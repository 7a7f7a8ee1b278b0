"""The codecs that are compared, each behind the same few calls. A worker process holds exactly one of them.

wcodec always works on files, container, checksums and index included.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.peers import Openzl, OpenzlHuffman, OpenzlPlanes, Pcodec, Zipnn, Zstd
from benchmarks.side import Side, Timer, Timing, timed


class Wcodec(Side):
    how: ClassVar[dict[str, Any]] = {}
    """Options of encode."""

    def __init__(self, path: Path, threads: int, scratch: Path) -> None:
        super().__init__(path, threads, scratch)
        import wcodec

        # a missing or outdated native library must not pass for a slow codec; WCODEC_BACKEND=numpy measures numpy on purpose
        warnings.filterwarnings("error", message="wcodec runs on numpy")
        self.wcodec = wcodec
        self.out: dict[str, Any] = {}
        self.file: Any = None

    def store(self) -> None:
        if not self.stored.exists():
            self.encode()

    def size(self) -> int:
        self.encode()
        back = self.stored.with_suffix(".back")
        self.wcodec.decode(self.stored, back, threads=self.threads, force=True)
        same = back.read_bytes() == self.layout.path.read_bytes()
        back.unlink()
        if not same:
            raise AssertionError("wcodec: the file did not come back")
        return self.stored.stat().st_size

    def encode(self, readback: bool = False) -> Timing:
        source, target = self.layout.path, self.stored
        call = lambda: self.wcodec.encode(source, target, **self.how, threads=self.threads, readback=readback, force=True)  # noqa: E731
        return timed(call)[0]

    def decode(self) -> Timing:
        """Decode every tensor of an open file, whose bytes are in memory as those of the peers are, into arrays that were filled before."""
        if not self.out:
            self.store()
            self.file = self.wcodec.safe_open(self.stored.read_bytes(), framework="np", threads=self.threads)
            self.out = self.file.get_tensors()
        timer = Timer()
        self.file.get_tensors(out=self.out)
        return timer.stop()

    def load(self, framework: str) -> dict[str, Any]:
        if framework == "pt":
            import wcodec.torch as face
        else:
            import wcodec.numpy as face  # type: ignore[no-redef]
        return face.load_file(self.stored, threads=self.threads)


class FourBits(Wcodec):
    """wcodec at 4 bits per weight, by the defaults."""

    how: ClassVar[dict[str, Any]] = {"bpw": 4}


class Archive(Wcodec):
    """wcodec, lossless, by its slower method."""

    how: ClassVar[dict[str, Any]] = {"recipe": "archive"}


class Gguf(Side):
    """GGUF by ggml's own quantisers, decoded to float32 by its own kernels; ``ggml`` is their library.

    Matrices of 1,024 elements or more are blocks, of the type that llama.cpp takes where rows are too short; the rest is float32.
    """

    threaded = False
    ggml: ClassVar[str | None] = os.environ.get("WCODEC_BENCH_GGML")
    kind = "Q8_0"

    def __init__(self, path: Path, threads: int, scratch: Path) -> None:
        super().__init__(path, threads, scratch)
        from benchmarks.ggml import Ggml

        if self.ggml is None:
            raise ModuleNotFoundError(name="ggml")
        self.library = Ggml(self.ggml)

    def store(self) -> None:
        import numpy as np
        from safetensors.numpy import load_file

        from benchmarks import ggml

        tensors = {}
        for name, x in load_file(self.layout.path).items():
            if x.dtype.kind == "f":
                kind = self.library.fitting(self.kind, x.shape[-1]) if x.ndim == 2 and x.size >= 1024 else "F32"
                x = x.astype(np.float32)
                blocks = np.frombuffer(x.tobytes(), np.uint8) if kind == "F32" else self.library.quantise(x, kind)
                tensors[name] = x.shape, kind, blocks
        ggml.write(self.stored, tensors, self.layout.path.stem)

    def load(self, framework: str) -> dict[str, Any]:
        from benchmarks import ggml

        tensors: dict[str, Any] = ggml.read(self.stored, self.library)
        if framework == "pt":
            import torch

            tensors = {name: torch.from_numpy(x) for name, x in tensors.items()}
        return tensors


class GgufQ4K(Gguf):
    kind = "Q4_K"


class Safetensors(Side):
    """No compression at all: what loading costs without it."""

    def __init__(self, path: Path, threads: int, scratch: Path) -> None:
        super().__init__(path, threads, scratch)
        import safetensors  # noqa: F401

    def store(self) -> None:
        pass

    def load(self, framework: str) -> dict[str, Any]:
        if framework == "pt":
            from safetensors.torch import load_file
        else:
            from safetensors.numpy import load_file  # type: ignore[assignment]
        return load_file(self.layout.path)


SIDES: dict[str, type[Side]] = {
    "wcodec": Wcodec,
    "wcodec-4": FourBits,
    "wcodec-archive": Archive,
    "gguf-q8_0": Gguf,
    "gguf-q4_k": GgufQ4K,
    "zipnn": Zipnn,
    "openzl": Openzl,
    "openzl-huffman": OpenzlHuffman,
    "openzl-planes": OpenzlPlanes,
    "pcodec": Pcodec,
    "zstd": Zstd,
    "safetensors": Safetensors,
}
"""Every codec by the name that the tables use."""

NEEDS = {"openzl-huffman": "openzl", "openzl-planes": "openzl", "zstd": "zstandard"}
"""The package of a codec, where it is not named like the codec."""
