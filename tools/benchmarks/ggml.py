"""GGUF's block formats through ggml's own quantisers, loaded from a shared library, and files of them.

The library is built from the sources in PyPI's llama-cpp-python sdist (MIT), in vendor/llama.cpp/ggml:

    gcc -O3 -march=native -fPIC -shared -D_GNU_SOURCE -DGGML_VERSION='"0"' -DGGML_COMMIT='"0"' -Iinclude -Isrc \\
        src/ggml.c src/ggml-quants.c src/ggml-threading.cpp src/ggml-alloc.c src/ggml-backend.cpp src/ggml-backend-meta.cpp \\
        -lstdc++ -lm -lpthread -o libggmlq.so
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

TYPES = {
    "F32": 0, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14,
    "IQ4_NL": 20, "IQ4_XS": 23,
}  # fmt: skip
SHORT = {"Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
"""What llama.cpp takes in place of a type whose blocks of 256 do not fit into a row."""
ALIGNMENT = 32
STRING = 8
"""The type of a text among the keys."""


class Parameters(ctypes.Structure):
    _fields_ = (("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("bare", ctypes.c_bool))


class Ggml:
    """The quantisers of a library."""

    def __init__(self, path: str | Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.ggml_init.restype = ctypes.c_void_p
        self.library.ggml_init.argtypes = [Parameters]
        self.library.ggml_init(Parameters(1 << 20, None, True))  # fills its table of float16
        self.library.ggml_quantize_chunk.restype = ctypes.c_size_t
        n, p = ctypes.c_int64, ctypes.c_void_p
        self.library.ggml_quantize_chunk.argtypes = [ctypes.c_int, p, p, n, n, n, p]
        self.library.ggml_type_size.restype = ctypes.c_size_t
        self.library.ggml_blck_size.restype = n

    def block(self, kind: str) -> tuple[int, int]:
        """Return the elements and bytes of a block."""
        return self.library.ggml_blck_size(TYPES[kind]), self.library.ggml_type_size(TYPES[kind])

    def quantise(self, x: F32, kind: str, importance: F32 | None = None) -> U8:
        """Return the blocks of a matrix. importance: of every column."""
        elements, size = self.block(kind)
        out = np.zeros(x.size // elements * size, np.uint8)
        source = np.ascontiguousarray(x, np.float32)
        weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
        pointer = None if weights is None else weights.ctypes.data
        used = self.library.ggml_quantize_chunk(TYPES[kind], source.ctypes.data, out.ctypes.data, 0, *x.shape, pointer)
        assert used == out.size
        return out

    def dequantise(self, blocks: U8, kind: str, out: F32) -> None:
        """Fill an array from its blocks."""
        if kind == "F32":
            out.reshape(-1)[:] = blocks.view(np.float32)
            return
        call = getattr(self.library, f"dequantize_row_{kind.lower().replace('_k', '_K')}")
        call.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        call(blocks.ctypes.data, out.ctypes.data, out.size)

    def approximate(self, matrix: F32, kind: str, importance: F32 | None = None) -> tuple[F32, int]:
        """Return what blocks of a type, or of the one that llama.cpp takes for it, make of a matrix, and their bytes."""
        kind, out = self.fitting(kind, matrix.shape[1]), np.empty_like(matrix)
        blocks = self.quantise(matrix, kind, importance)
        self.dequantise(blocks, kind, out)
        return out, blocks.size

    def fitting(self, kind: str, columns: int) -> str:
        """Return the type that llama.cpp gives to rows of so many columns."""
        return kind if columns % self.block(kind)[0] == 0 else SHORT[kind]


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write(path: Path, tensors: Mapping[str, tuple[tuple[int, ...], str, U8]], architecture: str) -> None:
    """Write a GGUF file: name → shape, type, blocks. It holds no vocabulary and no settings, unlike one that llama.cpp runs."""
    keys = [("general.architecture", struct.pack("<I", STRING) + _text(architecture))]
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(_text(key) + value for key, value in keys)
    at = 0
    for name, (shape, kind, blocks) in tensors.items():
        header += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), TYPES[kind], at)
        at += -(-blocks.size // ALIGNMENT) * ALIGNMENT
    with path.open("wb") as file:
        file.write(header + bytes(-len(header) % ALIGNMENT))
        for _, _, blocks in tensors.values():
            file.write(blocks.tobytes() + bytes(-blocks.size % ALIGNMENT))


def read(path: Path, ggml: Ggml) -> dict[str, F32]:
    """Read a file that ``write`` made and dequantise every tensor."""
    data = np.fromfile(path, np.uint8)
    raw, at = memoryview(data), 24
    _, _, count, keys = struct.unpack_from("<4sIQQ", raw)

    def text() -> str:
        nonlocal at
        length = struct.unpack_from("<Q", raw, at)[0]
        at += 8 + length
        return bytes(raw[at - length : at]).decode()

    for _ in range(keys):
        text()
        at += 4
        text()
    names, kinds = [], {number: kind for kind, number in TYPES.items()}
    for _ in range(count):
        name = text()
        dims = struct.unpack_from("<I", raw, at)[0]
        *shape, kind, start = struct.unpack_from(f"<{dims}QIQ", raw, at + 4)
        at += 4 + 8 * dims + 12
        names.append((name, tuple(reversed(shape)), kinds[kind], start))
    base = -(-at // ALIGNMENT) * ALIGNMENT
    found = {}
    for name, shape, kind, start in names:
        out = np.empty(shape, np.float32)
        elements, size = ggml.block(kind)
        ggml.dequantise(data[base + start : base + start + out.size // elements * size], kind, out)
        found[name] = out
    return found
