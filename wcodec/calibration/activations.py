"""What goes from block to block of a walk, on disk: hidden states, and what else blocks are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wcodec.calibration.stacks import Given

if TYPE_CHECKING:
    import torch


class Activations:
    """Tensors of every sample, of two kinds: ``now``, of the encoded model as far as a walk is, and ``wanted``, of the original one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._calls: dict[tuple[int, str], list[Given]] = {}

    def keep(self, number: int, kind: str, x: torch.Tensor) -> None:
        """Keep hidden states; with ``now``, the others stay until ``advance``."""
        import torch

        torch.save(x.contiguous(), self._file(number, "new" if kind == "now" else kind))

    def given(self, number: int, kind: str) -> torch.Tensor:
        """Return the hidden states that come next, or those behind a stack: ``kind`` is its name then, too."""
        return _load(self._file(number, kind))

    def advance(self, number: int) -> None:
        """Go on with the hidden states that were kept last."""
        self._file(number, "new").replace(self._file(number, "now"))

    def end(self, number: int, kind: str, stack: int) -> None:
        """Keep hidden states as those behind a stack."""
        self._file(number, kind).replace(self._file(number, f"{kind}.{stack}"))

    def keep_calls(self, number: int, kind: str, calls: Sequence[Given]) -> None:
        """Keep what the blocks of a stack are given besides hidden states. A tensor that many are given is kept once."""
        import torch

        kept: dict[int, tuple[_Place, torch.Tensor]] = {}

        def place(x: torch.Tensor) -> _Place:
            if id(x) not in kept:
                path = self._file(number, f"{kind}.given.{len(kept)}")
                torch.save(x.clone() if x.untyped_storage().nbytes() > x.nbytes else x, path)
                kept[id(x)] = _Place(path), x
            return kept[id(x)][0]

        self._calls[number, kind] = [_mapped(call, torch.Tensor, place) for call in calls]

    def call(self, number: int, kind: str, block: int) -> Given:
        """Return what a block is given besides hidden states."""
        found: Given = _mapped(self._calls[number, kind][block], _Place, lambda place: _load(place.path))
        return found

    def _file(self, number: int, kind: str) -> Path:
        return self._folder / f"{number}.{kind}"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tensor lies."""

    path: Path


def _mapped(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """Return nested tuples, lists and dicts with values of a kind changed."""
    if isinstance(value, kind):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(_mapped(its, kind, change) for its in value)
    return {key: _mapped(its, kind, change) for key, its in value.items()} if type(value) is dict else value


def _load(path: Path) -> torch.Tensor:
    import torch

    found: torch.Tensor = torch.load(path, weights_only=True)
    return found


__all__ = ["Activations"]
