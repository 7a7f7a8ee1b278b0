"""Nets in integers (spec/net.md): all operations of some chunks by one program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from wcodec.backends.torch.calls import Call
from wcodec.backends.torch.net import TorchNet
from wcodec.backends.triton.launch import Loose, Work, extent, launch, variant
from wcodec.backends.triton.rans_sections import Sent
from wcodec.backends.triton.tile import place, pointer
from wcodec.coding import net as nets
from wcodec.coding.net import CODES, Gate, Linear, Net, Op, Requantise, Residual

CHUNK = tl.constexpr(nets.CHUNK)
LINEAR, REQUANTISE, GATE = tl.constexpr(CODES[Linear]), tl.constexpr(CODES[Requantise]), tl.constexpr(CODES[Gate])
RESIDUAL = tl.constexpr(CODES[Residual])
HEAD = tl.constexpr(4)
"""Numbers that say what an operation is: code, low, high, where its weights or factors begin."""
WIDTHS = {32: 32, 64: 32}
"""Numbers that x is filled up to, of which products of matrices demand 32 or more, and how many chunks a program then has.

More of either do not fit the registers of every GPU.
"""


@triton.jit
def net_kernel(rows, sections, W: tl.constexpr, N: tl.constexpr, ALIGN: tl.constexpr):
    """Section: latents, out, chunks, columns, clip, shift, operations, their heads, numbers, weights, levels, are they of columns.

    x is [W, N] in 32-bit integers, whose products and sums cannot be too large (NET-3, NET-4); rows beyond the net's are 0 throughout.
    """
    row, block = place(rows, sections, 13)
    chunk, i = block * N + tl.arange(0, N), tl.arange(0, W)
    inside, cols = chunk < tl.load(row + 3), tl.load(row + 4)
    column = chunk % cols
    element = ((chunk - column) * CHUNK + column)[None, :] + i[:, None] * cols
    mask = inside[None, :] & (i < CHUNK)[:, None]
    latent = tl.load(pointer(row, 1, tl.float32, 4) + element, mask=mask, other=0).to(tl.int32)
    clip, heads = tl.load(row + 5).to(tl.int32), pointer(row, 8, tl.int32, 16)
    numbers, weights = pointer(row, 9, tl.int32, 16), pointer(row, 10, tl.int8, 16)
    level = tl.load(pointer(row, 11, tl.uint8, 1) + column * tl.load(row + 12), mask=inside, other=0).to(tl.int32)
    x = tl.minimum(tl.maximum(latent, -clip), clip)
    saved = x
    for at in range(tl.load(row + 7).to(tl.int32)):
        head = heads + at * HEAD
        code, number = tl.load(head), tl.load(numbers + at * W + i)[:, None]
        its = weights + tl.load(head + 3)
        if code == LINEAR:
            x = tl.dot(tl.load(its + (i[:, None] * W + tl.arange(0, W)[None, :])), x.to(tl.int8), out_dtype=tl.int32) + number
        elif code == REQUANTISE:
            x = (x + (tl.full([W, 1], 1, tl.int32) << number >> 1)) >> number
            x = tl.minimum(tl.maximum(x, -tl.load(head + 1)), tl.load(head + 2))
        elif code == GATE:
            x = x * tl.load(its + (level[None, :] * W + i[:, None])).to(tl.int32)
        elif code == RESIDUAL:
            x = x + (saved << number)
        else:
            saved = x
    found = latent * (tl.full([], 1, tl.int32) << tl.load(row + 6).to(tl.int32)) + x
    tl.store(pointer(row, 2, tl.float32, 4) + element, found.to(tl.float32), mask=mask)


class TritonNet(TorchNet):
    """Nets by a kernel; wide ones by torch's products of matrices."""

    def run_net_many(self, calls: Sequence[Call]) -> None:
        """Run the nets of many sections, each on its flat matrix of integers."""
        narrow = []
        for call in calls:
            if _width(call.arguments[0]) > max(WIDTHS):
                TorchNet.run_net.one(self, *call.arguments)  # type: ignore[attr-defined]
            else:
                narrow.append(call)
        if narrow:
            _launch(narrow, self.device)


def _width(net: Net) -> int:
    return max([nets.CHUNK, *(len(op.weights) for op in net.ops if isinstance(op, Linear))])


def _launch(calls: Sequence[Call], device: torch.device) -> None:
    sent, known = Sent(), dict[int, tuple[int, ...]]()
    rows = []
    for call in calls:
        net, _, _, levels, _ = call.arguments
        if id(net) not in known:
            known[id(net)] = _send(net, sent)
        rows.append((*known[id(net)], sent.add(np.array([levels], np.uint8) if isinstance(levels, int) else levels)))
    small = sent.to(device)
    begin = small.data_ptr()
    work = []
    for call, places in zip(calls, rows, strict=True):
        net, latents, cols, levels, out = call.arguments
        wide = next(wide for wide in WIDTHS if wide >= _width(net))
        if extent(latents, out) % (nets.CHUNK * max(cols, 1)) or (not isinstance(levels, int) and levels.size != cols):
            raise ValueError("latents, outputs and levels of a net do not fit its columns")
        chunks, constants = latents.numel() // nets.CHUNK, {"W": wide, "N": WIDTHS[wide]}
        tables = [begin + at for at in places]
        fields = (
            Loose(latents),
            Loose(out),
            chunks,
            max(cols, 1),
            net.clip,
            net.shift,
            len(net.ops),
            *tables,
            int(not isinstance(levels, int)),
        )
        work.append(Work(-(-chunks // WIDTHS[wide]), fields, constants))
    launch(net_kernel, work)


def _send(net: Net, sent: Sent) -> tuple[int, ...]:
    """Add the heads, numbers and weights of a net, filled up with zeros; return where they will stand."""
    wide = next(wide for wide in WIDTHS if wide >= _width(net))
    heads, numbers = np.zeros((len(net.ops), HEAD.value), np.int32), np.zeros((len(net.ops), wide), np.int32)
    weights: list[npt.NDArray[np.int8]] = []
    size = 0
    for op, head, number in zip(net.ops, heads, numbers, strict=True):
        head[0], head[3] = CODES[type(op)], size
        its = _weights(op, wide)
        if isinstance(op, Linear):
            number[: op.bias.size] = op.bias
        elif isinstance(op, Requantise | Residual):
            number[: op.shifts.size] = op.shifts
        if isinstance(op, Requantise):
            head[1:3] = op.low, op.high
        weights.append(its)
        size += its.size
    return sent.add(heads), sent.add(numbers), sent.add(np.concatenate([np.empty(0, np.int8), *weights]))


def _weights(op: Op, wide: int) -> npt.NDArray[np.int8]:
    """Return weights or factors, filled up with zeros to [wide, wide] or [levels, wide], flat."""
    if not isinstance(op, Linear | Gate):
        return np.empty(0, np.int8)
    its: Any = op.weights if isinstance(op, Linear) else op.factors
    found = np.zeros((wide if isinstance(op, Linear) else len(its), wide), np.int8)
    found[: its.shape[0], : its.shape[1]] = its
    return found.reshape(-1)


KERNELS = [variant(f"net of {wide} numbers", net_kernel, W=wide, N=chunks) for wide, chunks in WIDTHS.items()]
