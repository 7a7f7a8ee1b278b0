"""Gathering statistics: a torch model runs over batches, and hooks on its layers look at what they are given."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.calibration.sensitivity import Factor, Probes, Sensitivity, factor_of
from wcodec.calibration.statistics import Layer, Statistics, triangle, write
from wcodec.errors import EncodeError, LimitExceeded

if TYPE_CHECKING:
    import torch

F32: TypeAlias = npt.NDArray[np.float32]
LIMIT = 8 * 10**9
"""Bytes that statistics may take unless told otherwise."""
CHUNK = 1 << 24
"""Elements of unfolded inputs of a convolution that are multiplied at once."""


def calibrate(
    model: torch.nn.Module,
    batches: Iterable[Any],
    target: str | Path,
    *,
    gradients: bool = True,
    matters: Callable[[Any], torch.Tensor] | None = None,
    limit: int = LIMIT,
    announce: Callable[[str], None] | None = None,
    force: bool = False,
) -> Statistics:
    """Gather what ``encode(calibration=…)`` needs to know of the inputs of a model's linear layers and convolutions, and write it.

    batches: what the model is called with: a mapping of keywords, a tuple, or one tensor. The names are those of the model's parameters.
    gradients: run backwards, too, for at most 128 of the batches, which stay in memory, to learn how much errors of each output, and of
    other matrices, matter; takes the memory of training with one batch.
    matters: from what the model returns, the tensor whose squared error is to be small; by default the first one, or, where
    it is called ``logits``, the change of the probabilities that they stand for. limit: bytes that the file may have. announce: is told
    the size once the first batch has shown which layers share their inputs. force: replace an existing file.
    Raises EncodeError, LimitExceeded, FileExistsError, OSError.
    """
    if Path(target).exists() and not force:
        raise FileExistsError(f"{target} exists")
    modules = layers_of(model)
    if not modules:
        raise EncodeError("the model has no linear layers or convolutions")
    gathering = Gathering(modules, partial(call, model))
    items = iter(batches)
    try:
        first = next(items)
    except StopIteration:
        raise EncodeError("there are no batches to calibrate with") from None
    probes = Probes()
    with prepared(model):
        with sampling(first):
            gathering.look(first)
        size = gathering.size
        if announce is not None:
            announce(gathering.summary)
        if size > limit:
            raise LimitExceeded(f"statistics of {size:,} bytes, the limit is {limit:,}")
        for batch in chain([first], items):
            gathering.add(batch)
            if gradients:
                probes.offer(batch)
        if gradients and announce is not None:
            announce(f"gradients of {len(probes.kept)} of {gathering.batches} batches")
        run = partial(call, model)
        return gathering.save(target, force, Sensitivity(model.named_parameters(), run, probes.kept, matters) if gradients else None)


class Gathering:
    """Sums over batches. modules: layers by the names of their weights. run: is called with a batch, and calls them.

    layers: those that ran. owners: of every layer, the first layer that was given the same inputs.
    """

    def __init__(self, modules: Mapping[str, Any], run: Callable[[Any], Any]) -> None:
        self.modules, self._run = modules, run
        self.layers: dict[str, Layer] = {}
        self.owners: dict[str, str] = {}
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}
        self.batches = 0
        self._seen: dict[tuple[Any, ...], tuple[Any, int, str]] = {}

    def look(self, batch: Any) -> None:
        """Find out which layers run, and which share their inputs."""

        def hook(name: str, module: Any, x: torch.Tensor) -> None:
            self.owners.setdefault(name, self._owner(name, module, x))

        with self._hooked(hook):
            self._run(batch)
        numbers = {owner: number for number, owner in enumerate(dict.fromkeys(self.owners.values()))}
        for name, owner in self.owners.items():
            layer = _layer(self.modules[name])
            assert layer is not None, "only layers are hooked"
            self.layers[name] = Layer(numbers[owner], *layer)

    def add(self, batch: Any) -> None:
        """Run the model over a batch and add what it shows. Raises EncodeError."""
        with self._hooked(self._add):
            self._run(batch)
        self.batches += 1

    def save(self, target: str | Path, force: bool, sensitivity: Sensitivity | None = None) -> Statistics:
        """Write the file; with ``sensitivity``, what errors cost, too. Raises EncodeError."""
        factors: dict[str, Factor] = {}
        counts = {} if sensitivity is None else sensitivity.counts(self.layers)
        costs = iter(()) if sensitivity is None else sensitivity.costs(self.layers, lambda name: factors[self.owners[name]])
        means = self._means(None if sensitivity is None else factors)
        write(target, self.layers, means, counts, costs, {"batches": str(self.batches)}, force)
        return Statistics(target)

    @property
    def size(self) -> int:
        """Bytes of the file, but for its header."""
        inputs = {its.inputs: triangle(its.width) for its in self.layers.values()}
        return 4 * (sum(inputs.values()) + sum(its.height for its in self.layers.values()))

    @property
    def summary(self) -> str:
        """What will be gathered, in words."""
        shared = len(set(self.owners.values()))
        return f"{len(self.layers)} layers with {shared} kinds of inputs: {self.size:,} bytes of statistics, at most twice that in memory"

    def _means(self, factors: dict[str, Factor] | None) -> Iterator[F32]:
        """Yield the matrices, which become factors one by one where those are asked for."""
        for owner in dict.fromkeys(self.owners.values()):
            total = self.sums.pop(owner)
            mean = (total / self.counts[owner]).cpu().numpy()
            yield mean
            if factors is not None:
                factors[owner] = factor_of(mean, total.device)

    def _owner(self, name: str, module: Any, x: torch.Tensor) -> str:
        """Return the layer that was first given this very tensor in this run, in the same way."""
        key = id(x), _geometry(module)
        known = self._seen.get(key)
        if known is not None and known[0]() is x and known[1] == x._version:
            return known[2]
        self._seen[key] = weakref.ref(x), x._version, name
        return name

    def _add(self, name: str, module: Any, x: torch.Tensor) -> None:
        """Add the second moments of a layer's inputs, once for all layers that share them."""
        import torch

        if name not in self.layers:
            return
        owner = self._owner(name, module, x)
        if self.owners[name] != name:
            if owner != self.owners[name]:
                raise EncodeError(f"was given the inputs of {self.owners[name]} in the first batch, and now others", at=name)
            return
        with torch.no_grad():
            for rows in _rows(module, x.detach()):
                width = rows.shape[1]
                total = self.sums.setdefault(name, torch.zeros(width, width, dtype=torch.float32, device=rows.device))
                total.addmm_(rows.T, rows)
                self.counts[name] = self.counts.get(name, 0) + len(rows)

    @contextmanager
    def _hooked(self, before: Callable[..., None]) -> Iterator[None]:
        """Call ``before`` with the inputs of every layer."""
        self._seen.clear()
        with ExitStack() as stack:
            for name, module in self.modules.items():

                def given(module: Any, inputs: tuple[Any, ...], name: str = name) -> None:
                    before(name, module, inputs[0])

                stack.callback(module.register_forward_pre_hook(given).remove)
            yield


