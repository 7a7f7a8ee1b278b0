"""The verbs in C (``wcodec/native``), called through ctypes, which lets other threads run meanwhile."""

from __future__ import annotations

import ctypes
import importlib.metadata
import operator
import os
import sys
from collections.abc import Iterator, Sequence
from ctypes import POINTER, Structure, byref, c_float, c_int, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.backends.base import Backend, Planes, Symbols
from wcodec.coding import philox, rans
from wcodec.coding.tables import Tables
from wcodec.coding.tokens import Alphabet
from wcodec.coding.uniform import F32, Grid
from wcodec.errors import BackendUnavailable, Corrupt
from wcodec.types import U8, U32, U64, DType, UInts

ABI = 9
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


class _Philox(Structure):
    """wcodec_philox."""

    _fields_ = (("seed", c_uint64), ("id", c_uint32), ("stream", c_uint32))


class _Grid(Structure):
    """wcodec_grid."""

    _fields_ = (
        ("start", c_uint64), ("count", c_uint64), ("cols", c_uint64), ("group", c_uint64), ("stride", c_uint64),
        ("zero", c_uint32), ("levels", c_uint32),
    )  # fmt: skip


KINDS = {"F32": 0, "F16": 1, "BF16": 2, "F64": 3}
"""Float dtypes, by the number that the library gives them."""

_P, _N, _I = c_void_p, c_uint64, c_uint32
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "wcodec_set_isa": (c_int, (c_int,)),
    "wcodec_decode_scratch": (_N, (POINTER(_Job),)),
    "wcodec_encode_scratch": (_N, (POINTER(_Job),)),
    "wcodec_read_tables": (_N, (_P, _N, _I, _I, _P, _P)),
    "wcodec_rans_decode": (c_int, (POINTER(_Job), _P, _P, _P, _P, _N, _P, _P)),
    "wcodec_rans_join": (c_int, (POINTER(_Job), _P, _P, _P, _P, _N, _P, POINTER(_Split), _P, _P)),
    "wcodec_rans_gather": (c_int, (POINTER(_Job), _P, _P, _P, _P, _N, _P, _P, _I, _I, _P)),
    "wcodec_fit_tables": (None, (_P, _I, _I, _P)),
    "wcodec_pack_tables": (_N, (_P, _I, _P)),
    "wcodec_choose_split": (None, (_P, _I, _N, _I, _P)),
    "wcodec_is_noise": (c_int, (_P, _N)),
    "wcodec_rans_encode": (_N, (POINTER(_Job), _P, _P, _P, _P, _P, _P, _N)),
    "wcodec_rans_histogram": (None, (POINTER(_Job), _P, _P, _P)),
    "wcodec_split_planes": (None, (POINTER(_Split), _P, _N, _P, _P)),
    "wcodec_split_tokens": (None, (POINTER(_Split), _P, _N, _I, _P, _P, _P, _P, _P)),
    "wcodec_join_planes": (None, (POINTER(_Split), _P, _I, _P, _N, _P)),
    "wcodec_gather": (c_int, (_P, _I, _I, _P, _I, _N, _P)),
    "wcodec_pack_bits": (None, (_P, _I, _N, _I, _N, _P)),
    "wcodec_unpack_bits": (None, (_P, _I, _N, _I, _N, _P)),
    "wcodec_count_kept": (_N, (_P, _N, _I)),
    "wcodec_kept_positions": (None, (_P, _N, _I, _P, _N)),
    "wcodec_gap_positions": (c_int, (_P, _I, _P, _N, _N, _P)),
    "wcodec_scatter": (None, (_P, _N, _P, _I, _P, _N, c_int)),
    "wcodec_join_tokens": (None, (_P, _P, _I, _N, _I, _I, _I, _I, _P)),
    "wcodec_philox_fill": (None, (POINTER(_Philox), _P, c_float, c_float, _N, _N, _P)),
    "wcodec_philox_draw": (_N, (POINTER(_Philox), _I, _N, _N, _P)),
    "wcodec_dequantise": (c_int, (POINTER(_Grid), _P, _I, _P, _I, _P)),
    "wcodec_quantise": (None, (POINTER(_Grid), _P, _P, _I, _P)),
    "wcodec_round": (None, (_P, _N, _I, _P)),
    "wcodec_add": (c_int, (_P, _P, _N)),
    "wcodec_same": (c_int, (_P, _P, _N)),
}


