"""Tables and streams of tokens in C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import byref

import numpy as np

from wcodec.backends.native.abi import Job, Split
from wcodec.backends.native.arrays import address, fits, pointers
from wcodec.backends.native.codebook import gathers
from wcodec.backends.native.jobs import describe, raise_for, ready_for
from wcodec.backends.native.masks import NativeMasks
from wcodec.backends.native.planes import splits
from wcodec.backends.numpy.entropy import EntropyVerbs
from wcodec.backends.numpy.planes import Planes, Symbols
from wcodec.coding import rans
from wcodec.coding.tables import Tables
from wcodec.coding.tokens import Alphabet
from wcodec.types import U8, U32, U64, UInts

_NOTHING = np.empty(0, np.uint8)


class NativeEntropy(NativeMasks, EntropyVerbs):
    """Entropy coding by C; escaped values are put in their places by the verbs of masks."""

    def read_tables(self, data: U8, count: int, precision: int) -> tuple[Tables, int, U32]:
        """Parse tables; returns them, the bytes used, and their look-up. Raises Corrupt [E-1, E-2]."""
        frequencies, lut = np.empty((count, 256), np.uint16), np.empty(count << precision, np.uint32)
        used = self._library.wcodec_read_tables(address(data), data.size, count, precision, address(frequencies), address(lut))
        return (Tables(precision, frequencies), used, lut) if used else super().read_tables(data, count, precision)

    def fit_tables(self, counts: U64, precision: int) -> Tables:
        """Make the tables for symbol counts [tables, 256]."""
        if not fits(counts, np.uint64, 256 * len(counts)):
            return super().fit_tables(counts, precision)
        frequencies = np.empty((len(counts), 256), np.uint16)
        self._library.wcodec_fit_tables(address(counts), len(counts), precision, address(frequencies))
        return Tables(precision, frequencies)

    def pack_tables(self, tables: Tables) -> bytes:
        """Return the wire form of tables."""
        frequencies = tables.frequencies
        if not fits(frequencies, np.uint16, 256 * len(frequencies)):
            return super().pack_tables(tables)
        out = ctypes.create_string_buffer(514 * len(frequencies))
        size = self._library.wcodec_pack_tables(address(frequencies), len(frequencies), out)
        return out.raw[:size]

    def rans_histogram(self, job: rans.Job, tokens: U8) -> U64:
        """Count the tokens of a window per table, [tables, 256]; job.tables is not looked at."""
        native = describe(job, 0)
        if native is None or not fits(tokens, np.uint8, job.order.count):
            return super().rans_histogram(job, tokens)
        counts = np.zeros((native.tables, 256), np.uint64)
        scratch = self._decode_scratch(native)
        self._library.wcodec_rans_histogram(byref(native), address(tokens), address(scratch), address(counts))
        return counts

    def rans_encode(self, job: rans.Job, tokens: U8, words: U8) -> tuple[U32, U32, int]:
        """Encode a window's tokens. Returns states [blocks, W], words per block, and the size of the words."""
        native = describe(job, job.tables.precision)
        frequencies = job.tables.frequencies
        sound = fits(tokens, np.uint8, job.order.count) and fits(words, np.uint8, 0)
        if native is None or not sound or not fits(frequencies, np.uint16, 256 * native.tables):
            return super().rans_encode(job, tokens, words)
        blocks = job.order.blocks
        states, per_block = np.empty((blocks, native.lanes), np.uint32), np.empty(blocks, np.uint32)
        scratch = np.empty(self._library.wcodec_encode_scratch(byref(native)), np.uint8)
        total = self._library.wcodec_rans_encode(
            byref(native), address(frequencies), address(tokens), address(scratch),
            address(states), address(per_block), address(words), words.size // 2,
        )  # fmt: skip
        return states, per_block, 2 * total

    def rans_decode(self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, out: U8) -> None:
        """Decode a window's tokens into out. lut: ``job.tables.lut()``. Raises Corrupt [E-6, E-7]."""
        ready = ready_for(job, lut, states, offsets)
        if ready is None or not fits(words, np.uint8, 0) or not fits(out, np.uint8, job.order.count):
            return super().rans_decode(job, lut, states, offsets, words, out)
        scratch, size = self._decode_scratch(ready.job), words.size // 2
        raise_for(self._library.wcodec_rans_decode(byref(ready.job), *ready.pointers, address(words), size, address(scratch), address(out)))

    def rans_join(
        self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, symbols: Symbols, split: Planes, rest: Sequence[U8], out: UInts
    ) -> None:
        """Decode a window's tokens and join their symbols with rest planes into out: rans_decode and join_planes in one pass."""
        ready, count, packed = ready_for(job, lut, states, offsets), job.order.count, symbols.packed
        # Symbols are 8 or 16 bits wide; C does not cut off what a senseless base adds above.
        sound = not symbols.base or symbols.base + 255 < (1 << 16 if split.bits - split.rest > 8 else 1 << 8)
        sound = sound and fits(words, np.uint8, 0) and out.size == count and (not packed or job.order.block > 0)
        if ready is None or not sound or not splits(split, rest, out, packed):
            return super().rans_join(job, lut, states, offsets, words, symbols, split, rest, out)
        scratch = self._decode_scratch(ready.job)
        planes = Split(out.itemsize, split.rest, split.sign, symbols.base, symbols.zero, packed)
        raise_for(
            self._library.wcodec_rans_join(
                byref(ready.job), *ready.pointers, address(words), words.size // 2, address(scratch),
                byref(planes), pointers(rest), address(out),
            )
        )  # fmt: skip

    def rans_gather(self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, centroids: UInts, width: int, out: UInts) -> None:
        """Decode a window's tokens and write the centroids that they number to out: rans_decode and gather in one pass."""
        ready, entries = ready_for(job, lut, states, offsets), centroids.size // width
        # With all tokens of the tables inside the codebook, no word can lead out of it.
        inside = fits(words, np.uint8, 0) and not job.tables.frequencies[:, entries:].any()
        if ready is None or not inside or not gathers(centroids, width, job.order.count, out):
            return super().rans_gather(job, lut, states, offsets, words, centroids, width, out)
        scratch, size = self._decode_scratch(ready.job), width * out.itemsize
        raise_for(
            self._library.wcodec_rans_gather(
                byref(ready.job), *ready.pointers, address(words), words.size // 2, address(scratch),
                address(centroids), entries, size, address(out),
            )
        )  # fmt: skip

    def join_tokens(self, alphabet: Alphabet, tokens: U8, raw: UInts | None, outliers: U32, out: UInts) -> None:
        """Turn tokens, raw bits and escaped values into values (``Alphabet.join``)."""
        sound = fits(tokens, np.uint8, out.size) and out.flags.c_contiguous and out.itemsize <= 4
        if not sound or (raw is not None and not (raw.itemsize <= 2 and fits(raw, raw.dtype, out.size))):
            return super().join_tokens(alphabet, tokens, raw, outliers, out)
        low, width = (None, 0) if raw is None else (address(raw), raw.itemsize)
        self._library.wcodec_join_tokens(
            address(tokens), low, width, out.size, alphabet.base, alphabet.zero, alphabet.bits, alphabet.trellis, out.itemsize, address(out)
        )
        if alphabet.escape >= 0:
            where = self.byte_positions(alphabet.escapes(tokens))
            out[where] &= out.dtype.type((1 << min(alphabet.shift, 8 * out.itemsize)) - 1)  # what lies below h stays
            out[where] |= (outliers.astype(np.uint64) << np.uint64(alphabet.shift)).astype(out.dtype)

    def _decode_scratch(self, job: Job) -> U8:
        """Return what decoding and counting need besides the arrays; nothing without a trellis."""
        return np.empty(self._library.wcodec_decode_scratch(byref(job)), np.uint8) if job.trellis else _NOTHING
