"""Statistics of a model block by block, while it is encoded: weights of one block are in memory at a time, and its statistics alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wcodec.calibration.finetuning import Tuning, tune
from wcodec.calibration.gather import Gathering, call, layers_of, prepared
from wcodec.calibration.sensitivity import Probes, Sensitivity
from wcodec.calibration.statistics import Statistics
from wcodec.codecs.floats.curvature import Curvature
from wcodec.coding.numbers import from_float32, to_float32
from wcodec.errors import EncodeError
from wcodec.recipes.base import Calibration
from wcodec.types import DType, UInts

if TYPE_CHECKING:
    import torch

F32 = npt.NDArray[np.float32]


class Walk(Calibration):
    """Statistics of the part of a model where the walk is: what comes before its stack of blocks, a block, or what comes behind.

    model: without weights (``hollow``). batches: what it is called with. read: of a name that is among ``known``, the weights. scratch: a
    folder for what goes from one block to the next, and for a block's statistics. sequential: blocks are given what the encoded ones
    before them make, not what the original ones do, so that they make up for it. gradients: run blocks backwards, too, for at most 128 of
    the batches, to learn what errors cost their outputs. finetune: once the matrices of a block are encoded, train its norms and biases
    so that it gives what the original model does there. tuned: storage elements of those that are better so, of the part where the walk
    is. stack: what ends with the walk. Use as a context manager.
    Raises EncodeError unless there is one stack of blocks, and, to fine-tune, two batches and a sequential walk.
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
        self._weights = _Weights(model, read, known)
        self._path, self._blocks = _stack(model)
        self._calls: list[list[tuple[tuple[Any, ...], dict[str, Any]]]] = []
        self._tuples = False
        self._now: Statistics | None = None
        self.stack = ExitStack()
        self._folder = Path(self.stack.enter_context(TemporaryDirectory(prefix=".wcodec-walk-", dir=scratch)))

    def __enter__(self) -> Walk:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._now = None
        self.stack.close()

    def parts(self, names: Sequence[str], free: Mapping[str, DType] | None = None) -> Iterator[list[str]]:
        """Yield names of the checkpoint's tensors, part by part, each once its statistics are there. Raises EncodeError.

        free: tensors that fine-tuning may change, if it is asked for. Those of a block come after its others.
        """
        prefixes = {f"{self._path}.{i}.": i for i in range(len(self._blocks))}
        inside: dict[int, list[str]] = {i: [] for i in range(len(self._blocks))}
        outside: list[str] = []
        for name in names:
            block = next((i for prefix, i in prefixes.items() if name.startswith(prefix)), None)
            (outside if block is None else inside[block]).append(name)
        layers = {name: its for name, its in layers_of(self._model).items() if not name.startswith(f"{self._path}.")}
        with prepared(self._model):
            early = self._look(layers, self._before)
            late = [name for name in outside if name in layers and name not in early]
            yield [name for name in outside if name not in late]
            self._aim(None)
            self._leave(self._before)
            for i, block in enumerate(self._blocks):
                prefix, run = f"{self._path}.{i}.", partial(self._through, i)
                trained = self._trained(prefix, block, free or {})
                self._aim(i)
                self._look({prefix + name: its for name, its in layers_of(block).items()}, run, i)
                yield [name for name in inside[i] if name not in trained]
                if trained:
                    self._tune(i, trained)
                    yield list(trained)
                self._leave(run)
            if late:
                self._look({name: layers[name] for name in late}, self._behind)
                yield late

    def replace(self, name: str, read: Callable[[], F32]) -> None:
        """Let the part where the walk is go on with what became of a tensor. read: is called when it is needed."""
        self._weights.other[name] = read

    def notes(self) -> Iterator[str]:
        """Yield what fine-tuning came to."""
        if self.finetune and not self._tunings:
            yield "nothing was fine-tuned: no norms or biases of blocks are encoded"
        elif self.finetune:
            better = [round(100 * (1 - its.after / its.before)) for its in self._tunings if its.values]
            yield f"fine-tuned norms and biases of {len(better)} of {len(self._blocks)} blocks" + (
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

    def _look(self, layers: dict[str, Any], run: Callable[[int], None], block: int | None = None) -> Collection[str]:
        """Run a part over all batches and gather statistics of its layers; return those that ran. block: which one the part is.

        Of a block, gradients tell what errors cost its outputs: matrices share bytes by that, and so do the rows of each.
        """
        gathering = Gathering(layers, run)
        gathering.look(0)
        for number in range(len(self._batches)):
            gathering.add(number)
        sensitivity = self._sensitivity(block) if self.gradients and block is not None else None
        self._now = gathering.save(self._folder / "statistics", True, sensitivity)
        self._weights.drop()
        return gathering.layers

    def _aim(self, block: int | None) -> None:
        """Keep what the original model gives behind a block, or, with None, before all of them, if that is what it is trained for."""
        for number in range(len(self._batches) if self.finetune else 0):
            if block is None:
                self._file(number, "new").replace(self._file(number, "wanted"))
            else:
                self._keep(number, self._made(block, number, "wanted"), "wanted")

    def _trained(self, prefix: str, block: Any, free: Mapping[str, DType]) -> dict[str, DType]:
        """Return those tensors that fine-tuning changes: parameters of a block that no other one is tied to."""
        names = [prefix + name for name, _ in block.named_parameters()] if self.finetune else []
        return {name: free[name] for name in names if name in free and name not in self._weights.tied}

    def _tune(self, block: int, trained: Mapping[str, DType]) -> None:
        """Train parameters of a block whose matrices are encoded; then ``tuned`` has what they became."""

        def rounded(name: str, values: F32) -> F32:
            return to_float32(from_float32(values, trained[name]), trained[name])

        self._now = None
        prefix = f"{self._path}.{block}."
        parameters = {prefix + name: its for name, its in self._weights.load(self._blocks[block]).named_parameters()}
        parameters = {name: parameters[name] for name in trained}
        found = tune(parameters, partial(self._made, block), partial(self._given, kind="wanted"), len(self._batches), rounded)
        self._weights.drop()
        self._tunings.append(found)
        self.tuned = {name: from_float32(values, trained[name]).reshape(-1) for name, values in found.values.items()}

    def _sensitivity(self, block: int) -> Sensitivity:
        probes = Probes()
        for number in range(len(self._batches)):
            probes.offer(number)
        weights = ((f"{self._path}.{block}.{name}", its) for name, its in self._blocks[block].named_parameters())
        return Sensitivity(weights, partial(self._made, block), probes.kept)

    def _leave(self, run: Callable[[int], None]) -> None:
        """Hand what a part makes, once it is encoded, to the next one, and forget its weights and statistics."""
        self._now, self.tuned = None, {}
        for number in range(len(self._batches)):
            if self.sequential:
                run(number)
            self._file(number, "new").replace(self._file(number))
        self._weights.drop()
        self._weights.other.clear()

    def _before(self, number: int) -> None:
        """Run what comes before the blocks; keep what the first one is given, and how each is called."""
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def stub(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            if not calls:
                self._keep(number, x)
            calls.append((args, kwargs))
            if len(calls) == len(self._blocks):
                raise _Stop
            return x

        with self._stubs([stub] * len(self._blocks)):
            self._run(number)
        self._calls[number : number + 1] = [calls]

    def _through(self, block: int, number: int) -> None:
        """Run a block and keep what it makes."""
        self._keep(number, self._made(block, number))

    def _made(self, block: int, number: int, kind: str = "now") -> torch.Tensor:
        """Run a block over what it is given, by the encoded blocks before it or, ``wanted``, by the original ones; return what it makes."""
        args, kwargs = self._calls[number][block]
        found = self._blocks[block](self._given(number, kind), *args, **kwargs)
        self._tuples = isinstance(found, tuple)
        made: torch.Tensor = found[0] if self._tuples else found
        return made

    def _behind(self, number: int) -> None:
        """Run what comes behind the blocks."""

        def stub(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            return x

        def last(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            return (self._given(number),) if self._tuples else self._given(number)

        with self._stubs([*[stub] * (len(self._blocks) - 1), last]):
            self._run(number)

    def _run(self, number: int) -> None:
        try:
            call(self._model, self._batches[number])
        except _Stop:
            return

    @contextmanager
    def _stubs(self, stubs: Sequence[Callable[..., Any]]) -> Iterator[None]:
        """Call these in place of the blocks."""
        with ExitStack() as stack:
            for block, stub in zip(self._blocks, stubs, strict=True):
                block.forward = stub
                stack.callback(delattr, block, "forward")
                stack.enter_context(self._weights.without(block))
            yield

    def _file(self, number: int, kind: str = "now") -> Path:
        return self._folder / f"{number}.{kind}"

    def _keep(self, number: int, x: torch.Tensor, kind: str = "new") -> None:
        import torch

        torch.save(x.contiguous(), self._file(number, kind))

    def _given(self, number: int, kind: str = "now") -> torch.Tensor:
        import torch

        found: torch.Tensor = torch.load(self._file(number, kind), weights_only=True)
        return found


class _Stop(Exception):
    """All that was wanted of a run has been seen."""


class _Weights:
    """Parameters of a hollow model, which come when their module, or block, is called, and stay until they are dropped.

    other: what to read in place of the checkpoint's tensors.
    """

    def __init__(self, model: torch.nn.Module, read: Callable[[str], F32], known: Collection[str]) -> None:
        self.other: dict[str, Callable[[], F32]] = {}
        self._read = read
        self._names: dict[int, list[str]] = {}
        self._there: dict[str, tuple[Any, str, Any]] = {}
        self._off: set[Any] = set()
        _, blocks = _stack(model)
        whole = {block: list(block.modules()) for block in blocks}
        inner = {its for modules in whole.values() for its in modules}
        self._with = whole | {its: [its] for its in model.modules() if its not in inner and its._parameters}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self._names.setdefault(id(parameter), []).append(name)
        self.tied = {name for names in self._names.values() if len(names) > 1 for name in names}
        self._names = {key: [name for name in names if name in known] or names for key, names in self._names.items()}
        missing = sorted(names[0] for names in self._names.values() if names[0] not in known)
        if missing:
            raise EncodeError(f"the checkpoint has no {', '.join(missing[:4])}: names must be those of the model's parameters")
        for module in self._with:
            module.register_forward_pre_hook(self._come)

    def load(self, block: Any) -> Any:
        """Return a block with its parameters."""
        self._come(block, ())
        return block

    def drop(self) -> None:
        """Forget all that is loaded."""
        for module, key, empty in self._there.values():
            module._parameters[key] = empty
        self._there.clear()

    @contextmanager
    def without(self, block: Any) -> Iterator[None]:
        """Call a block without its parameters."""
        self._off.add(block)
        try:
            yield
        finally:
            self._off.discard(block)

    def _come(self, module: Any, inputs: Any) -> None:
        import torch

        for its in () if module in self._off else self._with[module]:
            for key, parameter in its._parameters.items():
                if parameter is not None and parameter.is_meta:
                    name = self._names[id(parameter)][0]
                    self._there[name] = its, key, parameter
                    found = self.other.get(name, partial(self._read, name))()
                    its._parameters[key] = torch.nn.Parameter(torch.from_numpy(found), requires_grad=False)


@contextmanager
def hollow() -> Iterator[None]:
    """Let modules be made with their buffers, but without memory for their parameters."""
    import torch

    plain = torch.nn.Module.register_parameter

    def register(module: Any, name: str, parameter: Any) -> None:
        plain(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = torch.nn.Parameter(parameter.to("meta"), requires_grad=False)

    torch.nn.Module.register_parameter = register  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = plain  # type: ignore[method-assign]


def _stack(model: torch.nn.Module) -> tuple[str, list[Any]]:
    """Return the name and the blocks of a model's only stack."""
    import torch

    found: dict[str, Any] = {}
    for name, its in model.named_modules():
        inner = any(name.startswith(f"{other}.") for other in found)
        if isinstance(its, torch.nn.ModuleList) and not inner and any(True for _ in its.parameters()):
            found[name] = its
    if len(found) != 1:
        raise EncodeError(
            f"the model has {len(found)} stacks of blocks ({', '.join(found) or 'none'}), and a walk goes along one: "
            "gather statistics of the whole model first (wcodec calibrate)"
        )
    ((name, blocks),) = found.items()
    return name, list(blocks)


__all__ = ["Walk", "hollow"]
