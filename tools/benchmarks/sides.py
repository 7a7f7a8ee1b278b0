"""The codecs that are compared, each behind the same few calls. A worker process holds exactly one of them.

A peer works on the data of a file (its safetensors header, stored as it is, is counted in every size) as one buffer in memory, which is
the best case for all of them: no cost per tensor, no container. Bytes that a typed peer cannot take (a tail shorter than its element)
are counted raw. wcodec always works on files, container, checksums and index included.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

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


class Peer(Side):
    """A codec that turns one buffer into another."""

    element: ClassVar[dict[str, int]] = {"F32": 4, "BF16": 2, "F16": 2}

    def __init__(self, path: Path, threads: int, scratch: Path) -> None:
        super().__init__(path, threads, scratch)
        import numpy as np

        self.np = np
        self.form = self.layout.form
        usable = self.layout.data // 4 * 4
        self.data = np.fromfile(path, np.uint8, usable, offset=self.layout.header)
        self.tail = self.layout.data - usable
        self.blob: Any = None

    def prepare(self) -> Any:
        """What `compress` takes; made outside the clock."""
        return self.data

    def compress(self, data: Any) -> Any:
        raise NotImplementedError

    def decompress(self, blob: Any) -> Any:
        raise NotImplementedError

    def plain(self, blob: Any) -> Any:
        return blob

    def size(self) -> int:
        self.blob = self.plain(self.compress(self.prepare()))
        back = self.decompress(self.blob)
        flat = back.reshape(-1).view(self.np.uint8) if isinstance(back, self.np.ndarray) else self.np.frombuffer(back, self.np.uint8)
        if not self.np.array_equal(flat, self.data):
            raise AssertionError(f"{type(self).__name__}: the data did not come back")
        return len(self.blob) + self.layout.header + self.tail

    def encode(self, readback: bool = False) -> Timing:
        data = self.prepare()
        timer = Timer()
        blob = self.compress(data)
        alone = timer.stop()
        self.write(blob)
        return timer.stop() | {"compress": alone["seconds"], "compress cpu": alone["cpu"]}

    def write(self, blob: Any) -> None:
        with self.stored.open("wb") as file, self.layout.path.open("rb") as source:
            file.write(source.read(self.layout.header))
            file.write(blob)

    def store(self) -> None:
        self.write(self.plain(self.compress(self.prepare())))

    def decode(self) -> Timing:
        if self.blob is None:
            self.blob = self.plain(self.compress(self.prepare()))
        timing, value = timed(lambda: self.decompress(self.blob))
        del value
        return timing

    def load(self, framework: str) -> dict[str, Any]:
        with self.stored.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            tensors = layout.parse(file.read(length))
            buffer = self.decompress(file.read())
        return views(buffer, tensors, framework)


def views(buffer: Any, tensors: list[layout.Tensor], framework: str) -> dict[str, Any]:
    """Tensors that share one decompressed buffer: the cheapest way to build them. Those in the raw tail are left out."""
    end = len(buffer)
    inside = [tensor for tensor in tensors if tensor.size and tensor.start + tensor.size <= end]
    if framework == "np":
        import ml_dtypes
        import numpy as np

        kinds: dict[str, Any] = {"BF16": ml_dtypes.bfloat16, "BOOL": np.bool_}
        kind = {name: kinds.get(name) or np.dtype(name[0].lower() + str(width)) for name, width in layout.WIDTH.items()}
        return {
            one.name: np.frombuffer(buffer, kind[one.dtype], one.size // layout.WIDTH[one.dtype], one.start).reshape(one.shape)
            for one in inside
        }
    import torch

    names = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16", "BOOL": "bool", "U8": "uint8"}
    types = {name: getattr(torch, names.get(name, f"int{8 * width}")) for name, width in layout.WIDTH.items()}
    return {
        one.name: torch.frombuffer(buffer, dtype=types[one.dtype], count=one.size // layout.WIDTH[one.dtype], offset=one.start).reshape(
            one.shape
        )
        for one in inside
    }


class Zipnn(Peer):
    def __init__(self, path: Path, threads: int, scratch: Path) -> None:
        super().__init__(path, threads, scratch)
        import zipnn

        dtype = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}[self.form]
        self.codec = zipnn.ZipNN(input_format="byte", bytearray_dtype=dtype, threads=threads)

    def prepare(self) -> Any:
        return bytearray(self.data)  # zipnn reorders the buffer that it is given

    def compress(self, data: Any) -> Any:
        return self.codec.compress(data)

    def decompress(self, blob: Any) -> Any:
        return self.codec.decompress(blob)

    def plain(self, blob: Any) -> Any:
        return bytes(blob)


class Openzl(Peer):
    """OpenZL's graphs for floats: sign and fraction stored, exponents through FSE or Huffman, or all byte planes entropy-coded."""

    threaded = False
    graph = "fse"

    def __init__(self, path: Path, threads: int, scratch: Path) -> None:
        super().__init__(path, threads, scratch)
        import openzl.ext as ext

        self.ext = ext
        graphs, nodes = ext.graphs, ext.nodes
        self.compressor = ext.Compressor()
        self.compressor.set_parameter(ext.CParam.FormatVersion, ext.MAX_FORMAT_VERSION)
        split = {"F32": nodes.Float32Deconstruct, "BF16": nodes.BFloat16Deconstruct, "F16": nodes.Float16Deconstruct}[self.form]()
        exponents = {"fse": graphs.Fse, "huffman": graphs.Huffman, "planes": graphs.Entropy}[self.graph]()
        if self.graph == "planes" or self.form == "F16":  # stored as it is, F16's sign and fraction would fill all 16 bits
            planes = graphs.Huffman() if self.graph == "huffman" else graphs.Entropy()
            rest = nodes.TransposeSplit()(self.compressor, planes)
        else:
            rest = graphs.Store()
        self.compressor.select_starting_graph(split(self.compressor, rest, exponents))
        self.numbers = self.data.view(self.np.uint32 if self.form == "F32" else self.np.uint16)

    def compress(self, data: Any) -> Any:
        context = self.ext.CCtx()
        context.ref_compressor(self.compressor)
        context.set_parameter(self.ext.CParam.FormatVersion, self.ext.MAX_FORMAT_VERSION)
        return context.compress([self.ext.Input(self.ext.Type.Numeric, self.numbers)])

    def decompress(self, blob: Any) -> Any:
        return self.np.asarray(self.ext.DCtx().decompress(blob)[0].content.as_nparray())


