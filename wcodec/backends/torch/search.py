"""The Viterbi search of the trellis codec in torch, vectorised over columns: a step per row (coding/trellis_search.py)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wcodec.backends.torch.arrays import STORAGE, as_array, as_tensor
from wcodec.backends.torch.floats import TorchFloats, plainly
from wcodec.coding.trellis_search import F32, Moments, Piece, Search, state_before
from wcodec.types import U8

MOST = 1 << 27
"""States of steps and columns that are searched together at most: a byte each."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Symbols chosen, without ``zero``, and the parities of the states that they follow, [steps, columns]."""

    symbols: Tensor
    parities: Tensor


class TorchSearch(TorchFloats):
    """The Viterbi search: the float32 operations of numpy's in their order, so that an encoder makes the same file."""

    def trellis_search(self, how: Search, x: Any, weights: Any, classes: U8 | None, out: Any, moments: Moments | None = None) -> None:
        """Write the symbols of the cheapest path of every column (``wcodec.coding.trellis_search.search``).

        x, weights, out: tensors [steps, columns]. classes and moments are the host's; with moments, waits for the device.
        """
        pairs = None if classes is None else as_tensor(classes).to(self.device).long()[:, None]
        low, high = how.limits(8 * out.element_size())
        with plainly(self.device):
            found = self._search(how, x, weights, pairs, low, high)
            if moments is not None:
                self._add(how, x, pairs, found, moments)
        out.copy_(found.symbols + how.zero)

    def trellis_search_pieces(self, how: Search, pieces: Iterable[Piece], moments: Moments) -> None:
        """Search many pieces, which stand in memory of the host: those of as many steps side by side."""
        waiting: dict[tuple[int, np.dtype[np.generic]], list[Piece]] = {}
        for its in pieces:
            steps, columns = its.x.shape
            group = waiting.setdefault((steps, its.out.dtype), [])
            group.append(its)
            if sum(one.x.shape[1] for one in group) * max(steps, 1) << how.v >= MOST or not columns:
                self._together(how, group, moments)
                group.clear()
        for group in waiting.values():
            self._together(how, group, moments)

    def _together(self, how: Search, pieces: Sequence[Piece], moments: Moments) -> None:
        if not sum(its.x.size for its in pieces):
            return
        x = self._side_by_side([its.x for its in pieces])
        weights = None
        if any(its.weights is not None for its in pieces):
            weights = self._side_by_side([np.ones_like(its.x) if its.weights is None else its.weights for its in pieces])
        pairs = None
        if any(its.classes is not None for its in pieces):
            steps = len(pieces[0].x)
            of_pieces = [np.zeros(steps, np.uint8) if its.classes is None else its.classes for its in pieces]
            repeats = torch.tensor([its.x.shape[1] for its in pieces], device=self.device)
            pairs = as_tensor(np.stack(of_pieces)).view(-1, steps).to(self.device).long().T.repeat_interleave(repeats, 1)
        low, high = how.limits(8 * pieces[0].out.itemsize)
        with plainly(self.device):
            found = self._search(how, x, weights, pairs, low, high)
            self._add(how, x, pairs, found, moments)
        dtype = STORAGE[pieces[0].out.itemsize]
        symbols = as_array((found.symbols + how.zero).to(dtype)).view(pieces[0].out.dtype)
        ends = list(accumulate(its.x.shape[1] for its in pieces))
        for its, end in zip(pieces, ends, strict=True):
            its.out[:] = symbols[:, end - its.x.shape[1] : end]

    def _side_by_side(self, parts: Sequence[F32]) -> Tensor:
        return torch.from_numpy(np.concatenate(parts, axis=1)).to(self.device)

    def _search(self, how: Search, x: Tensor, weights: Tensor | None, pairs: Tensor | None, low: float, high: float) -> _Found:
        """Search columns. pairs: the class of every step, [steps, 1], or of every element."""
        steps, columns = x.shape
        states = 1 << how.v
        after = np.arange(states)
        before = [torch.from_numpy(state_before(after, after >> (how.v - 1), z1, how.v)).to(self.device) for z1 in (0, 1)]
        branches, picks = self._branches(how, x.clamp(float(np.float32(low)), float(np.float32(high))), weights, pairs)
        cost = torch.full((states, columns), torch.inf, device=self.device)
        cost[0] = 0
        kept = torch.empty(steps, states, columns, dtype=torch.bool, device=self.device)
        for t in range(steps):
            branch = branches[t] - cost[0]
            even, odd = (
                (cost.index_select(0, before[z1]).view(2, states // 2, columns) + branch[:, z1, None]).view(states, columns)
                for z1 in (0, 1)
            )
            torch.lt(odd, even, out=kept[t])
            cost = torch.where(kept[t], odd, even)
        numbers = torch.arange(states, device=self.device)[:, None]
        state = torch.where(cost == cost.amin(0), numbers, states).amin(0)
        table, symbols = torch.stack(before), torch.empty(steps, columns, dtype=torch.int32, device=self.device)
        parities = torch.empty(steps, columns, dtype=torch.int64, device=self.device)
        column = torch.arange(columns, device=self.device)
        for t in range(steps - 1, -1, -1):
            z1, parities[t] = kept[t, state, column].long(), state >> (how.v - 1)
            symbols[t] = picks[t, parities[t], z1, column]
            state = table[z1, state]
        return _Found(symbols, parities)

    def _branches(self, how: Search, x: Tensor, weights: Tensor | None, pairs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the least cost of a symbol of parity z1 after z0, and that symbol, [steps, z0, z1, columns]."""
        entries = how.costs.shape[1]
        costs, shifts = (None if its is None else self._flat(its) for its in (how.costs, how.shifts))
        assert costs is not None
        least = torch.empty(len(x), 2, 2, x.shape[1], device=self.device)
        picks = torch.empty(len(x), 2, 2, x.shape[1], dtype=torch.int32, device=self.device)
        for z0 in (0, 1):
            first = ((x - float(z0)) * 0.5).floor().int() - 1
            table = z0 * entries if pairs is None else (2 * pairs + z0) * entries
            tried: list[Tensor] = []
            for ahead in range(4):
                near = first + ahead
                at = (near - how.first).clamp_(0, entries - 1) + table
                d = x - (2 * near + z0).float()
                if shifts is not None:
                    d = d - shifts[at]
                cost = d * d if weights is None else d * d * weights
                tried.append(cost + costs[at])
            odd = (first & 1) == 1
            far = [tried[2] < tried[0], tried[3] < tried[1]]  # of either pair of one parity
            cheaper = [torch.where(its, tried[i + 2], tried[i]) for i, its in enumerate(far)]
            chosen = [first + i + 2 * its.int() for i, its in enumerate(far)]
            for z1 in (0, 1):
                least[:, z0, z1] = torch.where(odd, cheaper[1 - z1], cheaper[z1])
                picks[:, z0, z1] = torch.where(odd, chosen[1 - z1], chosen[z1])
        return least, picks

    def _flat(self, values: F32) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).view(-1).to(self.device)

    def _add(self, how: Search, x: Tensor, pairs: Tensor | None, found: _Found, moments: Moments) -> None:
        """Add the moments of chosen symbols; waits for the device."""
        entries = how.costs.shape[1]
        table = found.parities if pairs is None else 2 * pairs + found.parities
        at = (table * entries + (found.symbols - how.first).clamp(0, entries - 1)).view(-1)
        away = ((x - (2 * found.symbols + found.parities).float()) * 65536.0).long().view(-1)
        sums = torch.zeros(how.costs.size, dtype=torch.int64, device=self.device).index_add_(0, at, away)
        counts = torch.bincount(at, minlength=how.costs.size)
        moments.counts[:] += as_array(counts).reshape(how.costs.shape)
        moments.sums[:] += as_array(sums).view(np.int64).reshape(how.costs.shape)