def _fits(array: npt.NDArray[Any], kind: Any, size: int) -> bool:
    """Whether C may take ``size`` items of ``kind`` from array: the last check before pointers."""
    return array.dtype == kind and array.size >= size and array.flags.c_contiguous


def _at(array: npt.NDArray[Any]) -> int:
    """Return the address of an array; numpy's own way, which takes several times as long, where ctypes refuses to write."""
    return ctypes.addressof(_ANYTHING.from_buffer(array.data)) if array.flags.writeable else array.ctypes.data


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
        ready = _ready(job, lut, states, offsets)
        if ready is None or not _fits(words, np.uint8, 0) or not _fits(out, np.uint8, job.order.count):
            return super().rans_decode(job, lut, states, offsets, words, out)
        scratch = self._decode_scratch(ready.job)
        _raise_for(self._library.wcodec_rans_decode(byref(ready.job), *ready.pointers, _at(words), words.size // 2, _at(scratch), _at(out)))

    def rans_join(
        self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, symbols: Symbols, split: Planes, rest: Sequence[U8], out: UInts
    ) -> None:
        """Decode a window's tokens and join their symbols with rest planes into out: rans_decode and join_planes in one pass."""
        ready, count, packed = _ready(job, lut, states, offsets), job.order.count, symbols.packed
        # Symbols are 8 or 16 bits wide; C does not cut off what a senseless base adds above.
        fits = not symbols.base or symbols.base + 255 < (1 << 16 if split.bits - split.rest > 8 else 1 << 8)
        fits = fits and _fits(words, np.uint8, 0) and out.size == count and (not packed or job.order.block > 0)
        if ready is None or not fits or not _splits(split, rest, out, packed):
            return super().rans_join(job, lut, states, offsets, words, symbols, split, rest, out)
        scratch = self._decode_scratch(ready.job)
        planes = _Split(out.itemsize, split.rest, split.sign, symbols.base, symbols.zero, packed)
        _raise_for(
            self._library.wcodec_rans_join(
                byref(ready.job), *ready.pointers, _at(words), words.size // 2, _at(scratch),
                byref(planes), _pointers(rest), _at(out),
            )
        )  # fmt: skip

    def rans_gather(self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, centroids: UInts, width: int, out: UInts) -> None:
        """Decode a window's tokens and write the centroids that they number to out: rans_decode and gather in one pass."""
        ready, entries = _ready(job, lut, states, offsets), centroids.size // width
        # With all tokens of the tables inside the codebook, no word can lead out of it.
        inside = _fits(words, np.uint8, 0) and not job.tables.frequencies[:, entries:].any()
        if ready is None or not inside or not _gathers(centroids, width, job.order.count, out):
            return super().rans_gather(job, lut, states, offsets, words, centroids, width, out)
        scratch, size = self._decode_scratch(ready.job), width * out.itemsize
        _raise_for(
            self._library.wcodec_rans_gather(
                byref(ready.job), *ready.pointers, _at(words), words.size // 2, _at(scratch),
                _at(centroids), entries, size, _at(out),
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

    def gather(self, centroids: UInts, width: int, indices: UInts, out: UInts) -> None:
        """Write the centroids, of ``width`` elements each, at the indices (U8 or U16) to out. Raises Corrupt [CODEBOOK-2]."""
        known = indices.dtype in (np.uint8, np.uint16) and indices.flags.c_contiguous
        if not known or not _gathers(centroids, width, indices.size, out):
            return super().gather(centroids, width, indices, out)
        entries, size = centroids.size // width, width * out.itemsize
        inside = self._library.wcodec_gather(_at(centroids), entries, size, _at(indices), indices.itemsize, indices.size, _at(out))
        if not inside:  # numpy says which
            super().gather(centroids, width, indices, out)

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

    def byte_positions(self, mask: U8) -> U32:
        """Return the ascending positions of the bytes that are not zero."""
        return super().byte_positions(mask) if not _fits(mask, np.uint8, 0) else self._positions(mask, mask.size, False)

    def bit_positions(self, bits: U8, count: int) -> U32:
        """Return the ascending positions of the set bits among the first ``count``, lowest bit of byte 0 first."""
        return super().bit_positions(bits, count) if not _fits(bits, np.uint8, -(-count // 8)) else self._positions(bits, count, True)

    def _positions(self, mask: U8, count: int, packed: bool) -> U32:
        kept = self._library.wcodec_count_kept(_at(mask), count, packed)
        out = np.empty(kept + 80, np.uint32)  # room for whole registers
        self._library.wcodec_kept_positions(_at(mask), count, packed, _at(out), out.size)
        return out[:kept]

    def gap_positions(self, gaps: UInts, counts: U32, block: int, out: U32) -> bool:
        """Write positions from gaps; tell whether all lie in their blocks (``masks.from_gaps``)."""
        fits = _fits(out, np.uint32, gaps.size) and _fits(counts, np.uint32, 0) and gaps.flags.c_contiguous
        if not fits or gaps.itemsize > 4 or int(counts.sum(dtype=np.uint64)) != gaps.size:
            return super().gap_positions(gaps, counts, block, out)
        return bool(self._library.wcodec_gap_positions(_at(gaps), gaps.itemsize, _at(counts), counts.size, block, _at(out)))

    def scatter(self, positions: U32, values: UInts, out: UInts, clear: bool) -> None:
        """Write values to ascending positions of out; ``clear``: and zeros everywhere else."""
        inside = positions.size == 0 or int(positions[-1]) < out.size
        if not (inside and _fits(positions, np.uint32, 0) and _fits(values, out.dtype, positions.size) and out.flags.c_contiguous):
            return super().scatter(positions, values, out, clear)
        self._library.wcodec_scatter(_at(positions), positions.size, _at(values), out.itemsize, _at(out), out.size, clear)

    def join_tokens(self, alphabet: Alphabet, tokens: U8, raw: UInts | None, outliers: U32, out: UInts) -> None:
        """Turn tokens, raw bits and escaped values into values (``Alphabet.join``)."""
        fits = _fits(tokens, np.uint8, out.size) and out.flags.c_contiguous and out.itemsize <= 4
        if alphabet.trellis or not fits or (raw is not None and not (raw.itemsize <= 2 and _fits(raw, raw.dtype, out.size))):
            return super().join_tokens(alphabet, tokens, raw, outliers, out)
        low, width = (None, 0) if raw is None else (_at(raw), raw.itemsize)
        self._library.wcodec_join_tokens(
            _at(tokens), low, width, out.size, alphabet.base, alphabet.zero, alphabet.bits, out.itemsize, _at(out)
        )
        if alphabet.escape >= 0:
            where = self.byte_positions(alphabet.escapes(tokens))
            escaped = outliers.astype(np.uint64) << np.uint64(alphabet.bits)
            if raw is not None:
                escaped |= raw[where] & raw.dtype.type((1 << alphabet.bits) - 1)
            out[where] = escaped.astype(out.dtype)

    def philox_fill(
        self, seed: int, id: int, stream: int, kind: str, scale: float, decay: float, start: int, out: npt.NDArray[np.float32]
    ) -> None:
        """Write elements start … of a stream of random numbers (spec/rng.md). kind: uniform or normal."""
        if not _fits(out, np.float32, 0):
            return super().philox_fill(seed, id, stream, kind, scale, decay, start, out)
        table = _at(philox.normals()) if kind == "normal" else None
        self._library.wcodec_philox_fill(byref(_Philox(seed, id, stream)), table, scale, decay, start, out.size, _at(out))

    def philox_draw(self, seed: int, id: int, stream: int, threshold: int, start: int, out: U8) -> int:
        """Write 1 where the word of element start … is below threshold, else 0; return the number of ones."""
        if not _fits(out, np.uint8, 0):
            return super().philox_draw(seed, id, stream, threshold, start, out)
        found: int = self._library.wcodec_philox_draw(byref(_Philox(seed, id, stream)), threshold, start, out.size, _at(out))
        return found

    def dequantise(self, grid: Grid, start: int, symbols: UInts, steps: F32, zero: int, levels: int, dtype: DType, out: UInts) -> None:
        """Write step · (symbol − zero), rounded to a float dtype. Raises Corrupt [UNIFORM-3]."""
        native = _grid(grid, start, symbols, steps, zero, levels)
        if native is None or not _fits(out, dtype.storage, symbols.size):
            return super().dequantise(grid, start, symbols, steps, zero, levels, dtype, out)
        kind = KINDS[dtype.name]
        if self._library.wcodec_dequantise(byref(native), _at(symbols), symbols.itemsize, _at(steps), kind, _at(out)):
            raise Corrupt(f"a symbol is not below {levels}", rule="UNIFORM-3")

    def quantise(self, grid: Grid, start: int, x: F32, steps: F32, zero: int, levels: int, out: UInts) -> None:
        """Write the symbols nearest to x / step (ties to even), cut off at 0 and levels − 1; ``zero`` where the step is 0."""
        native = _grid(grid, start, out, steps, zero, levels)
        if native is None or not _fits(x, np.float32, out.size):
            return super().quantise(grid, start, x, steps, zero, levels, out)
        self._library.wcodec_quantise(byref(native), _at(x), _at(steps), out.itemsize, _at(out))

    def add_floats(self, total: F32, x: F32) -> None:
        """Add x to total in float32. Raises Corrupt [SUM-2]."""
        if not _fits(total, np.float32, x.size) or not _fits(x, np.float32, x.size):
            return super().add_floats(total, x)
        if self._library.wcodec_add(_at(total), _at(x), x.size):
            raise Corrupt("an element of a sum is infinite or no number", rule="SUM-2")

    def round_floats(self, values: F32, dtype: DType, out: UInts) -> None:
        """Round float32 to a float dtype, ties to even."""
        if dtype.name == "F32" or not _fits(values, np.float32, out.size) or not _fits(out, dtype.storage, out.size):
            return super().round_floats(values, dtype, out)
        self._library.wcodec_round(_at(values), out.size, KINDS[dtype.name], _at(out))

    def same(self, a: UInts, b: UInts) -> bool:
        """Compare two arrays of one dtype and size bit for bit."""
        if a.dtype != b.dtype or a.shape != b.shape or not (a.flags.c_contiguous and b.flags.c_contiguous):
            return super().same(a, b)
        return bool(self._library.wcodec_same(_at(a), _at(b), a.nbytes))

    def _decode_scratch(self, job: _Job) -> U8:
        """Return what decoding and counting need besides the arrays; nothing without a trellis."""
        return np.empty(self._library.wcodec_decode_scratch(byref(job)), np.uint8) if job.trellis else _NOTHING


_NOTHING = np.empty(0, np.uint8)
_ANYTHING = ctypes.c_char * 0


def _raise_for(rules: int) -> None:
    if rules & 2:
        raise Corrupt("a symbol chose an unused table", rule="E-7")
    if rules:
        raise Corrupt("entropy-coded words do not end where the block ends", rule="E-6")


def _splits(split: Planes, rest: Sequence[U8], x: UInts, packed: bool = False) -> bool:
    """Whether C may split or join x like this. packed: a top plane of fewer than 8 bits is."""
    if x.itemsize * 8 != split.bits or split.bits > split.rest + 16 or not x.flags.c_contiguous or len(rest) != split.count:
        return False
    top = -(-x.size * (split.rest % 8) // 8) if packed and split.rest % 8 else x.size
    return all(_fits(plane, np.uint8, top if i == split.count else x.size) for i, plane in enumerate(rest, 1))


def _grid(grid: Grid, start: int, symbols: UInts, steps: F32, zero: int, levels: int) -> _Grid | None:
    """Describe a window of quantised elements to C, or return None when it is not one for C."""
    low, high = grid.span(start, start + symbols.size)
    if (
        grid.cols < 1
        or grid.group < 1
        or symbols.itemsize > 4
        or not symbols.flags.c_contiguous
        or not _fits(steps, np.float32, high - low)
    ):
        return None
    return _Grid(start, symbols.size, grid.cols, grid.group, grid.stride, zero, levels)


def _gathers(centroids: UInts, width: int, count: int, out: UInts) -> bool:
    """Whether C may write ``count`` centroids to out."""
    whole = centroids.size % width == 0 and centroids.size < 2**32 and width * out.itemsize < 2**32
    return whole and _fits(centroids, out.dtype, 0) and _fits(out, out.dtype, 0) and out.size == count * width


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


@dataclass(frozen=True, slots=True)
class _Ready:
    """A job described to C, and pointers to the arrays that go with it."""

    job: _Job
    arrays: tuple[U32, U32, U32]
    pointers: tuple[int, int, int]


def _ready(job: rans.Job, lut: U32, states: U32, offsets: U32) -> _Ready | None:
    """Describe a job to C once for the same arrays, or return None when it is not one for C."""
    known: _Ready | None = job.memo.get("native")
    if known is not None and all(map(operator.is_, known.arrays, (lut, states, offsets))):
        return known
    native, blocks = _job(job, job.tables.precision), job.order.blocks
    if (
        native is None
        or not _fits(lut, np.uint32, native.tables << native.precision)
        or not _fits(states, np.uint32, blocks * native.lanes)
        or not _fits(offsets, np.uint32, blocks + 1)
    ):
        return None
    found = job.memo["native"] = _Ready(native, (lut, states, offsets), (_at(lut), _at(states), _at(offsets)))
    return found


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
