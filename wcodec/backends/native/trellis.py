"""The trellis quantiser in C."""

from __future__ import annotations

from ctypes import byref

import numpy as np

from wcodec.backends.native.abi import KINDS
from wcodec.backends.native.abi import Lattice as NativeLattice
from wcodec.backends.native.arrays import address, fits
from wcodec.backends.native.entropy import NativeEntropy
from wcodec.backends.native.floats import NativeFloats
from wcodec.backends.native.jobs import describe, raise_for, ready_for
from wcodec.backends.numpy.trellis import TrellisVerbs
from wcodec.coding import rans
from wcodec.coding.tables import Tables
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
                byref(ready.job), *ready.pointers, address(words), size, address(scratch), byref(its), address(out)
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
