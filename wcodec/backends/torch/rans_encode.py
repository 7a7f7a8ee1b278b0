"""Encoding tokens by interleaved rANS in torch, all blocks side by side (coding/rans.py)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wcodec.coding.rans import LOW, Job


def encode(job: Job, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Encode a window of linear order without contexts. Returns states [blocks, W] and words per block, int32, and the words' bytes."""
    order, precision, device = job.order, job.tables.precision, tokens.device
    blocks, lanes = order.blocks, order.lanes
    row = 4 * lanes
    rows = -(-min(order.block, order.count) // row)
    padded = torch.zeros(blocks, rows * row, dtype=torch.uint8, device=device)
    whole = order.count // order.block
    if whole:
        padded[:whole, : order.block] = tokens[: whole * order.block].view(whole, -1)
    if whole < blocks:
        padded[whole, : order.count - whole * order.block] = tokens[whole * order.block :]
    steps = padded.view(blocks, rows, lanes, 4).permute(1, 3, 0, 2).reshape(4 * rows, blocks, lanes)
    frequency = torch.from_numpy(np.maximum(job.tables.frequencies[0].astype(np.int64), 1)).to(device)
    start = torch.from_numpy(job.tables.starts()[0].astype(np.int64)).to(device)
    sizes = torch.from_numpy(order.sizes().astype(np.int64)).to(device)[:, None]
    place = torch.arange(lanes, device=device)[None] * 4
    x = torch.full((blocks, lanes), LOW, dtype=torch.int64, device=device)
    emitted = torch.zeros(blocks, 4 * rows, lanes, dtype=torch.bool, device=device)
    words = torch.zeros(blocks, 4 * rows, lanes, dtype=torch.int16, device=device)
    full = int(order.sizes().min()) // row * 4
    for step in range(4 * rows - 1, -1, -1):
        token = steps[step].int()
        f = frequency.index_select(0, token.view(-1)).view(x.shape)
        c = start.index_select(0, token.view(-1)).view(x.shape)
        emit, valid = x >> (32 - precision) >= f, None
        if step >= full:
            valid = place + (step // 4 * row + step % 4) < sizes
            emit &= valid
        emitted[:, step], words[:, step] = emit, x.to(torch.int16)
        y = torch.where(emit, x >> 16, x)
        quotient = torch.div(y, f, rounding_mode="floor")
        after = (quotient << precision) + (y - quotient * f) + c
        x = after if valid is None else torch.where(valid, after, x)
    per_block = emitted.view(blocks, -1).sum(1, dtype=torch.int32)
    return x.to(torch.int32), per_block, words[emitted].view(torch.uint8)
