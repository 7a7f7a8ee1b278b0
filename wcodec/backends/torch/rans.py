"""Interleaved rANS in torch, vectorised over the blocks and lanes of many sections (coding/rans.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wcodec.backends.torch.arrays import as_tensor, shifted, unsigned
from wcodec.backends.torch.calls import fail
from wcodec.coding.rans import POLYNOMIALS, Context, Job, Order
from wcodec.coding.tables import Tables
from wcodec.types import U32

NO_TABLES = Tables(12, np.zeros((2, 256), np.uint16))
MOST = 1 << 29
"""Symbols that are decoded together at most: indices are int32."""


@dataclass(frozen=True, slots=True)
class Window:
    """One section's window of tokens to decode (the first arguments of rans_decode), and where its status goes."""

    status: Tensor | None
    job: Job
    lut: U32
    states: U32
    offsets: U32
    words: Tensor


def decode(windows: Sequence[Window]) -> list[Tensor]:
    """Return the tokens of every window, those that can together. Fails with E-6, E-7."""
    found: list[Tensor | None] = [None] * len(windows)
    groups: dict[tuple[int, int], list[int]] = {}
    for i, window in enumerate(windows):
        order = window.job.order
        if not order.count:
            found[i] = torch.empty(0, dtype=torch.uint8, device=window.words.device)
        elif order.block and window.job.context.kind == "none" and window.lut.all():
            groups.setdefault((order.lanes, window.job.tables.precision), []).append(i)
        else:
            found[i] = _alone(window)
    for members in groups.values():
        for part in _runs(windows, members):
            for i, tokens in zip(part, _together([windows[i] for i in part]), strict=True):
                found[i] = tokens
    return [tokens for tokens in found if tokens is not None]


def _runs(windows: Sequence[Window], members: Sequence[int]) -> Iterator[list[int]]:
    """Cut into runs that indices can count."""
    run: list[int] = []
    size = 0
    for i in members:
        count = windows[i].job.order.blocks * windows[i].job.order.block
        if run and size + count > MOST:
            yield run
            run, size = [], 0
        run.append(i)
        size += count
    yield run