class OpenzlHuffman(Openzl):
    graph = "huffman"


class OpenzlPlanes(Openzl):
    graph = "planes"


class Pcodec(Peer):
    threaded = False

    def __init__(self, path: Path, threads: int, scratch: Path) -> None:
        super().__init__(path, threads, scratch)
        from pcodec import ChunkConfig, standalone

        self.codec, self.config = standalone, ChunkConfig(compression_level=8)
        self.numbers = self.data.view({"F32": "f4", "BF16": "u2", "F16": "f2"}[self.form])

    def compress(self, data: Any) -> Any:
        return self.codec.simple_compress(self.numbers, self.config)

    def decompress(self, blob: Any) -> Any:
        return self.codec.simple_decompress(blob)


class Zstd(Peer):
    """zstd, level 3, on the bytes as they lie. Its decoder has one thread."""

    def __init__(self, path: Path, threads: int, scratch: Path) -> None:
        super().__init__(path, threads, scratch)
        import zstandard

        self.compressor = zstandard.ZstdCompressor(level=3, threads=threads if threads > 1 else 0)
        self.decompressor = zstandard.ZstdDecompressor()

    def compress(self, data: Any) -> Any:
        return self.compressor.compress(data)

    def decompress(self, blob: Any) -> Any:
        return self.decompressor.decompress(blob)


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
