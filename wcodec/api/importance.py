"""How much an error of each weight matters, given as a file or as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.api.files import Checkpoint
from wcodec.coding.numbers import to_float32
from wcodec.errors import RecipeError


class FileImportance(Mapping[str, npt.NDArray[np.float32]]):
    """Importance from a safetensors or ``.wcodec`` checkpoint, one tensor in memory at a time; flat arrays."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        with Checkpoint(path) as found:
            self._names = found.names

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        if name not in self._names:
            raise KeyError(name)
        with Checkpoint(self._path) as found:
            spec = found.spec(name)
            out = np.empty(spec.count, spec.dtype.storage)
            found.read(name, 0, spec.count, out)
        return checked(name, to_float32(out, spec.dtype))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class ArrayImportance(Mapping[str, npt.NDArray[np.float32]]):
    """Importance from arrays of any shape and float dtype, made flat when asked for."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> npt.NDArray[np.float32]:
        return checked(name, np.asarray(self._arrays[name], np.float32).reshape(-1))

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def importance_of(source: str | Path | Mapping[str, Any] | None) -> Mapping[str, npt.NDArray[np.float32]] | None:
    """Return importance from a checkpoint file, a mapping name → array, or None. Raises FormatError, OSError."""
    if source is None:
        return None
    return ArrayImportance(source) if isinstance(source, Mapping) else FileImportance(source)


def checked(name: str, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return weights that are finite and at least 0. Raises RecipeError."""
    if not np.isfinite(weights).all() or weights.min(initial=0) < 0:
        raise RecipeError("importance is negative or not finite", at=name)
    return weights
