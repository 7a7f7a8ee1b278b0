"""Which fills regenerate the weights that torch's layers start from (spec/rng.md section 5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from wcodec.backends import get_backend
from wcodec.codecs import CODECS, Env, decode_all
from wcodec.codecs.random.mt19937 import Mt19937
from wcodec.types import Spec

Draws = Iterator[tuple[str, float]]

CONSTANT = (
    nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.PReLU,
)  # fmt: skip
"""Layers that start from constants."""
FEWEST = 16
"""Elements from which on torch draws normal numbers in runs of 16."""


@dataclass(frozen=True, slots=True)
class Fills:
    """How the parameters of a module start. fills: name → config of the codec ``mt19937``. refused: name → why there is none."""

    fills: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class Unknown(Exception):
    """Nobody knows how many words a module took, so that what follows it cannot be told either."""


def default_fills(module: nn.Module, seed: int) -> Fills:
    """Return the fills that regenerate a module which was built on the cpu, in float32, right after torch.manual_seed(seed).

    The weights may have changed since. Submodules must have been built in the order in which they are registered, as they are in usual
    code, each by its own constructor (a deep copy takes no random numbers) with its default initialisation; ``initial`` lets a caller
    compare. What cannot be regenerated is refused by name, with the reason.
    """
    found, offset, stop = Fills(), 0, ""
    uses: dict[int, list[str]] = {}
    for path, child in module.named_modules():
        own = {name: parameter for name, parameter in child._parameters.items() if parameter is not None}
        names = {name: f"{path}.{name}" if path else name for name in own}
        for name, parameter in own.items():
            uses.setdefault(id(parameter), []).append(names[name])
        if not own or isinstance(child, CONSTANT):
            found.refused.update(dict.fromkeys(names.values(), "starts from a constant"))
            continue
        try:
            if stop:
                raise Unknown(stop)
            draws = _draws(child, own)
        except Unknown as reason:
            stop = stop or f"{reason}, in {path or 'the module itself'}"
            found.refused.update(dict.fromkeys(names.values(), stop))
            continue
        for name, bound in draws:
            count = own[name].numel()
            if bound:
                config = {"codec": "mt19937", "seed": seed & 0xFFFFFFFF, "offset": offset, "low": -bound, "high": bound}
                found.fills[names[name]] = config
            else:
                found.refused[names[name]] = "starts from normal numbers, whose bits depend on the processor"
                count += FEWEST if count % FEWEST else 0
            offset += count
    for shared in uses.values():
        if len(shared) > 1:
            found.refused.update(dict.fromkeys(shared, f"is one parameter with {len(shared)} names"))
    return Fills({name: config for name, config in found.fills.items() if name not in found.refused}, found.refused)


def initial(config: Mapping[str, Any], shape: Sequence[int]) -> torch.Tensor:
    """Return the float32 tensor of a shape that a fill regenerates."""
    options = {key: value for key, value in config.items() if key != "codec"}
    spec, env = Spec.of("F32", *shape), Env(get_backend(), CODECS)
    section = Mt19937().section(spec, **options)
    return torch.from_numpy(decode_all(section, spec, env).view("<f4")).reshape(tuple(shape))


def _draws(child: nn.Module, own: Mapping[str, nn.Parameter]) -> list[tuple[str, float]]:
    """Return the parameters in the order in which they were drawn, and the bound of the uniform numbers, 0 for normal ones."""
    for parameter in own.values():
        if parameter.device.type != "cpu":
            raise Unknown(f"a parameter is on {parameter.device.type}")
        if parameter.dtype != torch.float32:
            raise Unknown(f"a parameter is {parameter.dtype}")
    for kind, draws in LAYERS.items():
        if isinstance(child, kind) and type(child).reset_parameters is kind.reset_parameters:
            found = list(draws(child))
            if sorted(name for name, _ in found) == sorted(own):
                return [(name, bound) for name, bound in found if own[name].numel()]
    raise Unknown(f"the initialisation of {type(child).__name__} is not known")


def _fan(child: Any) -> Draws:
    """Linear and convolutions: kaiming_uniform_ with a = √5, then a bias bounded by 1/√fan_in."""
    fan = nn.init._calculate_correct_fan(child.weight, "fan_in") if child.weight.numel() else 0
    if not fan:
        raise Unknown(f"{type(child).__name__} has no inputs")
    yield "weight", math.sqrt(3.0) * (nn.init.calculate_gain("leaky_relu", math.sqrt(5)) / math.sqrt(fan))
    if child.bias is not None:
        yield "bias", 1 / math.sqrt(fan)


def _hidden(child: Any) -> Draws:
    """Recurrent layers and cells: everything is bounded by 1/√hidden_size."""
    if not child.hidden_size:
        raise Unknown(f"{type(child).__name__} has no state")
    for name, parameter in child._parameters.items():
        if parameter is not None:
            yield name, 1 / math.sqrt(child.hidden_size)


def _normal(child: Any) -> Draws:
    """Embeddings: normal numbers, of which fewer than 16 may leave half a pair behind."""
    if child.weight.numel() < FEWEST:
        raise Unknown(f"{type(child).__name__} starts from fewer than {FEWEST} normal numbers")
    yield "weight", 0.0


LAYERS: dict[Any, Callable[[Any], Draws]] = {
    nn.Linear: _fan, nn.modules.conv._ConvNd: _fan,
    nn.RNNBase: _hidden, nn.RNNCellBase: _hidden,
    nn.Embedding: _normal, nn.EmbeddingBag: _normal,
}  # fmt: skip
"""How layers draw; subclasses that initialise themselves otherwise are not known."""
