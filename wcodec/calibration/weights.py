"""Weights of a hollow model: read when a module, or a block, is called, and dropped when a walk is done with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from wcodec.errors import EncodeError

if TYPE_CHECKING:
    import torch

F32 = npt.NDArray[np.float32]


class Weights:
    """Parameters of a hollow model, which come when their module, or block, is called, and stay until they are dropped.

    blocks: modules whose parameters come all at once. other: what to read in place of the checkpoint's tensors. tied: names of parameters
    that have several. Raises EncodeError where the checkpoint lacks one.
    """

    def __init__(self, model: torch.nn.Module, blocks: Iterable[Any], read: Callable[[str], F32], known: Collection[str]) -> None:
        self.other: dict[str, Callable[[], F32]] = {}
        self._read, self._plain = read, False
        self._names: dict[int, list[str]] = {}
        self._there: dict[tuple[Any, str], Any] = {}
        self._loaded: WeakValueDictionary[str, torch.nn.Parameter] = WeakValueDictionary()
        self._off: set[Any] = set()
        whole = {block: list(block.modules()) for block in blocks}
        inner = {its for modules in whole.values() for its in modules}
        self._with = whole | {its: [its] for its in model.modules() if its not in inner and its._parameters}
        self._around = {its for its in model.modules() if its not in inner and not whole.keys().isdisjoint(its.modules())}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self._names.setdefault(id(parameter), []).append(name)
        self.tied = {name for names in self._names.values() if len(names) > 1 for name in names}
        self._names = {key: [name for name in names if name in known] or names for key, names in self._names.items()}
        hollow = {id(its) for its in model.parameters() if its.is_meta}
        missing = sorted(names[0] for key, names in self._names.items() if key in hollow and names[0] not in known)
        if missing:
            raise EncodeError(f"the checkpoint has no {', '.join(missing[:4])}: names must be those of the model's parameters")
        for module in self._with:
            module.register_forward_pre_hook(self._come)

    def load(self, block: Any) -> Any:
        """Return a block with its parameters."""
        self._fill(block)
        return block

    def drop(self, running: bool = False) -> None:
        """Forget all that is loaded. running: but for what modules around blocks have themselves, as the model is about to call one."""
        for module, key in [its for its in self._there if not (running and its[0] in self._around)]:
            module._parameters[key] = self._there.pop((module, key))

    @contextmanager
    def without(self, blocks: Sequence[Any]) -> Iterator[None]:
        """Call blocks without their parameters."""
        self._off.update(blocks)
        try:
            yield
        finally:
            self._off.difference_update(blocks)

    @contextmanager
    def original(self) -> Iterator[None]:
        """Read the checkpoint's tensors, whatever there is in their place."""
        self.drop()
        self._plain = True
        try:
            yield
        finally:
            self._plain = False
            self.drop()

    def _come(self, module: Any, inputs: Any) -> None:
        if module not in self._off:
            self._fill(module)

    def _fill(self, module: Any) -> None:
        for its in self._with[module]:
            for key, parameter in its._parameters.items():
                if parameter is not None and parameter.is_meta:
                    self._there[its, key] = parameter
                    its._parameters[key] = self._get(self._names[id(parameter)][0])

    def _get(self, name: str) -> torch.nn.Parameter:
        """Read a parameter, once for all modules that share it."""
        import torch

        found = self._loaded.get(name)
        if found is None:
            plain = partial(self._read, name)
            values = plain() if self._plain else self.other.get(name, plain)()
            found = self._loaded[name] = torch.nn.Parameter(torch.from_numpy(values), requires_grad=False)
        return found


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


__all__ = ["Weights", "hollow"]
