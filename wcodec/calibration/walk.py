"""Statistics of a model block by block, while it is encoded: weights of one block are in memory at a time, and its statistics alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wcodec.calibration.activations import Activations
from wcodec.calibration.finetuning import Tuning, tune
from wcodec.calibration.gather import Gathering, call, layers_of, prepared, sampling
from wcodec.calibration.sensitivity import Probes, Sensitivity
from wcodec.calibration.stacks import Chain, Given, Stack, in_order, replaced, stacks_of
from wcodec.calibration.statistics import Statistics
from wcodec.calibration.weights import Weights
from wcodec.codecs.floats.curvature import Curvature
from wcodec.coding.numbers import from_float32, to_float32
from wcodec.errors import EncodeError
from wcodec.recipes.base import Calibration
from wcodec.types import DType, UInts

if TYPE_CHECKING:
    import torch

F32 = npt.NDArray[np.float32]
Run = Callable[[int, str], object]
"""Runs a part of the model over a sample, of a kind as in ``Activations``."""


class Walk(Calibration):
    """Statistics of the part of a model where the walk is: before its first stack of blocks, in a block, or behind a stack.

    model: without weights (``hollow``). batches: what it is called with. read: of a name that is among ``known``, the weights. scratch: a
    folder for what goes from one block to the next, and for a block's statistics. sequential: blocks are given what the encoded ones
    before them make, not what the original ones do, so that they make up for it. gradients: run blocks backwards, too, for at most 128 of
    the batches, to learn what errors cost their outputs. finetune: once the matrices of a block are encoded, train its norms and biases
    so that it gives what the original model does there. tuned: storage elements of those that are better so, of the part where the walk
    is. stack: what ends with the walk. Use as a context manager.
    Raises EncodeError unless stacks are called one after the other, each block with what the one before it returns (the first batch runs
    to see that), and, to fine-tune, unless there are two batches and a sequential walk.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Sequence[Any],
        read: Callable[[str], F32],
        known: Collection[str],
        *,
        scratch: str | Path | None = None,
        sequential: bool = True,
        gradients: bool = True,
        finetune: bool = False,
    ) -> None:
        if finetune and (len(batches) < 2 or not sequential):
            raise EncodeError("fine-tuning takes two samples, of which one is held out, and blocks that see what encoded ones make")
        self.sequential, self.gradients, self.finetune = sequential, gradients, finetune
        self.tuned: Mapping[str, UInts] = {}
        self._tunings: list[Tuning] = []
        self._model, self._batches = model.eval(), batches
        stacks = stacks_of(model)
        self._weights = Weights(model, [block for stack in stacks for block in stack.blocks], read, known)
        inner = tuple(f"{stack.path}." for stack in stacks)
        self._outer = {name: its for name, its in layers_of(model).items() if not name.startswith(inner)}
        with prepared(model), sampling(batches[0]):
            self._stacks = in_order(stacks, self._outer, self._weights, partial(call, model, batches[0]))
        self._now: Statistics | None = None
        self.stack = ExitStack()
        self._folder = Path(self.stack.enter_context(TemporaryDirectory(prefix=".wcodec-walk-", dir=scratch)))
        self._activations = Activations(self._folder)

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._now = None
        self.stack.close()

    def parts(self, names: Sequence[str], free: Mapping[str, DType] | None = None) -> Iterator[list[str]]:
        """Yield names of the checkpoint's tensors, part by part, each once its statistics are there. Raises EncodeError.

        free: tensors that fine-tuning may change, if it is asked for. Those of a block come after its others. Outside the stacks, all but
        layers that run behind one come first.
        """
        prefixes = [stack.prefix(i) for stack in self._stacks for i in range(len(stack.blocks))]
        inside: dict[str, list[str]] = {prefix: [] for prefix in prefixes}
        outside: list[str] = []
        for name in names:
            block = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
            (outside if block is None else inside[block]).append(name)
        layers = dict(self._outer)
        with prepared(self._model):
            for index, stack in enumerate(self._stacks):
                run = partial(self._between, index)
                self._aim(run)
                ran = self._look(layers, run)
                layers = {name: its for name, its in layers.items() if name not in ran}
                part = [name for name in outside if (name in ran if index else name not in layers)]
                if part:
                    outside = [name for name in outside if name not in part]
                    yield part
                self._leave(run)
                for i in range(len(stack.blocks)):
                    yield from self._block(stack, i, inside[stack.prefix(i)], free or {})
                for number in range(len(self._batches)):
                    for kind in self._kinds:
                        self._activations.end(number, kind, index)
            if outside:
                self._look(layers, partial(self._between, len(self._stacks)))
                yield outside

    def _block(self, stack: Stack, i: int, names: list[str], free: Mapping[str, DType]) -> Iterator[list[str]]:
        """Yield names of a block's tensors, then of those that were trained."""
        prefix, run = stack.prefix(i), partial(self._through, stack, i)
        trained = self._trained(prefix, stack.blocks[i], free)
        self._aim(run)
        self._look({prefix + name: its for name, its in layers_of(stack.blocks[i]).items()}, run, (stack, i))
        yield [name for name in names if name not in trained]
        if trained:
            self._tune(stack, i, trained)
            yield list(trained)
        self._leave(run)

    def replace(self, name: str, read: Callable[[], F32]) -> None:
        """Let the part where the walk is go on with what became of a tensor. read: is called when it is needed."""
        self._weights.other[name] = read

    def notes(self) -> Iterator[str]:
        """Yield what fine-tuning came to."""
        if self.finetune and not self._tunings:
            yield "nothing was fine-tuned: no norms or biases of blocks are encoded"
        elif self.finetune:
            better = [round(100 * (1 - its.after / its.before)) for its in self._tunings if its.values]
            yield f"fine-tuned norms and biases of {len(better)} of {sum(len(its.blocks) for its in self._stacks)} blocks" + (
                f": on samples held out, squared errors of their outputs are {min(better)} to {max(better)} % smaller" if better else ""
            )

    def __getitem__(self, name: str) -> F32:
        if self._now is None:
            raise KeyError(name)
        return self._now[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now or ())

    def __len__(self) -> int:
        return len(self._now or ())

    def curvature(self, name: str) -> Curvature | None:
        """Return what errors of a matrix cost; None where the walk is elsewhere, or that is not known."""
        return None if self._now is None else self._now.curvature(name)

    def cost(self, name: str) -> float | None:
        """Return what a squared error of an element costs the outputs of the block where the walk is; None where that is not known."""
        return None if self._now is None else self._now.cost(name)

    @property
    def _kinds(self) -> tuple[str, ...]:
        return ("now", "wanted") if self.finetune else ("now",)

    def _look(self, layers: dict[str, Any], run: Run, block: tuple[Stack, int] | None = None) -> Collection[str]:
        """Run a part over all batches and gather statistics of its layers; return those that ran. block: which one the part is.

        Of a block, gradients tell what errors cost its outputs: matrices share bytes by that, and so do the rows of each.
        """
        gathering = Gathering(layers, lambda number: run(number, "now"))
        gathering.look(0)
        for number in range(len(self._batches)):
            gathering.add(number)
        sensitivity = self._sensitivity(*block) if self.gradients and block is not None else None
        self._now = gathering.save(self._folder / "statistics", True, sensitivity)
        self._weights.drop()
        return gathering.layers

    def _aim(self, run: Run) -> None:
        """Keep what a part of the original model makes, if that is what blocks are trained for."""
        if self.finetune:
            with self._weights.original():
                for number in range(len(self._batches)):
                    run(number, "wanted")

    def _trained(self, prefix: str, block: Any, free: Mapping[str, DType]) -> dict[str, DType]:
        """Return those tensors that fine-tuning changes: parameters of a block that no other one is tied to."""
        names = [prefix + name for name, _ in block.named_parameters()] if self.finetune else []
        return {name: free[name] for name in names if name in free and name not in self._weights.tied}

    def _tune(self, stack: Stack, block: int, trained: Mapping[str, DType]) -> None:
        """Train parameters of a block whose matrices are encoded; then ``tuned`` has what they became."""

        def rounded(name: str, values: F32) -> F32:
            return to_float32(from_float32(values, trained[name]), trained[name])

        self._now = None
        prefix, made = stack.prefix(block), partial(self._made, stack, block, kind="now")
        parameters = {prefix + name: its for name, its in self._weights.load(stack.blocks[block]).named_parameters()}
        parameters = {name: parameters[name] for name in trained}
        found = tune(parameters, made, partial(self._activations.given, kind="wanted"), len(self._batches), rounded)
        self._weights.drop()
        self._tunings.append(found)
        self.tuned = {name: from_float32(values, trained[name]).reshape(-1) for name, values in found.values.items()}

    def _sensitivity(self, stack: Stack, block: int) -> Sensitivity:
        probes = Probes()
        for number in range(len(self._batches)):
            probes.offer(number)
        weights = ((stack.prefix(block) + name, its) for name, its in stack.blocks[block].named_parameters())
        return Sensitivity(weights, partial(self._made, stack, block, kind="now"), probes.kept)

    def _leave(self, run: Run) -> None:
        """Hand what a part makes, once it is encoded, to the next one, and forget its weights and statistics."""
        self._now, self.tuned = None, {}
        for number in range(len(self._batches)):
            if self.sequential:
                run(number, "now")
            self._activations.advance(number)
        self._weights.drop()

    def _between(self, index: int, number: int, kind: str) -> None:
        """Run what comes before a stack, and behind those before it; keep what the first block is given, and how each is called.

        index: of the stack; where there is none, the model runs to its end.
        """
        chain, calls = Chain(self._stacks), list[Given]()

        def past(stack: Stack, block: int, x: torch.Tensor, given: Given) -> Any:
            chain.step(stack, block, x)
            if len(chain.done) > index:
                if block == 0:
                    self._activations.keep(number, kind, x)
                calls.append(given)
                if len(calls) == len(stack.blocks):
                    raise _Stop
            elif block == len(stack.blocks) - 1:
                x = self._activations.given(number, f"{kind}.{len(chain.done) - 1}")
            return chain.hand(stack, block, stack.returned(block, x))

        with replaced(self._stacks, self._weights, past):
            try:
                call(self._model, self._batches[number])
                chain.end(self._stacks)
            except _Stop:
                self._activations.keep_calls(number, kind, calls)

    def _through(self, stack: Stack, block: int, number: int, kind: str) -> None:
        """Run a block and keep what it makes."""
        self._activations.keep(number, kind, self._made(stack, block, number, kind))

    def _made(self, stack: Stack, block: int, number: int, kind: str) -> torch.Tensor:
        """Run a block over what it is given, by the encoded blocks before it or, ``wanted``, by the original ones; return what it makes."""
        args, kwargs = self._activations.call(number, kind, block)
        return stack.state(block, stack.blocks[block](self._activations.given(number, kind), *args, **kwargs))


class _Stop(Exception):
    """All that was wanted of a run has been seen."""


__all__ = ["Walk"]
