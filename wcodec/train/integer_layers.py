"""The operations of integer nets (spec/net.md) as torch modules, with gradients.

Their numbers are float32. With ``exact`` they are what ``wcodec.coding.net.run`` computes, number for number: roundings and cuts have the
gradient of what they round, sums are exact in float32. Without it nothing is rounded, and the rest is the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from wcodec.coding import net as nets

GATE = 64
"""A factor of 1 in a gate that a requantisation by 2^6 follows."""
ACTIVATION = 32
"""About what activations should be, of at most 127."""
SHIFTS = 2.0 ** -torch.arange(24)
HALVES = torch.tensor([0.0] + [2.0**k / 2 for k in range(1, 24)])


def rounded(x: Tensor) -> Tensor:
    """Round to the nearest integer, halves to even, with the gradient of x. Exact: so is the difference, being at most 1/2."""
    return x + (torch.round(x) - x).detach()


class Layer(nn.Module):
    """One operation. ``forward`` takes x [chunks, width], what was saved, the level of each chunk, and whether to round."""

    def forward(self, x: Tensor, saved: Tensor, levels: Tensor, exact: bool) -> Tensor:
        raise NotImplementedError

    def export(self) -> nets.Op:
        """Return the operation with its integers."""
        raise NotImplementedError


class Linear(Layer):
    """A product with 8-bit weights. The weights of a plain linear layer times ``unit`` are the integers."""

    def __init__(self, inputs: int, outputs: int, *, zero: bool = False) -> None:
        super().__init__()
        self.unit = 24 * math.sqrt(inputs)  # a standard deviation of 24, of at most 127
        self.weight = nn.Parameter(torch.zeros(outputs, inputs) if zero else torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def numbers(self, exact: bool) -> tuple[Tensor, Tensor]:
        weight = (self.weight * self.unit).clamp(-127, 127)
        bias = (self.bias * (self.unit * ACTIVATION)).clamp(-(2**20), 2**20)
        return (rounded(weight), rounded(bias)) if exact else (weight, bias)

    def forward(self, x: Tensor, saved: Tensor, levels: Tensor, exact: bool) -> Tensor:
        weight, bias = self.numbers(exact)
        return nn.functional.linear(x, weight, bias)

    def export(self) -> nets.Linear:
        weight, bias = (found.detach().cpu().numpy() for found in self.numbers(True))
        return nets.Linear(weight.astype(np.int8), bias.astype(np.int32))


class Requantise(Layer):
    """A division by powers of two, one per number, that are learned unless ``fixed``; then a cut at −low and high."""

    def __init__(self, width: int, low: int, high: int, shift: float, *, fixed: bool = False) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.shift = nn.Parameter(torch.full((width,), float(shift)), requires_grad=not fixed)

    def shifts(self) -> Tensor:
        return torch.round(self.shift.detach()).clamp(0, 23).long()

    def forward(self, x: Tensor, saved: Tensor, levels: Tensor, exact: bool) -> Tensor:
        whole = self.shifts()
        power = SHIFTS.to(x.device)[whole]
        half = HALVES.to(x.device)[whole] * power
        y = x * (power * torch.exp2(self.shift.detach() - self.shift))  # the second factor is 1: it carries the gradient
        if exact:
            y = y + (torch.floor(y + half) - y).detach()
        return y.clamp(-self.low, self.high)

    def export(self) -> nets.Requantise:
        return nets.Requantise(self.low, self.high, self.shifts().cpu().numpy().astype(np.uint8))


class Gate(Layer):
    """A product with the factors of the level."""

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.factors = nn.Parameter(factors / GATE)

    def numbers(self, exact: bool) -> Tensor:
        factors = (self.factors * GATE).clamp(-127, 127)
        return rounded(factors) if exact else factors

    def forward(self, x: Tensor, saved: Tensor, levels: Tensor, exact: bool) -> Tensor:
        return x * self.numbers(exact)[levels]

    def export(self) -> nets.Gate:
        return nets.Gate(self.numbers(True).detach().cpu().numpy().astype(np.int8))


class Save(Layer):
    """Keeps x: the net itself does so."""

    def forward(self, x: Tensor, saved: Tensor, levels: Tensor, exact: bool) -> Tensor:
        return x

    def export(self) -> nets.Save:
        return nets.Save()


class Residual(Layer):
    """Adds what was kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor, saved: Tensor, levels: Tensor, exact: bool) -> Tensor:
        return x + saved

    def export(self) -> nets.Residual:
        return nets.Residual(np.zeros(self.width, np.uint8))


class Net(nn.Module):
    """An integer net with gradients. Ops are in ``layers``; the other arguments are those of ``wcodec.coding.net.Net``."""

    def __init__(self, layers: list[Layer], *, clip: int, shift: int, levels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.clip, self.shift, self.levels = clip, shift, levels

    def forward(self, latents: Tensor, levels: Tensor, exact: bool) -> Tensor:
        """Return latents [chunks, 16] plus what the net adds, in steps. levels: int64 [chunks]."""
        x = saved = latents.clamp(-self.clip, self.clip)
        for layer in self.layers:
            x = layer(x, saved, levels, exact)
            saved = x if isinstance(layer, Save) else saved
        return latents + x * 2.0**-self.shift

    def export(self) -> nets.Net:
        """Return the integer net, checked: its arithmetic is that of ``forward`` with ``exact``."""
        ops = tuple(layer.export() for layer in self.layers if isinstance(layer, Layer))
        return nets.Net(self.clip, self.shift, self.levels, ops).check()
