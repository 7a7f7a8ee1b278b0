"""What torch's layers start from is regenerated bit for bit, or refused with the reason."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from battery import BACKENDS, make_env, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from wcodec.backends import Backend  # noqa: E402
from wcodec.codecs import CODECS  # noqa: E402
from wcodec.torch_init import default_fills, initial  # noqa: E402
from wcodec.types import Spec  # noqa: E402

fused = pytest.mark.skipif(
    platform.machine() in ("x86_64", "AMD64") and torch.backends.cpu.get_cpu_capability() == "DEFAULT",
    reason="this processor's torch does not fuse the affine step (spec/rng.md section 5)",
)


class Net(nn.Module):
    """The three layers, and most of what may stand between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(7, 33)
        self.norm = nn.LayerNorm(33)
        self.names = nn.Embedding(13, 3)
        self.conv = nn.Conv2d(3, 5, 3)
        self.memory = nn.LSTM(4, 6, 2, bidirectional=True, proj_size=3)
        self.bags = nn.EmbeddingBag(16, 4)
        self.back = nn.ConvTranspose1d(2, 4, 3, groups=2, bias=False)
        self.deep = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.ReLU(), nn.Conv3d(1, 2, 3, groups=1), nn.GRUCell(3, 4))
        self.last = nn.Linear(100, 50)
        self.head = nn.Linear(3, 13, bias=False)
        self.head.weight = self.names.weight


def bits(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().reshape(-1).view(torch.int32).numpy().view(np.uint32)


@fused
@pytest.mark.parametrize("seed", [0, 1234, -5, 2**40 + 17])
def test_three_layers(seed):
    """Linear, Conv2d, Linear: every parameter, through the codec too."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(20, 30), nn.Conv2d(3, 8, 5), nn.Linear(300, 41))
    found = default_fills(net, seed)
    assert not found.refused and len(found.fills) == 6
    for name, parameter in net.named_parameters():
        options = dict(found.fills[name])
        assert options.pop("codec") == "mt19937" and same_bits(bits(initial(found.fills[name], parameter.shape)), bits(parameter))
        for backend in BACKENDS:
            CODECS["mt19937"].encode(bits(parameter), Spec.of("F32", *parameter.shape), make_env(backend), **options)


@fused
def test_all_layers():
    torch.manual_seed(3)
    net = Net()
    found = default_fills(net, 3)
    parameters = dict(net.named_parameters())
    assert {**found.fills, **found.refused}.keys() == parameters.keys() | {"head.weight"}
    for name, config in found.fills.items():
        assert same_bits(bits(initial(config, parameters[name].shape)), bits(parameters[name])), name
    kinds = {name: reason.split()[0:3] for name, reason in found.refused.items()}
    constant, normal, shared = ["starts", "from", "a"], ["starts", "from", "normal"], ["is", "one", "parameter"]
    assert kinds == {
        "norm.weight": constant, "norm.bias": constant, "deep.1.weight": constant, "deep.1.bias": constant,
        "bags.weight": normal, "names.weight": shared, "head.weight": shared,
    }  # fmt: skip


@fused
@given(st.integers(0, 2**64 - 1), st.integers(0, 2000), st.floats(-3, 3, width=32), st.floats(-3, 3, width=32))
@settings(max_examples=80)
def test_uniform(seed, skip, low, high):
    """uniform_ itself, with any bounds."""
    low, high = sorted(0.0 if abs(x) < 2**-60 else x for x in (low, high))
    torch.manual_seed(seed)
    torch.empty(skip).uniform_()
    want = bits(torch.empty(300).uniform_(low, high))
    out = np.empty(300, np.float32)
    Backend().mt19937_fill(seed & 0xFFFFFFFF, skip, low, high, out)
    assert same_bits(out.view(np.uint32), want)


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3))
        self.inner = nn.Linear(2, 2)


class Quiet(nn.Linear):
    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (Own, "initialisation of Own is not known"),
        (lambda: Quiet(2, 2, bias=False), "initialisation of Quiet is not known"),
        (lambda: nn.MultiheadAttention(4, 2), "initialisation of MultiheadAttention is not known"),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), "is not known"),
        (lambda: nn.Embedding(3, 5), "fewer than 16 normal numbers"),
        (lambda: nn.Linear(2, 2).double(), "is torch.float64"),
        (lambda: nn.Linear(2, 2, dtype=torch.bfloat16), "is torch.bfloat16"),
        (lambda: nn.Linear(2, 2, device="meta"), "is on meta"),
    ],
)
def test_refusals(build, reason):
    """What nobody knows is refused, and all that was built after it, but nothing before."""
    net = nn.Sequential(nn.Linear(3, 4), build(), nn.Linear(3, 3))
    found = default_fills(net, 0)
    assert found.fills.keys() == {"0.weight", "0.bias"}
    assert found.refused.keys() == {name for name, _ in net.named_parameters()} - found.fills.keys()
    assert all(reason in why and "1" in why for why in found.refused.values())
