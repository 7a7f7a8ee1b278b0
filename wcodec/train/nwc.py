"""Train the autoencoders of ``nwc``: chunks of 16 weights to 16 integers and back through an integer net (spec/net.md).

Both profiles have the form latent = integer near u + f(u), weight = step · (latent + g(latent)), where u is a weight over its step, and f
and g are zero at first: training starts at scalar quantisation, with the rate that the step gives. In units of steps all levels have one
loss, 6 / ln 2 · MSE + bits per weight (the optimal step for a loss λ · MSE + bits is √(6 / (λ ln 2)) at high rates).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from wcodec.coding.net import CHUNK
from wcodec.errors import EncodeError
from wcodec.train import pieces, quantisers
from wcodec.train.integer_layers import GATE, Gate, Layer, Linear, Net, Requantise, Residual, Save

SLOPE = 6 / math.log(2)
"""λ · step²: bits that an error of one squared step is worth."""
SHIFT = 6
"""Fraction bits of what a net adds."""
WHOLE = 127
RATE = 2e-3

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class Level:
    """One set of factors. step: between weights' integers, for weights of unit variance. trellis: integers are on its two lattices.

    weight: of its loss.
    """

    step: float
    trellis: bool = False
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What to train. width: of hidden layers. blocks: residual ones. learned: whether a network moves what is rounded, too."""

    name: str
    width: int
    blocks: int
    levels: tuple[Level, ...]
    learned: bool


def _step(slope: float) -> float:
    """Return the step for a loss slope · MSE + bits."""
    return math.sqrt(SLOPE / slope)


_SCALAR = tuple(Level(_step(2.0 * 2**i)) for i in range(12))
_IMPORTANCE = (3.4, 1.2, 0.1, 0.05)
"""What a bit costs at the four levels as published, unimportant columns first."""

PROFILES = {
    "fast": Profile("fast", 64, 1, _SCALAR + tuple(Level(its.step / 2, trellis=True, weight=1 / 3) for its in _SCALAR), learned=False),
    "paper": Profile("paper", 512, 4, tuple(Level(_step(128 / c), weight=c) for c in _IMPORTANCE), learned=True),
}
"""``fast``: one net for all rates from about 1 to 6.6 bits, with a level per half bit for scalar and as many for trellis quantisation;
weights are quantised without a network. ``paper`` (arXiv 2510.11234): four residual blocks, a vector per importance level after each."""


def synthesis(profile: Profile) -> Net:
    """Build the net that decodes; it adds nothing yet."""
    wide, levels = profile.width, len(profile.levels)
    if profile.learned:
        layers: list[Layer] = [Linear(CHUNK, wide), Requantise(wide, WHOLE, WHOLE, 5)]
        for _ in range(profile.blocks):
            layers += [*_block(wide), Gate(torch.full((levels, wide), float(GATE))), Requantise(wide, WHOLE, WHOLE, 6, fixed=True)]
        layers += [Linear(wide, CHUNK, zero=True), Requantise(CHUNK, WHOLE, WHOLE, _shift(wide) - 1)]
    else:
        steps = torch.tensor([level.step for level in profile.levels])[:, None]
        layers = [Linear(CHUNK, wide), Requantise(wide, 2**15 - 1, 2**15 - 1, 1, fixed=True)]  # a factor below 2^7 keeps sums below 2^24
        layers += [Gate((60 * steps).clamp(max=WHOLE).expand(-1, wide)), Requantise(wide, 0, WHOLE, 6)]
        for _ in range(profile.blocks):
            layers += [*_block(wide), Requantise(wide, WHOLE, WHOLE, 0, fixed=True)]
        layers += [Linear(wide, CHUNK, zero=True), Requantise(CHUNK, 2**15 - 1, 2**15 - 1, 1, fixed=True)]
        layers += [Gate(torch.full((levels, CHUNK), float(GATE))), Requantise(CHUNK, WHOLE, WHOLE, _shift(wide) + 4)]
    return Net(layers, clip=WHOLE, shift=SHIFT, levels=levels)


