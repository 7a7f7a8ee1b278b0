"""Integers for numbers of a known spread, as encoders choose them: a little nearer to zero where that saves bits."""

from __future__ import annotations

import torch
from torch import Tensor

from wcodec.coding.rans import next_trellis_state

STATES = 3
"""The trellis has 2^3 states: the errors of larger ones are much the same."""


def scalar(u: Tensor, sigma: Tensor) -> Tensor:
    """Round, or go one integer nearer to zero where squared error plus λ·bits gets smaller.

    sigma: standard deviations, in steps; broadcast. λ is what one more bit saves at high rates, 2 ln 2 / 12, and bits are a normal
    distribution's: |k| and |k| − 1 differ by (2|k| − 1) / (2 σ² ln 2) bits.
    """
    size = u.abs()
    near = torch.round(size)
    lower = (near > 0) & (1 + 2 * (size - near) < (2 * near - 1) / (12 * sigma.square()))
    return torch.sign(u) * (near - lower.to(near.dtype))


def trellis(u: Tensor, sigma: Tensor) -> Tensor:
    """Return the integers of the cheapest way through a trellis (spec/entropy.md, 5), for pieces [count, length].

    Integers are k = 2 · symbol + z0. The way may start in any state. Costs are squared errors plus λ·bits, as above: with the spacing 2
    of a state's integers, and the trellis saving 0.18 bit, λ is 2 ln 2 · (4 / 12) · 2^−0.36. sigma: [count, 1].
    """
    count, length = u.shape
    states = torch.arange(1 << STATES)
    parities = torch.arange(2)
    after = next_trellis_state(states[:, None].numpy(), parities.numpy(), STATES)
    before = torch.tensor([[at for at in range(after.size) if after.flat[at] == state] for state in states.tolist()])
    offset = ((states[:, None] & 1) + 2 * parities).reshape(-1).to(u.device, u.dtype)  # k mod 4, of every state and parity
    before = before.to(u.device)
    price = 2**-0.36 / 3 / sigma.square()
    costs = torch.zeros(count, len(states), device=u.device)
    chosen, came = [], []
    for at in range(length):
        k = 4 * torch.round((u[:, at, None] - offset) / 4) + offset
        whole = costs.repeat_interleave(2, 1) + (u[:, at, None] - k).square() + price * k.square()
        costs, which = whole[:, before].min(2)
        came.append(before.expand(count, -1, -1).gather(2, which[..., None])[..., 0])
        chosen.append(k)
    state, found = costs.argmin(1, keepdim=True), torch.empty_like(u)
    for at in reversed(range(length)):
        edge = came[at].gather(1, state)
        found[:, at] = chosen[at].gather(1, edge)[:, 0]
        state = edge >> 1
    return found
