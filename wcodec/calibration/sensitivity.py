"""How much errors of weights matter to what a model returns: squared gradients, of some batches, by the weights.

An error E changes what a model returns by ⟨g, E⟩, summed over all positions that a layer sees: gradients by weights, unlike those by
outputs of layers, know how errors of positions add up. On all-MiniLM-L6-v2 the loss predicted so is within about a tenth of the one
found for nearly all matrices, at worst a fifth, whether an error is an eighth or a quarter of the weights' size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.calibration.statistics import Layer
from wcodec.codecs.floats.curvature import Curvature
from wcodec.errors import EncodeError

if TYPE_CHECKING:
    import torch

F32: TypeAlias = npt.NDArray[np.float32]
Factor: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"
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


def factor_of(inputs: F32, device: torch.device) -> Factor:
    """Return U and d of ``Curvature.factor``."""
    import torch

    upper, d = Curvature(inputs).factor()
    return torch.from_numpy(upper).to(device), torch.from_numpy(d.astype(np.float32)).to(device)


class Sensitivity:
    """What squared errors cost: of each output of layers, and of any element of other tensors of two dimensions and more.

    weights: by name. run: calls the model. matters: as in ``calibrate``. Errors of layers are as the trellis makes them: E U √d is white.
    Then what a squared error of output i costs in these units is the mean over columns of (g[i] U⁻ᵀ)² / d.
    """

    def __init__(
        self,
        weights: Iterable[tuple[str, torch.nn.Parameter]],
        run: Callable[[Any], Any],
        batches: Sequence[Any],
        matters: Callable[[Any], torch.Tensor] | None = None,
    ) -> None:
        self._weights = {name: its for name, its in weights if its.dim() > 1 and its.is_floating_point()}
        self._run, self._batches, self._matters = run, batches, matters

    def counts(self, layers: Mapping[str, Layer]) -> dict[str, int]:
        """Return how many numbers there will be of every tensor."""
        return {name: layers[name].height if name in layers else 1 for name in self._weights}

    def costs(self, layers: Mapping[str, Layer], factors: Callable[[str], Factor]) -> Iterator[F32]:
        """Run the model backwards, then yield the means over batches; zeros where nothing is known. Raises EncodeError."""
        import torch

        sums: dict[str, torch.Tensor] = {}

        def see(name: str, gradient: torch.Tensor) -> None:
            found = _outputs(gradient, layers[name], *factors(name)) if name in layers else _square(gradient)
            sums[name] = sums[name] + found if name in sums else found

        with torch.enable_grad(), _watched(self._weights, see):
            for number, batch in enumerate(self._batches):
                probe = _probe(self._run(batch), self._matters, number)
                if not probe.requires_grad:
                    raise EncodeError("what the model returns has no gradients: calibrate without them")
                probe.backward()  # type: ignore[no-untyped-call]
        for name, count in self.counts(layers).items():
            total = sums.pop(name, None)
            yield np.zeros(count, np.float32) if total is None else (total / len(self._batches)).cpu().numpy()


def _outputs(gradient: torch.Tensor, layer: Layer, upper: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    """Return what an error of each output costs, by one gradient."""
    import torch

    g = gradient.float().reshape(layer.height, layer.width).T if layer.axis else gradient.float()
    white = torch.linalg.solve_triangular(upper, g, upper=True, unitriangular=True)
    found: torch.Tensor = (white.square() / d[:, None]).mean(0)
    return found


def _square(gradient: torch.Tensor) -> torch.Tensor:
    """Return the mean square."""
    values = gradient.coalesce().values() if gradient.is_sparse else gradient
    return values.float().square().sum().reshape(1) / gradient.numel()


@contextmanager
def _watched(weights: Mapping[str, torch.Tensor], see: Callable[[str, torch.Tensor], None]) -> Iterator[None]:
    """Show the gradient of every weight once it is whole, and drop it. Gradients that weights had are there again afterwards."""
    with ExitStack() as stack:
        for name, weight in weights.items():

            def whole(its: torch.Tensor, name: str = name) -> None:
                if its.grad is not None:
                    see(name, its.grad.detach())
                its.grad = None

            stack.callback(setattr, weight, "grad", weight.grad)
            stack.callback(weight.requires_grad_, False)
            weight.grad = None
            hook: Any = weight.requires_grad_(True).register_post_accumulate_grad_hook(whole)  # type: ignore[no-untyped-call]
            stack.callback(hook.remove)
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


__all__ = ["Factor", "Probes", "Sensitivity", "factor_of"]
