"""The trellis quantiser in C."""

from __future__ import annotations

from ctypes import byref

import numpy as np

from wcodec.backends.native.abi import KINDS, Symbols
from wcodec.backends.native.abi import Lattice as NativeLattice
from wcodec.backends.native.arrays import address, fits
from wcodec.backends.native.entropy import NativeEntropy
from wcodec.backends.native.floats import NativeFloats
from wcodec.backends.native.jobs import describe, raise_for, ready_for
from wcodec.backends.numpy.trellis import TrellisVerbs
from wcodec.coding import rans
from wcodec.coding.tables import Tables
from wcodec.coding.tokens import Beside
from wcodec.coding.trellis import Lattice
from wcodec.types import U8, U32, DType, UInts

_NONE = Tables(8, np.empty((0, 256), np.uint16))


class NativeTrellis(NativeEntropy, NativeFloats, TrellisVerbs):
    """Symbols of a trellis to floats, by C, in the float mode that they need whatever the caller's is."""

    def trellis_decode(
        self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, lattice: Lattice, dtype: DType, out: UInts
    ) -> None:
        """Decode a window's tokens, which are the symbols, and dequantise them: rans_decode and trellis_dequantise in one pass."""
        ready, its = ready_for(job, lut, states, offsets), describe_lattice(lattice, job.order, job.start, dtype)
        sound = fits(words, np.uint8, 0) and fits(out, dtype.storage, job.order.count)
        if ready is None or its is None or not sound or job.context.trellis != lattice.v:
            return super().trellis_decode(job, lut, states, offsets, words, lattice, dtype, out)
        scratch, size = self._decode_scratch(ready.job), words.size // 2
        raise_for(
            self._library.wcodec_trellis_decode(
                byref(ready.job), *ready.pointers, address(words), size, address(scratch), None, byref(its), address(out)
            )
        )

    def trellis_join(
        self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, beside: Beside, lattice: Lattice, dtype: DType, out: UInts
    ) -> None:
        """Decode a window's tokens, join them with what stands beside them, and dequantise. Raises Corrupt [E-6, E-7, RANS-3]."""
        ready, its = ready_for(job, lut, states, offsets), describe_lattice(lattice, job.order, job.start, dtype)
        first = np.append(np.uint32(0), np.cumsum(beside.counts, dtype=np.uint32))
        symbols, sound = describe_symbols(beside, job.order, first), fits(words, np.uint8, 0) and fits(out, dtype.storage, job.order.count)
        if ready is None or its is None or symbols is None or not sound or job.context.trellis != lattice.v:
            return super().trellis_join(job, lut, states, offsets, words, beside, lattice, dtype, out)
        scratch, size = self._decode_scratch(ready.job), words.size // 2
        raise_for(
            self._library.wcodec_trellis_decode(
                byref(ready.job), *ready.pointers, address(words), size, address(scratch), byref(symbols), byref(its), address(out)
            )
        )

    def trellis_dequantise(self, order: rans.Order, start: int, symbols: UInts, lattice: Lattice, dtype: DType, out: UInts) -> None:
        """Write what the symbols (U8 or U16) of a window stand for, rounded to a float dtype."""
        job = describe(rans.Job(order, rans.Context("trellis", lattice.v), _NONE, start), 8)
        its = describe_lattice(lattice, order, start, dtype)
        sound = symbols.itemsize <= 2 and fits(symbols, symbols.dtype, order.count) and fits(out, dtype.storage, order.count)
        if job is None or its is None or not sound:
            return super().trellis_dequantise(order, start, symbols, lattice, dtype, out)
        scratch = self._decode_scratch(job)
        self._library.wcodec_trellis_dequantise(byref(job), address(symbols), symbols.itemsize, address(scratch), byref(its), address(out))


def describe_symbols(beside: Beside, order: rans.Order, first: U32) -> Symbols | None:
    """Describe what tokens stand for to C, or return None when it is not for C. first: escaped values before every block, and all."""
    its, raw, outliers, count = beside.alphabet, beside.raw, beside.outliers, order.count
    escapes = its.escape >= 0
    if not its.trellis or its.bits > 16 or (its.bits > 0) != (raw is not None) or beside.bytes not in (1, 2):
        return None
    if escapes and not (
        its.escape % 2 == 0 and fits(outliers, np.uint32, outliers.size) and first.size == order.blocks + 1
        and int(np.sum(beside.counts, dtype=np.uint64)) == outliers.size < 2**32
    ):  # fmt: skip
        return None
    width = 0 if raw is None or beside.packed else raw.itemsize
    if raw is not None and not (
        fits(raw, np.uint8, -(-count * its.bits // 8)) if beside.packed
        else fits(raw, np.uint8 if its.bits <= 8 else np.uint16, count)
    ):  # fmt: skip
        return None
    return Symbols(
        None if raw is None else address(raw), address(outliers), address(first), beside.bytes, its.bits, width,
        its.base % 2**16, its.zero, its.escape if escapes else 256,
    )  # fmt: skip


def describe_lattice(lattice: Lattice, order: rans.Order, start: int, dtype: DType) -> NativeLattice | None:
    """Describe what symbols stand for to C, or return None when it is not for C."""
    rows, columns, points = lattice.rows, lattice.columns, lattice.points
    cols, each = max(order.cols, 1), rows.size > 1
    needed = -(-(start % cols + order.count) // cols) if each else 1
    if not (
        fits(rows, np.float32, needed) and (columns is None or fits(columns, np.float32, order.cols)) and points.size <= 64
        and fits(points, np.float32, 0) and 0 <= lattice.zero < 2**16
    ):  # fmt: skip
        return None
    found = None if columns is None else address(columns)
    return NativeLattice(address(rows), found, address(points), points.size, each, lattice.zero, KINDS[dtype.name])
