"""Verbs of the trellis quantiser (spec/codecs/trellis.md)."""

from __future__ import annotations

import numpy as np

from wcodec.backends.numpy.entropy import EntropyVerbs
from wcodec.backends.numpy.floats import FloatVerbs
from wcodec.coding import rans, trellis
from wcodec.coding.numbers import check_subnormals
from wcodec.coding.tokens import Beside
from wcodec.coding.trellis import Lattice
from wcodec.types import U8, U32, DType, UInts


class TrellisVerbs(EntropyVerbs, FloatVerbs):
    """Symbols of a trellis to floats; a stream is dequantised as it is decoded."""

    def trellis_decode(
        self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, lattice: Lattice, dtype: DType, out: UInts
    ) -> None:
        """Decode a window's tokens, which are the symbols, and dequantise them: rans_decode and trellis_dequantise in one pass."""
        symbols = np.empty(out.size, np.uint8)
        self.rans_decode(job, lut, states, offsets, words, symbols)
        self.trellis_dequantise(job.order, job.start, symbols, lattice, dtype, out)

    def trellis_join(
        self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, beside: Beside, lattice: Lattice, dtype: DType, out: UInts
    ) -> None:
        """Decode a window's tokens, join them with what stands beside them, and dequantise. Raises Corrupt [E-6, E-7, RANS-3]."""
        its, raw, outliers = beside.alphabet, beside.raw, beside.outliers
        tokens = np.empty(out.size, np.uint8)
        symbols: UInts = np.empty(out.size, np.uint8 if beside.bytes == 1 else np.uint16)
        self.rans_decode(job, lut, states, offsets, words, tokens)
        if its.escape >= 0:
            outliers = self.order_outliers(its, job.order, beside.counts, tokens, outliers)
        if beside.packed and raw is not None:
            packed, raw = raw.view(np.uint8), np.empty(out.size, np.uint8 if its.bits <= 8 else np.uint16)
            self.unpack_bits(packed, its.bits, 0, raw)
        self.join_tokens(its, tokens, raw, outliers, symbols)
        self.trellis_dequantise(job.order, job.start, symbols, lattice, dtype, out)

    def trellis_dequantise(self, order: rans.Order, start: int, symbols: UInts, lattice: Lattice, dtype: DType, out: UInts) -> None:
        """Write what the symbols (U8 or U16) of a window stand for, rounded to a float dtype; start: flat index of its first element.

        Subnormal numbers count, or BackendUnavailable is raised.
        """
        check_subnormals()
        values = out.view(np.float32) if dtype.name == "F32" else np.empty(out.size, np.float32)
        trellis.dequantise(lattice, start, order.cols, symbols, rans.branches(order, lattice.v, symbols), values)
        self.round_floats(values, dtype, out)
