"""Bits of storage elements in torch (numpy/planes.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wcodec.backends.numpy.planes import COUNTED, Planes
from wcodec.backends.torch.arrays import as_array, shifted, signed, unsigned
from wcodec.backends.torch.calls import verb
from wcodec.backends.torch.memory import TorchMemory
from wcodec.coding import sampling
from wcodec.coding.floats import IN_SYMBOL, LAST
from wcodec.types import U64

GROUP = 8
"""Packed values that fill whole bytes, whatever their width."""


def wide(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return unsigned elements of at most 16 bits, or ones of dtype's own size, in dtype."""
    return x if x.dtype == dtype else unsigned(x).to(dtype)


def join(split: Planes, symbol: Tensor, rest: Sequence[Tensor], out: Tensor) -> None:
    """Write the elements that symbols and rest planes describe (``coding.floats.join``)."""
    kind = torch.int64 if split.bits == 64 else torch.int32
    low = torch.zeros(out.numel(), dtype=kind, device=out.device)
    for i, plane in enumerate(rest):
        low |= plane.to(kind) << (8 * i)
    low &= signed((1 << split.rest) - 1, 8 * low.element_size())
    upper = wide(symbol, kind)
    if split.sign == IN_SYMBOL:
        v = (upper >> 1 << split.rest) | low | (upper << (split.bits - 1))
    else:
        v = (upper << split.rest) | low
        if split.sign == LAST:
            below = v & ((1 << split.bits) - 1) if split.bits < 32 else v
            v = shifted(below, 1) | (v << (split.bits - 1))
    out.copy_(v.to(out.dtype))


def split_elements(split: Planes, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the symbols, in the dtype that is wide enough, and the rest planes, lowest first."""
    kind = torch.int64 if split.bits == 64 else torch.int32
    mask = signed((1 << split.bits) - 1, 64 if split.bits == 64 else 32)
    e = wide(x, kind)
    top = shifted(e, split.bits - 1) & 1
    v = ((e << 1) | top) & mask if split.sign == LAST else e
    upper = shifted(v, split.rest)
    if split.sign == IN_SYMBOL:
        upper = shifted(e & ((1 << split.bits - 1) - 1), split.rest) << 1 | top
    planes = [shifted(v, at).to(torch.uint8) for at in range(0, split.rest, 8)]
    if split.rest % 8:
        planes[-1] &= (1 << split.rest % 8) - 1
    return upper.to(torch.uint8 if split.bits - split.rest <= 8 else torch.int16), planes


def unpack(data: Tensor, width: int, base: int, out: Tensor) -> None:
    """Unpack values of ``width`` bits and add base mod 2^n."""
    count = out.numel()
    groups = -(-count // GROUP)
    rows = torch.zeros(groups * width, dtype=torch.uint8, device=out.device)
    used = min(-(-count * width // 8), data.numel())
    rows[:used] = data[:used]
    table = rows.view(groups, width)
    kind = torch.int64 if width > 24 or out.element_size() == 8 else torch.int32
    found = torch.empty(groups, GROUP, dtype=out.dtype, device=out.device)
    for i in range(GROUP):
        first, shift = divmod(i * width, 8)
        last = -(-(i * width + width) // 8)
        value = torch.zeros(groups, dtype=kind, device=out.device)
        for k, at in enumerate(range(first, min(last, first + 8))):
            value |= table[:, at].to(kind) << (8 * k)
        value = shifted(value, shift)
        if last - first > 8:
            value |= table[:, last - 1].to(kind) << (64 - shift)
        if width < 8 * value.element_size():
            value &= (1 << width) - 1
        found[:, i] = (value + signed(base, 8 * out.element_size()) if base else value).to(out.dtype)
    out.copy_(found.view(-1)[:count])


def pack(x: Tensor, width: int, base: int) -> Tensor:
    """Pack (x − base) mod 2^n, which fit ``width`` bits."""
    groups, bits = -(-x.numel() // GROUP), 8 * x.element_size()
    values = torch.zeros(groups * GROUP, dtype=torch.int64, device=x.device)
    values[: x.numel()] = unsigned(x).long() - signed(base, 64)
    if bits < 64:
        values &= (1 << bits) - 1
    values = values.view(groups, GROUP)
    found = torch.empty(groups, width, dtype=torch.uint8, device=x.device)
    for at in range(width):
        byte = torch.zeros(groups, dtype=torch.int64, device=x.device)
        for i in range(GROUP):
            place = i * width - 8 * at
            if -width < place < 8:
                byte |= values[:, i] << place if place >= 0 else shifted(values[:, i], -place)
        found[:, at] = (byte & 0xFF).to(torch.uint8)
    return found.view(-1)[: -(-x.numel() * width // 8)]


class TorchPlanes(TorchMemory):
    """Storage elements as bits."""

    def choose_split(self, x: Any, widest: int) -> tuple[int, int, int]:
        """Choose by a sample how floats split, on the host."""
        return sampling.choose_split(self.sample(x), widest, x.numel())

    def is_noise(self, plane: Any) -> bool:
        """Tell by a sample whether bytes look like noise, on the host."""
        return sampling.is_noise(self.sample(plane))

    def split_tokens(self, split: Planes, x: Any, base: int, every: int, tokens: Any, rest: Sequence[Any]) -> tuple[U64, Any, int, int]:
        """Split elements into tokens and rest planes; counts come back to the host."""
        symbol, planes = split_elements(split, x)
        value = unsigned(symbol)
        tokens.copy_((value - base).clamp_(min=0).to(torch.uint8))
        if split.rest % 8:
            planes[-1] = pack(planes[-1], split.rest % 8, 0)
        for plane, out in zip(planes, rest, strict=True):
            out.copy_(plane)
        above = 1 << (8 if symbol.dtype == torch.uint8 else 16)
        extremes = torch.stack([torch.where(value == 0, above, value).amin(), value.amax()]).tolist() if x.numel() else [above, 0]
        counted = torch.arange(x.numel(), device=x.device) % COUNTED < COUNTED // every
        counts = torch.bincount(tokens[counted], minlength=256)
        others = torch.bincount(tokens, minlength=256) - counts
        seen = (others > 0).to(torch.uint8)
        return as_array(counts).astype(np.uint64), as_array(seen), extremes[0], extremes[1]

    def split_planes(self, split: Planes, x: Any) -> tuple[Any, list[Any]]:
        """Split elements into symbols and rest planes, lowest first."""
        return split_elements(split, x)

    def strays(self, split: Planes, x: Any, base: int) -> Any:
        """Return where symbols are neither 0 nor within 255 above base, in numpy's memory."""
        symbol = unsigned(split_elements(split, x)[0])
        stray = ((symbol <= base) & (symbol > 0)) | (symbol > base + 255)
        return stray.nonzero().view(-1).cpu().numpy().astype(np.intp)

    @verb
    def join_planes(self, split: Planes, symbol: Tensor, rest: Sequence[Tensor], out: Tensor) -> None:
        """Join symbols and rest planes into out."""
        join(split, symbol, rest, out)

    def pack_bits(self, x: Any, width: int, base: int) -> Any:
        """Pack (x − base) mod 2^n, which fit ``width`` bits."""
        return pack(x, width, base)

    @verb
    def unpack_bits(self, data: Tensor, width: int, base: int, out: Tensor) -> None:
        """Unpack values of ``width`` bits, add base and store them in out."""
        unpack(data, width, base, out)

    def same(self, a: Any, b: Any) -> bool:
        """Compare two tensors bit for bit; waits for them."""
        return bool(torch.equal(a, b))