def _words(windows: Sequence[Window]) -> Tensor:
    """Return a zero, and the words of windows one after the other."""
    parts = [torch.zeros(1, dtype=torch.int16, device=windows[0].words.device)]
    for window in windows:
        even = window.words[: window.words.numel() // 2 * 2]
        if even.numel():
            parts.append((even if even.storage_offset() % 2 == 0 else even.clone()).view(torch.int16))
    return torch.cat(parts).int() & 0xFFFF


def _together(windows: Sequence[Window]) -> list[Tensor]:
    """Decode windows of linear order without contexts: all blocks side by side, longest first, so that none has to rest."""
    device, lanes = windows[0].words.device, windows[0].job.order.lanes
    row, precision = 4 * lanes, windows[0].job.tables.precision
    words = _words(windows)
    begin = np.cumsum([0, *(window.words.numel() // 2 for window in windows)])
    sizes = np.concatenate([window.job.order.sizes() for window in windows]).astype(np.int64)
    of = np.repeat(np.arange(len(windows)), [window.job.order.blocks for window in windows])
    first = np.concatenate([window.offsets[:-1].astype(np.int64) + at for window, at in zip(windows, begin, strict=False)])
    last = np.concatenate([window.offsets[1:].astype(np.int64) + at for window, at in zip(windows, begin, strict=False)])
    longest = np.argsort(-sizes, kind="stable")
    where = np.empty_like(longest)
    where[longest] = np.arange(longest.size)

    def put(array: np.ndarray, dtype: torch.dtype = torch.int32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

    lut = torch.cat([as_tensor(window.lut) for window in windows]).to(device)
    x = torch.cat([as_tensor(window.states).view(-1, lanes) for window in windows])[torch.from_numpy(longest)].to(device)
    at, end = put(first[longest])[:, None], put(last[longest])[:, None]
    table = put((of << precision)[longest])[:, None]
    ordered = sizes[longest]
    rows = -(-int(ordered[0]) // row)
    tokens = torch.empty(rows, 4, len(ordered), lanes, dtype=torch.uint8, device=device)
    place = torch.arange(lanes, device=device, dtype=torch.int32) * 4
    left = put(ordered)[:, None]
    step = _Step(lut, words, precision)
    for r in range(rows):
        active = int(np.searchsorted(-ordered, -r * row, side="left"))
        whole = int(np.searchsorted(-ordered, -(r + 1) * row, side="right"))
        for k in range(4):
            valid = None if whole == active else place + (r * row + k) < left[:active]
            step(x[:active], at[:active], table[:active], tokens[r, k, :active], valid)
    good = (x == 1 << 16).all(1, keepdim=True) & (at == end)
    good = good.view(-1)[put(where, torch.int64)]
    found, block = [], 0
    for window in windows:
        order = window.job.order
        count = order.blocks
        fail(window.status, "E-6", ~good[block : block + count])
        its = put(where[block : block + count], torch.int64)
        mine = tokens[: -(-order.block // row)].index_select(2, its).permute(2, 0, 3, 1).reshape(count, -1)
        found.append(mine[:, : order.block].reshape(-1)[: order.count])
        block += count
    return found


@dataclass(frozen=True, slots=True)
class _Step:
    """Decodes one symbol in every lane, in place. words: as int32, the first a zero."""

    lut: Tensor
    words: Tensor
    precision: int

    def __call__(self, x: Tensor, at: Tensor, table: Tensor, out: Tensor, valid: Tensor | None) -> None:
        slot = (x & ((1 << self.precision) - 1)).add_(table)
        entry = self.lut.index_select(0, slot.view(-1)).view(x.shape)
        out.copy_(entry >> 24)
        y = (entry >> 12).bitwise_and_(0xFFF).addcmul_(entry.bitwise_and_(0xFFF), shifted(x, self.precision))
        take = (y & -0x10000) == 0
        if valid is not None:
            take &= valid
        rank = take.cumsum(1, dtype=torch.int32)
        # Words beyond the block's, where bytes are damaged, do no harm: it will not end where it must.
        source = (at + rank).clamp_(0, self.words.numel() - 1)
        filled = self.words.index_select(0, source.view(-1)).view(x.shape).bitwise_or_(y << 16)
        if valid is None:
            torch.where(take, filled, y, out=x)
        else:
            x.copy_(torch.where(valid, torch.where(take, filled, y), x))
        at += rank[:, -1:]


def _alone(window: Window) -> Tensor:
    """Decode a window of any order and context."""
    job, device = window.job, window.words.device
    order, lanes, precision = job.order, job.order.lanes, job.tables.precision
    places = Places(job, device)
    out = torch.empty(order.count + 1, dtype=torch.uint8, device=device)  # the last one for what is not there
    words = _words([window])
    lut = as_tensor(window.lut).to(device)
    x = as_tensor(window.states).view(-1, lanes).to(device)
    x = x.clone()
    offsets = unsigned(as_tensor(window.offsets).to(device)).int()[:, None]
    at, end = offsets[:-1].clone(), offsets[1:]
    step = _Step(lut, words, precision)
    token = torch.empty(x.shape, dtype=torch.uint8, device=device)
    bad = torch.zeros(x.shape, dtype=torch.bool, device=device)
    for s in range(places.steps):
        element, valid = places.at(s)
        tables = places.tables(s, element)
        table = tables << precision
        bad |= (lut.index_select(0, (table + (x & ((1 << precision) - 1))).reshape(-1)).view(x.shape) == 0) & valid
        step(x, at, table, token, valid)
        out[torch.where(valid, element, order.count)] = token
        places.advance(s, token, valid)
    fail(window.status, "E-7", bad)
    fail(window.status, "E-6", (x != 1 << 16).any() | (at != end).any())
    return out[:-1]


def branches(order: Order, v: int, symbols: Tensor) -> Tensor:
    """Return z0 of every symbol of a window, in its element order (``coding.rans.branches``)."""
    places = Places(Job(order, Context("trellis", v), NO_TABLES), symbols.device)
    out = torch.zeros(order.count + 1, dtype=torch.uint8, device=symbols.device)
    for s in range(places.steps if order.count else 0):
        element, valid = places.at(s)
        out[torch.where(valid, element, order.count)] = places.branches(s).to(torch.uint8)
        places.advance(s, symbols[element], valid)
    return out[:-1]


class Places:
    """Where the symbols of a window stand, step by step, and which table each takes."""

    def __init__(self, job: Job, device: torch.device) -> None:
        order, lanes = job.order, job.order.lanes
        self.job, self._device = job, device
        high, wide = (1, order.block) if order.block else order.tile
        rows = 1 if order.block else order.count // max(order.cols, 1)
        cols = order.count if order.block else order.cols
        across = order.blocks if order.block else order.blocks_per_unit
        self._wide, self._cols = wide, cols
        block = torch.arange(order.blocks, device=device)[:, None]
        self._top, self._left = block // max(across, 1) * high, block % max(across, 1) * wide
        self._bottom, self._right = (self._top + high).clamp_(max=rows), (self._left + wide).clamp_(max=cols)
        self._lane = torch.arange(lanes, device=device)[None] * 4
        self.steps = -(-min(high, max(rows, 1)) * wide // (4 * lanes)) * 4
        width = order.width
        self._trellis = torch.zeros(order.blocks, -(-width // (4 * lanes)), lanes, 4, dtype=torch.int32, device=device)
        context = job.context
        if context.map is not None:
            self._map = as_tensor(context.map).to(device).view(context.map.shape).int()
            self._rows, self._columns = (
                None if its is None else as_tensor(its).to(device).long() for its in (context.rows, context.columns)
            )

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the elements (of the window) and whether they are there, [blocks, lanes]; those that are not have element 0."""
        position = step // 4 * 4 * self._lane.numel() + self._lane + step % 4
        row, column = self._top + position // self._wide, self._left + position % self._wide
        valid = (row < self._bottom) & (column < self._right)
        return torch.where(valid, row * self._cols + column, 0), valid

    def _states(self, step: int) -> Tensor:
        return self._trellis[:, step // 4 % self._trellis.shape[1], :, step % 4]

    def tables(self, step: int, element: Tensor) -> Tensor:
        """Return the table of every symbol of a step."""
        context, cols = self.job.context, max(self.job.order.cols, 1)
        branch = self.branches(step) if context.kind == "trellis" else torch.zeros(element.shape, dtype=torch.int32, device=self._device)
        if context.map is None:
            return branch
        flat = element + self.job.start
        row = 0 if self._rows is None else self._rows[flat // cols]
        column = 0 if self._columns is None else self._columns[flat % cols]
        found = self._map[row, column].expand(element.shape)
        return found << 1 | branch if context.kind == "trellis" else found

    def branches(self, step: int) -> Tensor:
        """Return z0 of every symbol of a step."""
        return self._states(step) & 1

    def advance(self, step: int, token: Tensor, valid: Tensor) -> None:
        """Step the trellises by the parities of the tokens."""
        if self.job.context.kind == "trellis":
            h0, h1 = POLYNOMIALS[self.job.context.trellis]
            state = self._states(step)
            after = (state >> 1) ^ (state & 1) * (h0 >> 1) ^ (token.int() & 1) * (h1 >> 1)
            state.copy_(torch.where(valid, after, state))
