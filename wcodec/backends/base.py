"""The verbs that codecs call, each defined by numpy; a faster backend overrides one and must give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wcodec.coding import bits, codebook, floats, masks, mt19937, philox, rans, sampling, uniform
from wcodec.coding.numbers import check_subnormals, from_float32
from wcodec.coding.tables import Tables
from wcodec.coding.tokens import Alphabet
from wcodec.coding.uniform import F32, Grid
from wcodec.errors import Corrupt
from wcodec.types import U8, U32, U64, DType, UInts

COUNTED = 4096
"""Tokens of a run, of which ``split_tokens`` counts the first."""


@dataclass(frozen=True, slots=True)
class Planes:
    """How storage elements split (spec/codecs/planes.md). bits: n. rest: r. sign: where the top bit went."""

    bits: int
    rest: int
    sign: int

    @property
    def count(self) -> int:
        """Number of rest planes."""
        return -(-self.rest // 8)


@dataclass(frozen=True, slots=True)
class Symbols:
    """How tokens stand for symbols: token + base, but 0 for token 0 when ``zero``; packed: the top rest plane is packed bits."""

    base: int = 0
    zero: bool = False
    packed: bool = False


class Backend:
    """The numpy backend: reference for all others.

    Arrays are one-dimensional and contiguous; callers have checked sizes and ranges, so only damaged entropy-coded words can fail.
    """

    name = "numpy"

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

    def choose_split(self, x: UInts, widest: int) -> tuple[int, int, int]:
        """Choose by a sample how floats split. Returns rest bits, place of the sign and the highest symbol seen.

        widest: bits of the widest symbol considered, without the sign.
        """
        return sampling.choose_split(x, widest)

    def is_noise(self, plane: U8) -> bool:
        """Tell by a sample whether bytes look as if they had 8 bits of entropy each."""
        return sampling.is_noise(plane)

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

    def split_tokens(self, split: Planes, x: UInts, base: int, every: int, tokens: U8, rest: Sequence[U8]) -> tuple[U64, U8, int, int]:
        """Split elements into tokens max(symbol − base, 0) mod 256 and rest planes, written to the arrays given.

        A top plane of fewer than 8 bits is written packed. Returns counts [256] of the first 4,096 / every of every 4,096 tokens,
        1 for each of the 256 that the others hold and 0 for the rest, lowest symbol above 0 (2^8, or 2^16 for wide ones, without
        one) and highest symbol: do tokens stand for the symbols?
        """
        symbol, planes = self.split_planes(split, x)
        low = symbol.dtype.type(base) if base <= np.iinfo(symbol.dtype).max else symbol.dtype.type(np.iinfo(symbol.dtype).max)
        tokens[:] = (np.maximum(symbol, low) - low).astype(np.uint8)
        if split.rest % 8:
            planes[-1] = self.pack_bits(planes[-1], split.rest % 8, 0)
        for plane, out in zip(planes, rest, strict=True):
            out[:] = plane
        lowest = int((symbol - symbol.dtype.type(1)).min(initial=np.iinfo(symbol.dtype).max)) + 1
        counted = np.arange(x.size) % COUNTED < COUNTED // every
        counts = np.bincount(tokens[counted], minlength=256).astype(np.uint64)
        seen = (np.bincount(tokens[~counted], minlength=256) > 0).astype(np.uint8)
        return counts, seen, lowest, int(symbol.max(initial=0))

    def split_planes(self, split: Planes, x: UInts) -> tuple[UInts, list[U8]]:
        """Split elements into symbols (U8, or U16 above 8 bits) and rest planes, lowest first."""
        return floats.split(x, split.bits, split.rest, split.sign)

    def join_planes(self, split: Planes, symbol: UInts, rest: Sequence[U8], out: UInts) -> None:
        """Join symbols and rest planes into out."""
        floats.join(symbol, rest, split.bits, split.rest, split.sign, out)

    def gather(self, centroids: UInts, width: int, indices: UInts, out: UInts) -> None:
        """Write the centroids, of ``width`` elements each, at the indices (U8 or U16) to out. Raises Corrupt [CODEBOOK-2]."""
        codebook.gather(centroids, width, indices, out)

    def pack_bits(self, x: UInts, width: int, base: int) -> U8:
        """Pack (x − base) mod 2^n, which fit ``width`` bits, without gaps."""
        return bits.pack(x, width, base)

    def unpack_bits(self, data: U8, width: int, base: int, out: UInts) -> None:
        """Unpack values of ``width`` bits, the first at bit 0 of data, add base and store them in out."""
        bits.unpack(data, width, base, out)

    def byte_positions(self, mask: U8) -> U32:
        """Return the ascending positions of the bytes that are not zero."""
        return masks.from_bytes(mask)

    def bit_positions(self, bits: U8, count: int) -> U32:
        """Return the ascending positions of the set bits among the first ``count``, lowest bit of byte 0 first."""
        return masks.from_bits(bits, count)

    def gap_positions(self, gaps: UInts, counts: U32, block: int, out: U32) -> bool:
        """Write positions from gaps; tell whether all lie in their blocks (``masks.from_gaps``)."""
        return masks.from_gaps(gaps, counts, block, out)

    def scatter(self, positions: U32, values: UInts, out: UInts, clear: bool) -> None:
        """Write values to ascending positions of out; ``clear``: and zeros everywhere else."""
        masks.scatter(positions, values, out, clear)

    def join_tokens(self, alphabet: Alphabet, tokens: U8, raw: UInts | None, outliers: U32, out: UInts) -> None:
        """Turn tokens, raw bits and escaped values into values (``Alphabet.join``)."""
        alphabet.join(tokens, raw, outliers, out)

    def philox_fill(
        self, seed: int, id: int, stream: int, kind: str, scale: float, decay: float, start: int, out: npt.NDArray[np.float32]
    ) -> None:
        """Write elements start … of a stream of random numbers (spec/rng.md). kind: uniform or normal."""
        philox.fill(seed, id, stream, kind, scale, decay, start, out)

    def philox_draw(self, seed: int, id: int, stream: int, threshold: int, start: int, out: U8) -> int:
        """Write 1 where the word of element start … is below threshold, else 0; return the number of ones."""
        return philox.draw(seed, id, stream, threshold, start, out)

    def mt19937_fill(self, seed: int, offset: int, low: float, high: float, out: npt.NDArray[np.float32]) -> None:
        """Write what torch's uniform_(low, high) makes of the words from ``offset`` on."""
        mt19937.fill(seed, offset, low, high, out)

    def dequantise(self, grid: Grid, start: int, symbols: UInts, steps: F32, zero: int, levels: int, dtype: DType, out: UInts) -> None:
        """Write step · (symbol − zero), rounded to a float dtype, for elements from ``start`` on; steps: those of the window's span.

        Raises Corrupt [UNIFORM-3].
        """
        if symbols.size and int(symbols.max()) >= levels:
            raise Corrupt(f"a symbol is not below {levels}", rule="UNIFORM-3")
        check_subnormals()
        values = out.view(np.float32) if dtype.name == "F32" else np.empty(out.size, np.float32)
        uniform.dequantise(grid, start, symbols, steps, zero, values)
        self.round_floats(values, dtype, out)

    def quantise(self, grid: Grid, start: int, x: F32, steps: F32, zero: int, levels: int, out: UInts) -> None:
        """Write the symbols nearest to x / step (ties to even), cut off at 0 and levels − 1; ``zero`` where the step is 0."""
        check_subnormals()
        uniform.quantise(grid, start, x, steps, zero, levels, out)

    def add_floats(self, total: F32, x: F32) -> None:
        """Add x to total in float32. Raises Corrupt [SUM-2] when an element of x is not finite."""
        if not np.isfinite(x).all():
            raise Corrupt("an element of a sum is infinite or no number", rule="SUM-2")
        check_subnormals()
        with np.errstate(over="ignore"):
            np.add(total, x, out=total)

    def matmul(self, a: F32, b: F32, out: F32) -> None:
        """Write the product of two float32 matrices: sums of float32 products in any order, each operation rounded (or a fused one)."""
        check_subnormals()
        with np.errstate(over="ignore", invalid="ignore"):
            np.matmul(a, b, out=out)

    def round_floats(self, values: F32, dtype: DType, out: UInts) -> None:
        """Round float32 to a float dtype, ties to even; out may be the same memory when that is F32."""
        found = from_float32(values, dtype)
        if not np.may_share_memory(found, out):
            out[:] = found

    def same(self, a: UInts, b: UInts) -> bool:
        """Compare two arrays of one dtype and size bit for bit."""
        return bool(np.array_equal(a, b))
