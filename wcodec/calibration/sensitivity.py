"""How much errors of weights matter to what a model returns: squared gradients, of some batches, by the weights.

An error E changes what a model returns by ⟨g, E⟩, summed over all positions that a layer sees: gradients by weights, unlike those by outputs
of layers, know how errors of positions add up. On all-MiniLM-L6-v2 the loss predicted so is within a tenth of the one found for errors
of half a weight's size already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.calibration.statistics import Layer
from wcodec.errors import EncodeError

if TYPE_CHECKING:
    import torch

F32: TypeAlias = npt.NDArray[np.float32]
PROBES = 128
"""Batches that the model runs backwards for."""


class Probes:
    """Batches to run backwards for: of all that were offered, any as likely as any other (reservoir sampling)."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.offered = 0
        self._random = np.random.default_rng(0)

    def offer(self, batch: Any) -> None:
        """Keep a batch, perhaps in place of another one."""
        place = int(self._random.integers(self.offered + 1)) if self.offered >= PROBES else self.offered
        self.offered += 1
        if place == len(self.kept):
            self.kept.append(batch)
        elif place < PROBES:
            self.kept[place] = batch


class Sensitivity:
    """Sums of squared gradients.

    factors: of a layer's weight, U and d of ``Curvature.factor``; None for other tensors. By them, errors are measured as the trellis
    makes them: E U √d is white. Then what a squared error of output i costs is the mean over columns of (g[i] U⁻ᵀ)² / d.
    """

    def __init__(self, layers: Mapping[str, Layer], factors: Callable[[str], tuple[torch.Tensor, torch.Tensor] | None]) -> None:
        self._layers, self._factors = layers, factors
        self._sums: dict[str, torch.Tensor] = {}
        self._batches = 0

    def gather(
        self, weights: Mapping[str, torch.Tensor], run: Callable[[Any], Any], batches: Iterable[Any], matters: Callable[[Any], Any] | None
    ) -> None:
        """Run a model backwards for all batches. Raises EncodeError."""
        import torch

        with torch.enable_grad(), _watched(weights, self._add):
            for number, batch in enumerate(batches):
                probe = _probe(run(batch), matters, number)
                if not probe.requires_grad:
                    raise EncodeError("what the model returns has no gradients: calibrate without gradients")
                probe.backward()  # type: ignore[no-untyped-call]
                self._batches += 1

    def of(self, name: str, count: int) -> F32:
        """Return what a squared error of each output, or of a whole tensor, costs: zeros where that is not known."""
        found = self._sums.pop(name, None)
        return np.zeros(count, np.float32) if found is None else (found / self._batches).float().cpu().numpy()

    def _add(self, name: str, gradient: torch.Tensor) -> None:
        import torch

        factors, gradient = self._factors(name), gradient.detach()
        if factors is None:
            values = gradient.coalesce().values() if gradient.is_sparse else gradient
            found = values.float().square().sum().reshape(1) / gradient.numel()
        else:
            upper, d = factors
            layer = self._layers[name]
            g = gradient.float().reshape(layer.height, layer.width).T if layer.axis else gradient.float()
            white = torch.linalg.solve_triangular(upper, g, upper=True, unitriangular=True)
            found = (white.square() / d[:, None]).mean(0)
        self._sums[name] = self._sums[name] + found if name in self._sums else found


@contextmanager
def _watched(weights: Mapping[str, torch.Tensor], see: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Show the gradient of every weight once it is whole, and drop it. Gradients that weights had are there again afterwards."""
    with ExitStack() as stack:
        for name, weight in weights.items():

            def whole(its: torch.Tensor, name: str = name) -> None:
                if its.grad is not None:  # a weight that two layers share is the first one's
                    see(name, its.grad)
                its.grad = None

            stack.callback(setattr, weight, "grad", weight.grad)
            stack.callback(weight.requires_grad_, False)
            weight.grad = None
            stack.callback(weight.requires_grad_(True).register_post_accumulate_grad_hook(whole).remove)
        yield


def _probe(output: Any, matters: Callable[[Any], torch.Tensor] | None, seed: int) -> torch.Tensor:
    """Return a number whose squared gradients are, on average, the curvature of what matters.

    Of a squared error: the sum with random signs (Hutchinson). Of probabilities: the likelihood of classes drawn by them (Fisher).
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    logits = getattr(output, "logits", None) if matters is None else None
    if logits is not None:
        flat = logits.reshape(-1, logits.shape[-1]).float().log_softmax(-1)
        uniform = torch.rand(len(flat), 1, generator=generator).to(flat.device)
        drawn = (flat.detach().exp().cumsum(-1) < uniform).sum(-1, keepdim=True).clamp(max=flat.shape[-1] - 1)
        likelihood: torch.Tensor = flat.gather(-1, drawn).sum()
        return likelihood
    found = _first(output) if matters is None else matters(output)
    signs = torch.randint(0, 2, found.shape, generator=generator).to(found) * 2 - 1
    number: torch.Tensor = (found * signs).sum()
    return number


def _first(output: Any) -> Any:
    """Return the first tensor of floats in what a model returned."""
    import torch

    if isinstance(output, torch.Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    for value in values:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value
    raise EncodeError(f"the model returns {type(output).__name__}: say by ``matters`` which tensor of it matters")


__all__ = ["Probes", "Sensitivity"]
