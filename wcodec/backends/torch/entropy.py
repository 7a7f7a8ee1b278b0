"""Entropy coding in torch (numpy/entropy.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wcodec.backends.numpy.planes import Planes, Symbols
from wcodec.backends.torch import rans, rans_encode
from wcodec.backends.torch.arrays import as_array, as_tensor, unsigned
from wcodec.backends.torch.calls import Call, checked, fail, verb
from wcodec.backends.torch.codebook import TorchCodebook, look_up
from wcodec.backends.torch.masks import compact
from wcodec.backends.torch.planes import TorchPlanes, join, unpack
from wcodec.coding.rans import Job, Order
from wcodec.coding.tokens import Alphabet
from wcodec.types import U8, U32, U64


class TorchEntropy(TorchPlanes, TorchCodebook):
    """Tokens; a stream is joined with planes or looked up in a codebook right after it is decoded."""

    @checked
    def rans_decode(self, status: Tensor, job: Job, lut: U32, states: U32, offsets: U32, words: Tensor, out: Tensor) -> None:
        """Decode a window's tokens into out. Fails with E-6, E-7."""

    def rans_decode_many(self, calls: Sequence[Call]) -> None:
        """Decode the tokens of many windows. Arguments of a call: job, lut, states, offsets, words, out."""
        for call, tokens in zip(calls, decoded(calls), strict=True):
            call.arguments[5].copy_(tokens)

    @checked
    def rans_join(
        self, status: Tensor, job: Job, lut: U32, states: U32, offsets: U32, words: Tensor, symbols: Symbols, split: Planes,
        rest: Sequence[Tensor], out: Tensor,
    ) -> None:  # fmt: skip
        """Decode a window's tokens and join their symbols with rest planes into out."""

    def rans_join_many(self, calls: Sequence[Call]) -> None:
        """Decode and join many windows. Arguments of a call: those of rans_decode, but symbols, split, rest and out."""
        for call, tokens in zip(calls, decoded(calls), strict=True):
            symbols, split, rest, out = call.arguments[5:]
            join(split, symbols_of(tokens, symbols, split), planes_of(rest, symbols, split, out.numel()), out)

    @checked
    def rans_gather(
        self, status: Tensor, job: Job, lut: U32, states: U32, offsets: U32, words: Tensor, centroids: Tensor, width: int, out: Tensor
    ) -> None:
        """Decode a window's tokens and write the centroids that they number to out. Fails with E-6, E-7, CODEBOOK-2."""

    def rans_gather_many(self, calls: Sequence[Call]) -> None:
        """Decode and look up many windows. Arguments of a call: those of rans_decode, but centroids, width and out."""
        for call, tokens in zip(calls, decoded(calls), strict=True):
            assert call.status is not None
            centroids, width, out = call.arguments[5:]
            look_up(call.status, centroids, width, tokens, out)

    def rans_histogram(self, job: Job, tokens: Any) -> U64:
        """Count the tokens of a window per table; with contexts, on the host."""
        if job.context.kind != "none":
            return self.near.rans_histogram(job, self.to_host(tokens))
        counts: U64 = as_array(torch.bincount(tokens, minlength=256)).reshape(1, 256)
        return counts

    def rans_encode(self, job: Job, tokens: Any, words: U8) -> tuple[U32, U32, int]:
        """Encode a window's tokens, writing the words to ``words`` in numpy's memory; with contexts or tiles, on the host."""
        if job.context.kind != "none" or not job.order.block or not job.order.count:
            return self.near.rans_encode(job, self.to_host(tokens), words)
        states, per_block, made = rans_encode.encode(job, tokens)
        if made.numel() <= words.size:
            words[: made.numel()] = self.to_host(made)
        return self.to_host(states), self.to_host(per_block), made.numel()

    def order_outliers(self, alphabet: Alphabet, order: Order, counts: U32, tokens: Any, outliers: Any) -> Any:
        """Return the escaped values in the order of elements. Fails with RANS-3 unless every block holds its count of escapes."""
        out = self.empty(len(outliers), np.dtype(np.uint32))
        self._order_outliers(alphabet, order, counts, tokens, outliers, out)
        return out

    @checked
    def _order_outliers(
        self, status: Tensor, alphabet: Alphabet, order: Order, counts: U32, tokens: Tensor, outliers: Tensor, out: Tensor
    ) -> None:
        escaped = (tokens >> int(alphabet.trellis)) == alphabet.escape >> alphabet.trellis
        stated = unsigned(as_tensor(counts).to(self.device))
        if order.block:  # then a block is a run of elements
            padded = torch.zeros(order.blocks * order.block, dtype=torch.bool, device=self.device)
            padded[: escaped.numel()] = escaped
            fail(status, "RANS-3", padded.view(order.blocks, -1).sum(1) != stated)
            out.copy_(outliers)
            return
        sizes = order.sizes().astype(np.int64)
        elements = [order.elements(b)[1].astype(np.int64) for b in range(order.blocks)]
        places = torch.from_numpy(np.concatenate(elements or [np.empty(0, np.int64)])).to(self.device)
        by_block = escaped[places]
        of = torch.from_numpy(np.repeat(np.arange(order.blocks), sizes)).to(self.device)
        found = torch.zeros(order.blocks, dtype=torch.int64, device=self.device).index_add_(0, of, by_block.long())
        fail(status, "RANS-3", found != stated)
        if not out.numel():
            return
        spread = torch.zeros(tokens.numel(), dtype=out.dtype, device=self.device)
        spread[places] = outliers[(by_block.cumsum(0) - 1).clamp_(0, outliers.numel() - 1)]
        compact(escaped, spread, out)

    @verb
    def join_tokens(self, alphabet: Alphabet, tokens: Tensor, raw: Tensor | None, outliers: Tensor, out: Tensor) -> None:
        """Turn tokens, raw bits and escaped values into values (``Alphabet.join``)."""
        kind = torch.int64 if out.element_size() > 2 else torch.int32
        k = tokens.to(kind) >> int(alphabet.trellis)
        h = k + alphabet.base
        if alphabet.zero:
            h = torch.where(k == 0, 0, h)
        if alphabet.escape >= 0 and outliers.numel():
            escaped = k == alphabet.escape >> alphabet.trellis
            rank = (escaped.cumsum(0) - 1).clamp_(0, outliers.numel() - 1)
            h = torch.where(escaped, unsigned(outliers).to(kind)[rank], h)
        value = h << alphabet.shift
        if raw is not None:
            value |= (unsigned(raw).to(kind) & ((1 << alphabet.bits) - 1)) << int(alphabet.trellis)
        if alphabet.trellis:
            value |= tokens.to(kind) & 1
        out.copy_(value.to(out.dtype))


def decoded(calls: Sequence[Call]) -> list[Tensor]:
    """Return the tokens of calls that begin with job, lut, states, offsets and words."""
    return rans.decode([rans.Window(call.status, *call.arguments[:5]) for call in calls])


def symbols_of(tokens: Tensor, symbols: Symbols, split: Planes) -> Tensor:
    """Return what tokens stand for."""
    if not symbols.base:
        return tokens
    found = tokens.int() + symbols.base
    if symbols.zero:
        found = torch.where(tokens == 0, 0, found)
    return found.to(torch.uint8 if split.bits - split.rest <= 8 else torch.int16)


def planes_of(rest: Sequence[Tensor], symbols: Symbols, split: Planes, count: int) -> list[Tensor]:
    """Return the rest planes, the top one unpacked."""
    if not symbols.packed:
        return list(rest)
    top = torch.empty(count, dtype=torch.uint8, device=rest[-1].device)
    unpack(rest[-1], split.rest % 8, 0, top)
    return [*rest[:-1], top]
