"""Stacks of blocks: in which order a model calls them, and what it hands them besides hidden states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, TypeAlias

from wcodec.calibration.weights import Weights
from wcodec.errors import EncodeError

if TYPE_CHECKING:
    import torch

Given: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""What a block is called with behind its hidden states: other arguments, and keywords."""
Forward: TypeAlias = "Callable[[Stack, int, torch.Tensor, Given], Any]"
"""What is called in place of a block: with its stack, its number, hidden states, and what else it is given."""


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Blocks of which each is given what the one before it returns. path: their name in the model.

    forms: by block, as far as one has run: how many values it returns in a tuple, of which the first goes on; 0 where it returns a tensor.
    """

    path: str
    blocks: Sequence[Any]
    forms: dict[int, int] = field(default_factory=dict)

    def prefix(self, block: int) -> str:
        """Return what names of a block's tensors begin with."""
        return f"{self.path}.{block}."

    def state(self, block: int, found: Any) -> torch.Tensor:
        """Return the hidden states among what a block returns. Raises EncodeError."""
        import torch

        state = found[0] if isinstance(found, tuple) and found else found
        if not isinstance(state, torch.Tensor):
            raise refusal(f"{self.prefix(block)[:-1]} returns {type(state).__name__}, not hidden states")
        self.forms[block] = len(found) if isinstance(found, tuple) else 0
        return state

    def returned(self, block: int, state: torch.Tensor) -> Any:
        """Return hidden states as a block does, without what else it returns."""
        return (state, *[None] * (self.forms[block] - 1)) if self.forms[block] else state


class Chain:
    """Sees the calls of a run: blocks of a stack one after the other, each with what the one before it has returned, and stack after stack.

    order: in which stacks must be called, where it is known. done: those that were. Raises EncodeError.
    """

    def __init__(self, order: Sequence[Stack] = ()) -> None:
        self.done: list[Stack] = []
        self._order, self._next = order, 0
        self._state: Any = None

    def step(self, stack: Stack, block: int, x: torch.Tensor) -> None:
        """See a call."""
        if self._next == 0 and block == 0 and stack not in self.done and stack in (self._order[len(self.done) :][:1] or [stack]):
            self.done.append(stack)
        elif block != self._next or not self.done or stack is not self.done[-1] or x is not self._state:
            raise refusal(f"{stack.prefix(block)[:-1]} is not given what the block before it returns")

    def hand(self, stack: Stack, block: int, found: Any) -> Any:
        """See what a block returns, and return that."""
        self._state, self._next = stack.state(block, found), (block + 1) % len(stack.blocks)
        return found

    def end(self, stacks: Sequence[Stack]) -> None:
        """See the end of a run along stacks."""
        for stack in stacks:
            if stack not in self.done or (stack is self.done[-1] and self._next):
                raise refusal(f"not all of {stack.path} is called")


def stacks_of(model: torch.nn.Module) -> list[Stack]:
    """Return a model's stacks of blocks: outermost lists of modules that have parameters. Raises EncodeError."""
    import torch

    found: list[Stack] = []
    for name, its in model.named_modules():
        inner = any(name.startswith(f"{other.path}.") for other in found)
        if isinstance(its, torch.nn.ModuleList) and not inner and any(True for _ in its.parameters()):
            found.append(Stack(name, list(its)))
    blocks = [block for stack in found for block in stack.blocks]
    if not blocks or len(set(blocks)) < len(blocks):
        raise refusal("a block stands in two places" if blocks else "the model has no stack of blocks")
    return found


def in_order(stacks: Sequence[Stack], layers: Mapping[str, Any], weights: Weights, run: Callable[[], object]) -> list[Stack]:
    """Run a model, one block's weights after the other, and return its stacks as they are called.

    layers: those outside the stacks, by name. A second run, in which blocks are passed by and only the last of a stack gives what it gave,
    must hand blocks and layers the same as before, but for hidden states within a stack: then a walk sees what the whole model sees.
    Raises EncodeError.
    """
    ends: dict[str, torch.Tensor] = {}

    def through(stack: Stack, block: int, x: torch.Tensor, given: Given) -> Any:
        weights.drop(running=True)
        its = weights.load(stack.blocks[block])
        found = type(its).forward(its, x, *given[0], **given[1])
        ends[stack.path] = stack.state(block, found)
        return found

    def past(stack: Stack, block: int, x: torch.Tensor, given: Given) -> Any:
        return stack.returned(block, ends[stack.path] if block == len(stack.blocks) - 1 else x)

    chain, wanted = _shown(Chain(), stacks, layers, weights, through, run)
    try:
        _, found = _shown(Chain(chain.done), stacks, layers, weights, past, run)
    except Exception as error:  # of the model's own code, which misses what it needs
        raise refusal(f"blocks hand on more than hidden states ({error})") from error
    weights.drop()
    for (name, given), (other, seen) in zip_longest(wanted, found, fillvalue=("", None)):
        if name != other or not _same(given, seen):
            raise refusal(f"{(name or other).removesuffix('.')} is given more of other blocks than hidden states behind a stack")
    return chain.done


def _shown(
    chain: Chain,
    stacks: Sequence[Stack],
    layers: Mapping[str, Any],
    weights: Weights,
    forward: Forward,
    run: Callable[[], object],
) -> tuple[Chain, list[tuple[str, Any]]]:
    """Run a model and note what stacks, blocks behind their hidden states, and layers are given."""
    shown: list[tuple[str, Any]] = []

    def called(stack: Stack, block: int, x: torch.Tensor, given: Given) -> Any:
        chain.step(stack, block, x)
        shown.append((stack.prefix(block), (given, None if block else x.clone())))
        return chain.hand(stack, block, forward(stack, block, x, given))

    with replaced(stacks, weights, called), ExitStack() as hooks:
        for name, module in layers.items():

            def seen(module: Any, inputs: tuple[Any, ...], name: str = name) -> None:
                shown.append((name, inputs))

            hooks.callback(module.register_forward_pre_hook(seen).remove)
        run()
    chain.end(stacks)
    return chain, shown


@contextmanager
def replaced(stacks: Sequence[Stack], weights: Weights, forward: Forward) -> Iterator[None]:
    """Call something in place of the blocks of stacks, which stay without parameters. Raises EncodeError."""

    def called(stack: Stack, block: int, *args: Any, **kwargs: Any) -> Any:
        if not args:
            raise refusal(f"{stack.prefix(block)[:-1]} is given hidden states as a keyword")
        return forward(stack, block, args[0], (args[1:], kwargs))

    with ExitStack() as opened:
        for stack in stacks:
            opened.enter_context(weights.without(stack.blocks))
            for number, block in enumerate(stack.blocks):
                block.forward = partial(called, stack, number)
                opened.callback(delattr, block, "forward")
        yield


def _same(one: Any, other: Any) -> bool:
    """Tell whether tensors among what was given are equal; other values than numbers and texts are not compared."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(its, other[key]) for key, its in one.items())
    return not isinstance(one, bool | int | float | str) or one == other


def refusal(what: str) -> EncodeError:
    """Return the error of a model that walks do not go along."""
    return EncodeError(f"{what}, and a walk goes along stacks of blocks: gather statistics of the whole model first (wcodec calibrate)")


__all__ = ["Chain", "Given", "Stack", "in_order", "refusal", "replaced", "stacks_of"]