def layers_of(model: torch.nn.Module) -> dict[str, Any]:
    """Return a model's linear layers and convolutions by the names of their weights."""
    return {f"{name}.weight" if name else "weight": its for name, its in model.named_modules() if _layer(its) is not None}


@contextmanager
def prepared(model: torch.nn.Module) -> Iterator[None]:
    """Let a model run as it does in use, without gradients of its parameters; afterwards it is as it was."""
    import torch

    training = [module for module in model.modules() if module.training]
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.eval()
        for parameter in wanted:
            parameter.requires_grad_(False)
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
        for parameter in wanted:
            parameter.requires_grad_(True)


def call(model: Any, batch: Any) -> Any:
    """Call a model with a mapping of keywords, a tuple, or one tensor."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


@contextmanager
def sampling(batch: Any) -> Iterator[None]:
    """Turn what a model raises of its first batch into an EncodeError: most often it takes other arguments."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        given = ", ".join(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise EncodeError(f"the model does not run on samples of {given}: {error}") from error


def _layer(module: Any) -> tuple[tuple[int, ...], int] | None:
    """Return the shape of a layer's weight and the axis of its inputs; None for what is no such layer."""
    from torch import nn

    if isinstance(module, nn.Linear) or (isinstance(module, nn.modules.conv._ConvNd) and not module.transposed):
        return tuple(module.weight.shape), 1
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):  # of transformers: a linear layer the other way round
        return tuple(module.weight.shape), 0
    return None


def _geometry(module: Any) -> tuple[Any, ...]:
    """Return what decides which inputs meet which columns."""
    from torch import nn

    if not isinstance(module, nn.modules.conv._ConvNd):
        return ()
    return module.kernel_size, module.stride, str(module.padding), module.dilation, module.groups, module.padding_mode


def _rows(module: Any, x: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield what meets the columns of the weight, [positions, columns], in float32; groups one below the other."""
    from torch import nn

    if not isinstance(module, nn.modules.conv._ConvNd):
        yield x.reshape(-1, x.shape[-1]).float()
        return
    spatial = len(module.kernel_size)
    x = x.reshape(-1, *x.shape[-1 - spatial :])
    step = max(1, CHUNK // max(1, x[:1].numel() * int(np.prod(module.kernel_size))))
    for at in range(0, len(x), step):
        yield _unfold(module, x[at : at + step].float(), spatial)


def _unfold(module: Any, x: torch.Tensor, spatial: int) -> torch.Tensor:
    from torch.nn import functional

    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = functional.pad(x, module._reversed_padding_repeated_twice, mode=mode)
    for axis, (size, stride, dilation) in enumerate(zip(module.kernel_size, module.stride, module.dilation, strict=True)):
        x = x.unfold(2 + axis, (size - 1) * dilation + 1, stride)[..., ::dilation]
    x = x.reshape(len(x), module.groups, -1, *x.shape[2:])  # [batch, group, channel, positions…, kernel…]
    order = (0, 1, *range(3, 3 + spatial), 2, *range(3 + spatial, 3 + 2 * spatial))
    rows: torch.Tensor = x.permute(order).flatten(2 + spatial).flatten(0, 1 + spatial)
    return rows


__all__ = ["Gathering", "calibrate", "call", "layers_of", "prepared", "sampling"]
