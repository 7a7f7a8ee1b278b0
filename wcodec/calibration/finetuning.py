"""Fine-tuning: what stays float in a block makes up for what its matrices have lost, as far as it can.

A block is given what encoded ones make and aims at what the original model gives there, so that it makes up for blocks before it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

F32: TypeAlias = npt.NDArray[np.float32]
EPOCHS, RATE = 5, 1e-3
HELD = 4
"""Every so many samples one is held out."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What training came to. values: new ones, by name; empty where none were better. before, after: squared error on samples held out."""

    values: Mapping[str, F32]
    before: float
    after: float


def tune(
    parameters: Mapping[str, torch.nn.Parameter],
    run: Callable[[int], torch.Tensor],
    wanted: Callable[[int], torch.Tensor],
    count: int,
    rounded: Callable[[str, F32], F32],
    epochs: int = EPOCHS,
    rate: float = RATE,
) -> Tuning:
    """Train parameters by Adam so that ``run`` gives of each of ``count`` samples what is wanted, and leave them as they were.

    rounded: the values of a parameter as a file will hold them, which are judged. Those of the epoch that is best on samples held out are
    returned, none where all are worse than before.
    """
    import torch

    every = np.arange(count)
    held, others = every[::HELD], every[every % HELD > 0]
    random = np.random.default_rng(0)
    steps = epochs * len(others)

    def loss(number: int) -> torch.Tensor:
        return (run(number).float() - wanted(number).float()).square().sum()

    def judge() -> float:
        with torch.no_grad():
            return sum(float(loss(int(number))) for number in held)

    before = best = judge()
    found: Mapping[str, F32] = {}
    first = _values(parameters)
    optimiser = torch.optim.Adam(parameters.values(), rate)
    with torch.enable_grad():
        for its in parameters.values():
            its.requires_grad_(True)
        for step in range(steps if before else 0):
            if step % len(others) == 0:
                order = random.permutation(others)
            optimiser.param_groups[0]["lr"] = rate * (1 + cos(pi * step / steps)) / 2
            optimiser.zero_grad()
            (loss(int(order[step % len(others)])) * (len(held) / before)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if (step + 1) % len(others) == 0:
                exact = _values(parameters)
                values = {name: rounded(name, its) for name, its in exact.items()}
                _set(parameters, values)
                if (now := judge()) < best:
                    best, found = now, values
                _set(parameters, exact)
    _set(parameters, first)
    for its in parameters.values():
        its.requires_grad_(False)
        its.grad = None
    return Tuning(found, before, best)


def _values(parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, F32]:
    return {name: its.detach().cpu().numpy().copy() for name, its in parameters.items()}


def _set(parameters: Mapping[str, torch.nn.Parameter], values: Mapping[str, F32]) -> None:
    import torch

    with torch.no_grad():
        for name, its in parameters.items():
            its.copy_(torch.from_numpy(values[name]))


__all__ = ["Tuning", "tune"]