def _shift(width: int) -> float:
    """Return the shift after a linear layer that keeps activations as large as they are."""
    return math.log2(24 * math.sqrt(width))


def _block(width: int) -> list[Layer]:
    """Build x + ReLU(2^−shift · (W x + b)): the learned shifts stand where the published net has layer normalisation."""
    return [Save(), Linear(width, width), Requantise(width, 0, WHOLE, _shift(width)), Residual(width)]


class Analysis(nn.Module):
    """The published encoder in float32, with learned scales for layer normalisation: what is added to u before it is rounded."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        wide, levels = profile.width, len(profile.levels)
        self.first, self.last = nn.Linear(CHUNK, wide), nn.Linear(wide, CHUNK)
        self.blocks = nn.ModuleList(nn.Linear(wide, wide) for _ in range(profile.blocks))
        self.scales = nn.Parameter(torch.ones(profile.blocks, wide))
        self.factors = nn.Parameter(torch.ones(profile.blocks, levels, wide))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, u: Tensor, levels: Tensor) -> Tensor:
        h = self.first(u.clamp(-WHOLE, WHOLE) / 4)
        for block, scale, factors in zip(self.blocks, self.scales, self.factors, strict=True):
            h = (h + torch.relu(block(h) * scale)) * factors[levels]
        found: Tensor = self.last(h)
        return found


class Prior(nn.Module):
    """The factorised density of latents: three normal distributions around zero per level, integrated over unit intervals."""

    def __init__(self, steps: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(len(steps), 3))
        self.scales = nn.Parameter(torch.log(torch.tensor([0.6, 1.0, 1.6]) / steps[:, None]))

    def forward(self, latents: Tensor, levels: Tensor) -> Tensor:
        """Return bits per weight of each chunk."""
        size, scales = latents.abs()[..., None], self.scales.exp()[levels][:, None]
        mass = torch.special.ndtr((0.5 - size) / scales) - torch.special.ndtr((-0.5 - size) / scales)
        mixed = (self.weights.softmax(1)[levels][:, None] * mass).sum(2)
        bits: Tensor = -torch.log2(mixed.clamp_min(1e-9)).mean(1)
        return bits


class Autoencoder(nn.Module):
    """The nets of a profile. u is a weight over its step; levels: int64 [chunks]."""

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self.profile = profile
        self.net = synthesis(profile)
        self.steps: Tensor
        self.on_trellis: Tensor
        self.weights: Tensor
        self.register_buffer("steps", torch.tensor([level.step for level in profile.levels]), persistent=False)
        self.register_buffer("on_trellis", torch.tensor([level.trellis for level in profile.levels]), persistent=False)
        self.register_buffer("weights", torch.tensor([level.weight for level in profile.levels]), persistent=False)
        self.analysis = Analysis(profile) if profile.learned else None
        self.prior = Prior(self.steps) if profile.learned else None

    def latents(self, u: Tensor, levels: Tensor) -> Tensor:
        """Return the integers of pieces [count, 64], one level each."""
        if self.analysis is not None:
            return torch.round(self._moved(u, levels))
        sigma, found = 1 / self.steps[levels][:, None], torch.empty_like(u)
        on = self.on_trellis[levels]
        found[~on] = quantisers.scalar(u[~on], sigma[~on])
        found[on] = quantisers.trellis(u[on], sigma[on])
        return found

    def silence(self, levels: Sequence[int]) -> None:
        """Make the net of ``fast`` add nothing at some levels."""
        gate = self.net.layers[-2]
        assert isinstance(gate, Gate)
        with torch.no_grad():
            gate.factors[list(levels)] = 0

    def _moved(self, u: Tensor, levels: Tensor) -> Tensor:
        assert self.analysis is not None
        chunks = u.reshape(-1, CHUNK)
        moved: Tensor = chunks + self.analysis(chunks, _chunkwise(levels, u))
        return moved.reshape(u.shape)

    def loss(self, x: Tensor, levels: Tensor, exact: bool, generator: Generator) -> Tensor:
        """Return the mean loss of pieces of weights [count, 64]: 6 / ln 2 · MSE in steps, and bits per weight where they can change.

        Without ``exact``, arithmetic is float and learned latents get uniform noise; with it, they are rounded and the net is the integer
        net, while gradients are those of identities.
        """
        u = x / self.steps[levels][:, None]
        chunkwise = _chunkwise(levels, u)
        if self.analysis is None:
            y = self.latents(u, levels)
        else:
            moved = self._moved(u, levels)
            noise = torch.rand(u.shape, generator=generator).to(u.device) - 0.5
            y = moved + ((torch.round(moved) - moved).detach() if exact else noise)
        chunks = y.reshape(-1, CHUNK)
        error = (self.net(chunks, chunkwise, exact) - u.reshape(-1, CHUNK)).square().mean(1)
        total = SLOPE * error if self.prior is None else SLOPE * error + self.prior(chunks, chunkwise)
        mean: Tensor = (self.weights[chunkwise] * total).mean()
        return mean


def _chunkwise(levels: Tensor, u: Tensor) -> Tensor:
    return levels.repeat_interleave(u.shape[1] // CHUNK)


@dataclass
class Run:
    """Training that can be interrupted: everything that follows depends on what is here, on the data and on the number of threads."""

    model: Autoencoder
    optimizer: torch.optim.Adam
    seed: int
    steps: int
    batch: int
    step: int = 0

    @classmethod
    def start(cls, profile: Profile, *, steps: int, seed: int = 0, batch: int = 1024, device: str = "cpu") -> Run:
        """Begin. steps: of Adam, the rate falling to zero as a cosine; the second half with integer arithmetic. batch: pieces of 64."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = Autoencoder(profile).to(device)
        return cls(model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad]), seed, steps, batch)

    def advance(self, real: Tensor, until: int, progress: Progress | None = None) -> float:
        """Train on pieces and synthetic ones up to a step. Returns the mean loss of the last steps, about a hundred."""
        mean = math.nan
        device = self.model.steps.device
        while self.step < until:
            self.step += 1
            generator = Generator().manual_seed((self.seed << 32) + self.step)
            x = pieces.mixture(real, self.batch, generator)
            levels = torch.randint(len(self.model.profile.levels), (self.batch,), generator=generator)
            self.optimizer.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * self.step / self.steps)) / 2
            loss = self.model.loss(x.to(device), levels.to(device), self.step > self.steps // 2, generator)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            value = loss.item()
            mean = value if math.isnan(mean) else mean + (value - mean) / 100
            if progress is not None:
                progress(self.step, self.steps, mean)
        return mean

    def save(self, path: Path) -> None:
        """Write a checkpoint, by a neighbour that takes its place. Raises OSError."""
        state: dict[str, Any] = {"profile": asdict(self.model.profile), "model": self.model.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "seed": self.seed, "steps": self.steps, "batch": self.batch, "step": self.step}
        beside = path.with_name(path.name + ".part")
        torch.save(state, beside)
        beside.replace(path)

    @classmethod
    def resume(cls, path: Path, device: str = "cpu") -> Run:
        """Read a checkpoint. Raises OSError, EncodeError when it is none."""
        try:
            state = torch.load(path, map_location=device, weights_only=True)
            its = state["profile"]
            profile = Profile(**(its | {"levels": tuple(Level(**level) for level in its["levels"])}))
            run = cls.start(profile, steps=state["steps"], seed=state["seed"], batch=state["batch"], device=device)
            run.model.load_state_dict(state["model"])
            run.optimizer.load_state_dict(state["optimizer"])
        except OSError:
            raise
        except Exception as error:
            raise EncodeError(f"not a checkpoint of this version: {error}", at=str(path)) from None
        return replace(run, step=state["step"])
