"""The peers among the codecs that are compared.

A peer works on the data of a file (its safetensors header, stored as it is, is counted in every size) as one buffer in memory, which is
the best case for all of them: no cost per tensor, no container. Bytes that a typed peer cannot take (a tail shorter than its element)
are counted raw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from benchmarks import layout
from benchmarks.side import Side, Timer, Timing, timed


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
