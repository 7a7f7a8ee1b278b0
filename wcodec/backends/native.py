"""The verbs in C (``wcodec/native``), called through ctypes, which lets other threads run meanwhile."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import sys
from collections.abc import Iterator, Sequence
from ctypes import POINTER, Structure, byref, c_int, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.backends.base import Backend, Planes, Symbols
from wcodec.coding import rans
from wcodec.coding.tables import Tables
from wcodec.errors import BackendUnavailable, Corrupt
from wcodec.types import U8, U32, U64, UInts

ABI = 5
"""WCODEC_ABI of wcodec.h that the declarations below follow."""

ISAS = ("scalar", "avx2", "avx512")
"""Instruction sets, by the number that the library gives them."""

CONTEXTS = {"none": 0, "classes": 1, "trellis": 2}


class _Job(Structure):
    """wcodec_job."""

    _fields_ = (
        ("count", c_uint64), ("start", c_uint64), ("cols", c_uint64),
        ("lanes", c_uint32), ("precision", c_uint32), ("block", c_uint32), ("tile_rows", c_uint32), ("tile_cols", c_uint32),
        ("context", c_uint32), ("trellis", c_uint32), ("tables", c_uint32), ("column_classes", c_uint32),
        ("map", c_void_p), ("rows", c_void_p), ("columns", c_void_p),
    )  # fmt: skip


class _Split(Structure):
    """wcodec_split."""

    _fields_ = (
        ("bytes", c_uint32), ("rest", c_uint32), ("sign", c_uint32), ("base", c_uint32), ("zero", c_uint32), ("packed", c_uint32),
    )  # fmt: skip


_P, _N, _I = c_void_p, c_uint64, c_uint32
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "wcodec_set_isa": (c_int, (c_int,)),
    "wcodec_decode_scratch": (_N, (POINTER(_Job),)),
    "wcodec_encode_scratch": (_N, (POINTER(_Job),)),
    "wcodec_read_tables": (_N, (_P, _N, _I, _I, _P, _P)),
    "wcodec_rans_decode": (c_int, (POINTER(_Job), _P, _P, _P, _P, _N, _P, _P)),
    "wcodec_rans_join": (c_int, (POINTER(_Job), _P, _P, _P, _P, _N, _P, POINTER(_Split), _P, _P)),
    "wcodec_fit_tables": (None, (_P, _I, _I, _P)),
    "wcodec_pack_tables": (_N, (_P, _I, _P)),
    "wcodec_choose_split": (None, (_P, _I, _N, _I, _P)),
    "wcodec_is_noise": (c_int, (_P, _N)),
    "wcodec_rans_encode": (_N, (POINTER(_Job), _P, _P, _P, _P, _P, _P, _N)),
    "wcodec_rans_histogram": (None, (POINTER(_Job), _P, _P, _P)),
    "wcodec_split_planes": (None, (POINTER(_Split), _P, _N, _P, _P)),
    "wcodec_split_tokens": (None, (POINTER(_Split), _P, _N, _I, _P, _P, _P, _P, _P)),
    "wcodec_join_planes": (None, (POINTER(_Split), _P, _I, _P, _N, _P)),
    "wcodec_pack_bits": (None, (_P, _I, _N, _I, _N, _P)),
    "wcodec_unpack_bits": (None, (_P, _I, _N, _I, _N, _P)),
    "wcodec_same": (c_int, (_P, _P, _N)),
}


def _fits(array: npt.NDArray[Any], kind: Any, size: int) -> bool:
    """Whether C may take ``size`` items of ``kind`` from array: the last check before pointers."""
    return array.dtype == kind and array.size >= size and array.flags.c_contiguous


def _at(array: npt.NDArray[Any]) -> int:
    return array.ctypes.data


def _pointers(arrays: Sequence[U8]) -> ctypes.Array[c_void_p]:
    return (c_void_p * 8)(*map(_at, arrays))


class NativeBackend(Backend):
    """C kernels; whatever they do not take goes to numpy."""

    name = "native"

    def __init__(self, library: Any) -> None:
        self._library = library
        self._isa = 0
        self.set_isa(ISAS[-1])

    @property
    def isa(self) -> str:
        """Instruction set in use."""
        return ISAS[self._isa]

    def set_isa(self, cap: str) -> str:
        """Use the best instruction set of this CPU up to ``cap``, in all threads; return it."""
        if cap not in ISAS:
            raise BackendUnavailable(f"WCODEC_ISA is {cap!r}, not one of {', '.join(ISAS)}")
        self._isa = self._library.wcodec_set_isa(ISAS.index(cap))
        return self.isa

    def read_tables(self, data: U8, count: int, precision: int) -> tuple[Tables, int, U32]:
        """Parse tables; returns them, the bytes used, and their look-up. Raises Corrupt [E-1, E-2]."""
        frequencies, lut = np.empty((count, 256), np.uint16), np.empty(count << precision, np.uint32)
        used = self._library.wcodec_read_tables(_at(data), data.size, count, precision, _at(frequencies), _at(lut))
        return (Tables(precision, frequencies), used, lut) if used else super().read_tables(data, count, precision)

    def fit_tables(self, counts: U64, precision: int) -> Tables:
        """Make the tables for symbol counts [tables, 256]."""
        if not _fits(counts, np.uint64, 256 * len(counts)):
            return super().fit_tables(counts, precision)
        frequencies = np.empty((len(counts), 256), np.uint16)
        self._library.wcodec_fit_tables(_at(counts), len(counts), precision, _at(frequencies))
        return Tables(precision, frequencies)

    def pack_tables(self, tables: Tables) -> bytes:
        """Return the wire form of tables."""
        frequencies = tables.frequencies
        if not _fits(frequencies, np.uint16, 256 * len(frequencies)):
            return super().pack_tables(tables)
        out = ctypes.create_string_buffer(514 * len(frequencies))
        size = self._library.wcodec_pack_tables(_at(frequencies), len(frequencies), out)
        return out.raw[:size]

    def choose_split(self, x: UInts, widest: int) -> tuple[int, int, int]:
        """Choose by a sample how floats split. Returns rest bits, place of the sign and the highest symbol seen."""
        if not x.flags.c_contiguous or not 0 < widest <= min(8 * x.itemsize - 1, 11) or not x.size:
            return super().choose_split(x, widest)
        found = (c_uint32 * 3)()
        self._library.wcodec_choose_split(_at(x), x.itemsize, x.size, widest, byref(found))
        return found[0], found[1], found[2]

    def is_noise(self, plane: U8) -> bool:
        """Tell by a sample whether bytes look as if they had 8 bits of entropy each."""
        if not _fits(plane, np.uint8, 0):
            return super().is_noise(plane)
        return bool(self._library.wcodec_is_noise(_at(plane), plane.size))

    def rans_histogram(self, job: rans.Job, tokens: U8) -> U64:
        """Count the tokens of a window per table, [tables, 256]; job.tables is not looked at."""
        native = _job(job, 0)
        if native is None or not _fits(tokens, np.uint8, job.order.count):
            return super().rans_histogram(job, tokens)
        counts = np.zeros((native.tables, 256), np.uint64)
        scratch = self._decode_scratch(native)
        self._library.wcodec_rans_histogram(byref(native), _at(tokens), _at(scratch), _at(counts))
        return counts

    def rans_encode(self, job: rans.Job, tokens: U8, words: U8) -> tuple[U32, U32, int]:
        """Encode a window's tokens. Returns states [blocks, W], words per block, and the size of the words."""
        native = _job(job, job.tables.precision)
        frequencies = job.tables.frequencies
        fit = _fits(tokens, np.uint8, job.order.count) and _fits(words, np.uint8, 0)
        if native is None or not fit or not _fits(frequencies, np.uint16, 256 * native.tables):
            return super().rans_encode(job, tokens, words)
        blocks = job.order.blocks
        states, per_block = np.empty((blocks, native.lanes), np.uint32), np.empty(blocks, np.uint32)
        scratch = np.empty(self._library.wcodec_encode_scratch(byref(native)), np.uint8)
        total = self._library.wcodec_rans_encode(
            byref(native), _at(frequencies), _at(tokens), _at(scratch), _at(states), _at(per_block), _at(words), words.size // 2
        )
        return states, per_block, 2 * total

    def rans_decode(self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, out: U8) -> None:
        """Decode a window's tokens into out. lut: ``job.tables.lut()``. Raises Corrupt [E-6, E-7]."""
        native = _decoding(job, lut, states, offsets, words)
        if native is None or not _fits(out, np.uint8, job.order.count):
            return super().rans_decode(job, lut, states, offsets, words, out)
        scratch = self._decode_scratch(native)
        _raise_for(
            self._library.wcodec_rans_decode(
                byref(native), _at(lut), _at(states), _at(offsets), _at(words), words.size // 2, _at(scratch), _at(out)
            )
        )

    def rans_join(
        self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, symbols: Symbols, split: Planes, rest: Sequence[U8], out: UInts
    ) -> None:
        """Decode a window's tokens and join their symbols with rest planes into out: rans_decode and join_planes in one pass."""
        native, count, packed = _decoding(job, lut, states, offsets, words), job.order.count, symbols.packed
        # Symbols are 8 or 16 bits wide; C does not cut off what a senseless base adds above.
        fits = not symbols.base or symbols.base + 255 < (1 << 16 if split.bits - split.rest > 8 else 1 << 8)
        if native is None or out.size != count or (packed and not job.order.block) or not fits or not _splits(split, rest, out, packed):
            return super().rans_join(job, lut, states, offsets, words, symbols, split, rest, out)
        scratch = self._decode_scratch(native)
        planes = _Split(out.itemsize, split.rest, split.sign, symbols.base, symbols.zero, packed)
        _raise_for(
            self._library.wcodec_rans_join(
                byref(native), _at(lut), _at(states), _at(offsets), _at(words), words.size // 2, _at(scratch),
                byref(planes), _pointers(rest), _at(out),
            )
        )  # fmt: skip

    def split_tokens(self, split: Planes, x: UInts, base: int, every: int, tokens: U8, rest: Sequence[U8]) -> tuple[U64, U8, int, int]:
        """Split elements into tokens max(symbol − base, 0) mod 256 and rest planes, written to the arrays given."""
        if not _splits(split, rest, x, packed=True) or not _fits(tokens, np.uint8, x.size):
            return super().split_tokens(split, x, base, every, tokens, rest)
        counts, seen = np.zeros(256, np.uint64), np.zeros(256, np.uint8)
        found = (c_uint32 * 2)(1 << (8 if split.bits - split.rest <= 8 else 16), 0)
        planes = _Split(x.itemsize, split.rest, split.sign, base)
        self._library.wcodec_split_tokens(
            byref(planes), _at(x), x.size, every, _at(tokens), _pointers(rest), _at(counts), _at(seen), byref(found)
        )
        return counts, seen, found[0], found[1]

    def split_planes(self, split: Planes, x: UInts) -> tuple[UInts, list[U8]]:
        """Split elements into symbols (U8, or U16 above 8 bits) and rest planes, lowest first."""
        rest = [np.empty(x.size, np.uint8) for _ in range(split.count)]
        if not _splits(split, rest, x):
            return super().split_planes(split, x)
        symbol: UInts = np.empty(x.size, np.uint8 if split.bits - split.rest <= 8 else np.uint16)
        planes = _Split(x.itemsize, split.rest, split.sign, 0)
        self._library.wcodec_split_planes(byref(planes), _at(x), x.size, _at(symbol), _pointers(rest))
        return symbol, rest

    def join_planes(self, split: Planes, symbol: UInts, rest: Sequence[U8], out: UInts) -> None:
        """Join symbols and rest planes into out."""
        if not _splits(split, rest, out) or symbol.itemsize > 2 or not _fits(symbol, symbol.dtype, out.size):
            return super().join_planes(split, symbol, rest, out)
        planes = _Split(out.itemsize, split.rest, split.sign, 0)
        self._library.wcodec_join_planes(byref(planes), _at(symbol), symbol.itemsize, _pointers(rest), out.size, _at(out))

    def pack_bits(self, x: UInts, width: int, base: int) -> U8:
        """Pack (x − base) mod 2^n, which fit ``width`` bits, without gaps."""
        if not x.flags.c_contiguous:
            return super().pack_bits(x, width, base)
        out = np.empty(-(-x.size * width // 8), np.uint8)
        self._library.wcodec_pack_bits(_at(x), x.itemsize, x.size, width, base, _at(out))
        return out

    def unpack_bits(self, data: U8, width: int, base: int, out: UInts) -> None:
        """Unpack values of ``width`` bits, the first at bit 0 of data, add base and store them in out."""
        if not out.flags.c_contiguous or not _fits(data, np.uint8, -(-out.size * width // 8)):
            return super().unpack_bits(data, width, base, out)
        self._library.wcodec_unpack_bits(_at(data), out.itemsize, out.size, width, base, _at(out))

    def same(self, a: UInts, b: UInts) -> bool:
        """Compare two arrays of one dtype and size bit for bit."""
        if a.dtype != b.dtype or a.shape != b.shape or not (a.flags.c_contiguous and b.flags.c_contiguous):
            return super().same(a, b)
        return bool(self._library.wcodec_same(_at(a), _at(b), a.nbytes))

    def _decode_scratch(self, job: _Job) -> U8:
        """Return what decoding and counting need besides the arrays; nothing without a trellis."""
        return np.empty(self._library.wcodec_decode_scratch(byref(job)), np.uint8) if job.trellis else _NOTHING


_NOTHING = np.empty(0, np.uint8)


def _raise_for(rules: int) -> None:
    if rules & 2:
        raise Corrupt("a symbol chose an unused table", rule="E-7")
    if rules:
        raise Corrupt("entropy-coded words do not end where the block ends", rule="E-6")


def _splits(split: Planes, rest: Sequence[U8], x: UInts, packed: bool = False) -> bool:
    """Whether C may split or join x like this. packed: a top plane of fewer than 8 bits is."""
    sizes = [x.size] * split.count
    if packed and split.rest % 8:
        sizes[-1] = -(-x.size * (split.rest % 8) // 8)
    return (
        x.itemsize * 8 == split.bits <= split.rest + 16
        and x.flags.c_contiguous
        and len(rest) == split.count
        and all(_fits(plane, np.uint8, size) for plane, size in zip(rest, sizes, strict=True))
    )


def _job(job: rans.Job, precision: int) -> _Job | None:
    """Describe a job to C, or return None when it is not one for C."""
    order, context = job.order, job.context
    if order.lanes not in (1, 4, 32) or order.block % 128 or (not order.block and order.tile[1] % (4 * order.lanes)):
        return None
    tables, classes, maps, rows, columns = 1 + (context.kind == "trellis"), 0, None, None, None
    if context.map is not None:
        if context.kind != "classes" or not order.cols:
            return None
        tables, classes, maps = context.tables, context.map.shape[1], context.map
        rows, columns = context.rows, context.columns
        last_row = -(-(job.start + order.count) // order.cols)
        if not (
            _fits(maps, np.uint8, 1)
            and (rows is None or _fits(rows, np.uint8, last_row))
            and (columns is None or _fits(columns, np.uint8, order.cols))
        ):
            return None
    return _Job(
        order.count, job.start, order.cols, order.lanes, precision, order.block, order.tile[0], order.tile[1],
        CONTEXTS[context.kind], context.trellis, tables, classes,
        None if maps is None else _at(maps), None if rows is None else _at(rows), None if columns is None else _at(columns),
    )  # fmt: skip


def _decoding(job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8) -> _Job | None:
    native = _job(job, job.tables.precision)
    if native is None:
        return None
    blocks = job.order.blocks
    fit = (
        _fits(lut, np.uint32, native.tables << native.precision)
        and _fits(states, np.uint32, blocks * native.lanes)
        and _fits(offsets, np.uint32, blocks + 1)
        and _fits(words, np.uint8, 0)
    )
    return native if fit else None


def _candidates() -> Iterator[Path]:
    """Yield where the library may be: beside the package, or where an editable install put it."""
    names = ("_wcodec.so", "_wcodec.dll")
    for place in (Path(__file__).parents[1], *map(Path, sys.modules["wcodec"].__path__)):
        yield from (place.absolute() / "native" / name for name in names)
    try:
        files = importlib.metadata.files("wcodec") or []
    except importlib.metadata.PackageNotFoundError:
        return
    yield from (Path(str(file.locate())) for file in files if file.name in names)


def _open() -> Any:
    """Open the first library of the right ABI."""
    reason = "wcodec was installed without its native library (no C compiler was found, or this is a source tree)"
    for path in _candidates():
        if not path.is_file():
            continue
        try:
            library = ctypes.CDLL(str(path))
            library.wcodec_abi.restype, library.wcodec_abi.argtypes = c_int, ()
            abi = library.wcodec_abi()
        except (OSError, AttributeError) as error:
            reason = f"the native library does not load: {error}"
            continue
        if abi == ABI:
            return library
        reason = f"the native library {path} is stale (ABI {abi}, this wcodec needs {ABI}): install wcodec again"
    raise BackendUnavailable(reason)


def load() -> NativeBackend:
    """Load the library; WCODEC_ISA caps its instruction set. Raises BackendUnavailable with the reason."""
    library = _open()
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    backend = NativeBackend(library)
    if cap := os.environ.get("WCODEC_ISA"):
        backend.set_isa(cap)
    return backend
