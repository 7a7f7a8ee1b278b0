"""Verbs of entropy coding: tables, streams of tokens, and what tokens stand for (spec/entropy.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wcodec.backends.numpy.codebook import CodebookVerbs
from wcodec.backends.numpy.planes import Planes, PlaneVerbs, Symbols
from wcodec.coding import rans
from wcodec.coding.tables import Tables
from wcodec.coding.tokens import Alphabet
from wcodec.errors import Corrupt
from wcodec.types import U8, U32, U64, UInts


class EntropyVerbs(PlaneVerbs, CodebookVerbs):
    """Tables and tokens; a stream is joined with planes or looked up in a codebook as it is decoded."""

    def read_tables(self, data: U8, count: int, precision: int) -> tuple[Tables, int, U32]:
        """Parse tables; returns them, the bytes used, and their look-up. Raises Corrupt [E-1, E-2]."""
        tables, used = Tables.unpack(data.tobytes(), count, precision)
        return tables, used, tables.lut()

    def fit_tables(self, counts: U64, precision: int) -> Tables:
        """Make the tables for symbol counts [tables, 256]."""
        return Tables.fit(counts, precision)

    def pack_tables(self, tables: Tables) -> bytes:
        """Return the wire form of tables."""
        return tables.pack()

    def rans_histogram(self, job: rans.Job, tokens: U8) -> U64:
        """Count the tokens of a window per table, [tables, 256]; job.tables is not looked at."""
        return rans.histogram(job, tokens)

    def rans_encode(self, job: rans.Job, tokens: U8, words: U8) -> tuple[U32, U32, int]:
        """Encode a window's tokens, writing the words to ``words``.

        Returns states [blocks, W], words per block, and the bytes of all words; if ``words`` has fewer, it holds nothing of use.
        """
        states, per_block, made = rans.encode(job, tokens)
        if made.size <= words.size:
            words[: made.size] = made
        return states, per_block, made.size

    def rans_decode(self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, out: U8) -> None:
        """Decode a window's tokens into out. lut: ``job.tables.lut()``. Raises Corrupt [E-6, E-7]."""
        del lut
        rans.decode(job, states, offsets, words, out)

    def rans_join(
        self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, symbols: Symbols, split: Planes, rest: Sequence[U8], out: UInts
    ) -> None:
        """Decode a window's tokens and join their symbols with rest planes into out: rans_decode and join_planes in one pass."""
        tokens = np.empty(out.size, np.uint8)
        self.rans_decode(job, lut, states, offsets, words, tokens)
        symbol = tokens.astype(np.uint32) + np.uint32(symbols.base)
        if symbols.zero:
            symbol[tokens == 0] = 0
        planes = list(rest)
        if symbols.packed:
            planes[-1] = np.empty(out.size, np.uint8)
            self.unpack_bits(rest[-1], split.rest % 8, 0, planes[-1])
        self.join_planes(split, symbol.astype(np.uint8 if split.bits - split.rest <= 8 else np.uint16), planes, out)

    def rans_gather(self, job: rans.Job, lut: U32, states: U32, offsets: U32, words: U8, centroids: UInts, width: int, out: UInts) -> None:
        """Decode a window's tokens and write the centroids that they number to out: rans_decode and gather in one pass."""
        tokens = np.empty(job.order.count, np.uint8)
        self.rans_decode(job, lut, states, offsets, words, tokens)
        self.gather(centroids, width, tokens, out)

    def order_outliers(self, alphabet: Alphabet, order: rans.Order, counts: U32, tokens: U8, outliers: U32) -> U32:
        """Return the escaped values of a window in the order of its elements, from that of its blocks.

        Raises Corrupt [RANS-3] unless every block holds its count of escape tokens.
        """
        escaped = np.flatnonzero(alphabet.escapes(tokens).view(bool))
        block, position = order.places(escaped)
        if not np.array_equal(np.bincount(block, minlength=order.blocks), counts):
            raise Corrupt("a block does not hold its count of escapes", rule="RANS-3")
        if order.block:  # then a block is a run of elements
            return outliers
        ordered = np.empty(escaped.size, np.uint32)
        ordered[np.lexsort((position, block))] = outliers
        return ordered

    def join_tokens(self, alphabet: Alphabet, tokens: U8, raw: UInts | None, outliers: U32, out: UInts) -> None:
        """Turn tokens, raw bits and escaped values into values (``Alphabet.join``)."""
        alphabet.join(tokens, raw, outliers, out)
