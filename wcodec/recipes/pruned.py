"""Pruning to exact zeros: by magnitude or importance, n of m, gather-scatter."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar

import numpy as np
from blake3 import blake3

from wcodec.codecs import Env
from wcodec.codecs.masks.common import matrix
from wcodec.codecs.masks.smallest_mask import smallest_mask
from wcodec.codecs.sparse import mask_spec
from wcodec.coding.numbers import LOSSY
from wcodec.errors import EncodeError
from wcodec.recipes.base import Importance, Method, Tensors, require
from wcodec.recipes.gatherscatter import gather_scatter
from wcodec.recipes.selection import Threshold, largest, magnitude
from wcodec.types import U8, U32, Resource, Section, Spec, UInts

INFINITE = 0x7F800000
"""Key of an infinite magnitude."""


@dataclass
class Masked(Method):
    """A method that encodes with ``sparse``.

    values: config of the kept values; none: lossless. share_masks: tensors with equal masks store one.
    """

    values: Mapping[str, Any] | None = None
    share_masks: bool = False
    importance: Importance | None = None
    notes: list[str] = field(default_factory=list, init=False)
    _shared: dict[bytes, Resource] = field(default_factory=dict, init=False)

    @abstractmethod
    def mask(self, name: str, x: UInts, spec: Spec, env: Env) -> U8:
        """Return which elements are kept, 0 or 1. Raises EncodeError."""

    def encode_mask(self, kept: U8, spec: Spec, env: Env) -> Section:
        """Encode a mask; spec: the mask's."""
        return smallest_mask(kept, spec, env)

    def prepare(self, names: Sequence[str], tensors: Tensors, env: Env) -> None:
        """Encode the masks that several tensors have. Called when masks are decided."""
        seen: set[bytes] = set()
        for name in names if self.share_masks else ():
            spec = tensors.spec(name)
            its = mask_spec(spec)
            with tensors.read(name) as x:
                try:
                    kept = self.mask(name, x, spec, env)
                except EncodeError:
                    continue
                key = _key(kept, its)
                if key in seen and key not in self._shared:
                    self._shared[key] = Resource(its, self.encode_mask(kept, its, env))
                seen.add(key)

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        kept, its = self.mask(name, x, spec, env), mask_spec(spec)
        shared = self._shared.get(_key(kept, its)) if self._shared else None
        return env.codecs["sparse"].encode(x, spec, env, mask=shared or self.encode_mask(kept, its, env), values=self.values)


def _key(kept: U8, spec: Spec) -> bytes:
    return bytes(blake3(np.packbits(kept).data).digest()) + str(spec).encode()


@dataclass
class Pruned(Masked):
    """Keep the weights that matter most, all others become 0; without ``keep``, keep all but exact zeros, losslessly.

    keep: fraction of the weights that stays. scope: ``tensor``, or ``model``: of all chosen tensors together.
    """

    name: ClassVar[str] = "pruned"
    keep: float | None = None
    scope: str = "tensor"
    _threshold: Threshold | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        require(self.keep is None or 0 < self.keep <= 1, f"keep is {self.keep}, expected a fraction")
        require(self.scope in ("tensor", "model"), f"scope is {self.scope!r}, expected tensor or model")

    def prepare(self, names: Sequence[str], tensors: Tensors, env: Env) -> None:
        if self.keep is not None and self.scope == "model":
            self._threshold = largest(names, self._reader(tensors), self._count)
        super().prepare(names, tensors, env)

    def _count(self, total: int) -> int:
        assert self.keep is not None
        return round(self.keep * total)

    def _reader(self, tensors: Tensors) -> Callable[[str], U32]:
        def keys(name: str) -> U32:
            spec = tensors.spec(name)
            with tensors.read(name) as x:
                return magnitude(x, spec.dtype, name, self.importance) if suits(x, spec) else np.empty(0, np.uint32)

        return keys

    def mask(self, name: str, x: UInts, spec: Spec, env: Env) -> U8:
        if self.keep is None:
            return np.not_equal(x, 0).view(np.uint8)
        _refuse(x, spec)
        keys = magnitude(x, spec.dtype, name, self.importance)
        threshold = self._threshold or largest([name], lambda _: keys, self._count)
        return threshold.mask(name, keys)


@dataclass
class NofM(Masked):
    """Keep n of every m neighbours.

    n, m: elements kept of a group, and its elements.
    axis: along which; absent: along the inputs, the last axis of a matrix, axis 1 of a convolution [O, I, …].
    """

    name: ClassVar[str] = "n:m"
    n: int = 2
    m: int = 4
    axis: int | None = None

    def __post_init__(self) -> None:
        require(0 < self.n <= self.m <= 32, f"{self.n}:{self.m} is no pattern")

    def mask(self, name: str, x: UInts, spec: Spec, env: Env) -> U8:
        _refuse(x, spec)
        return n_of_m(magnitude(x, spec.dtype, name, self.importance), spec.shape, self.n, self.m, self._axis(spec))

    def encode_mask(self, kept: U8, spec: Spec, env: Env) -> Section:
        return env.codecs["nm"].encode(kept, spec, env, n=self.n, m=self.m, axis=self._axis(spec))

    def _axis(self, spec: Spec) -> int:
        axis = min(1, len(spec.shape) - 1) if self.axis is None else self.axis
        if not -len(spec.shape) <= axis < len(spec.shape):
            raise EncodeError(f"no axis {axis} in {spec}")
        return axis % len(spec.shape)


@dataclass
class GatherScatter(Masked):
    """Keep groups of B weights in different memory banks, k of them in a row.

    keep: fraction that stays, about. banks: B. per_row: k; absent: B.
    """

    name: ClassVar[str] = "gs"
    keep: float = 0.5
    banks: int = 16
    per_row: int | None = None

    def __post_init__(self) -> None:
        k = self.per_row or self.banks
        require(0 < self.keep <= 1 and 0 < self.banks <= 256 and self.banks % k == 0, f"GS({self.banks}, {k}) of {self.keep} is no pattern")

    def mask(self, name: str, x: UInts, spec: Spec, env: Env) -> U8:
        _refuse(x, spec)
        rows, cols = matrix(spec)
        high = self.banks // (self.per_row or self.banks)
        if not rows or rows % high or cols < self.banks:
            raise EncodeError(f"GS({self.banks}, {self.per_row or self.banks}) does not divide {spec}")
        keys = magnitude(x, spec.dtype, name, self.importance)
        groups = max(1, round(self.keep * high * cols / self.banks))
        return gather_scatter(keys.reshape(rows // high, high, cols), self.banks, groups).reshape(-1)

    def encode_mask(self, kept: U8, spec: Spec, env: Env) -> Section:
        return env.codecs["gs"].encode(kept, spec, env, banks=self.banks, per_row=self.per_row or self.banks)


def n_of_m(keys: U32, shape: tuple[int, ...], n: int, m: int, axis: int) -> U8:
    """Return a flat mask of the n largest of every m along an axis; of equal ones the first."""
    length, inner = shape[axis], prod(shape[axis + 1 :])
    groups = -(-length // m)
    padded = np.zeros((prod(shape[:axis]), groups * m, inner), np.uint32)
    padded[:, :length] = keys.reshape(-1, length, inner) + np.uint32(1) if keys.size else 0
    split = padded.reshape(-1, groups, m, inner) if padded.size else np.zeros((0, 1, m, 1), np.uint32)
    order = np.argsort(np.iinfo(np.uint32).max - split, axis=2, kind="stable")
    mask = np.zeros(split.shape, np.uint8)
    np.put_along_axis(mask, order[:, :, :n], 1, axis=2)
    return np.ascontiguousarray(mask.reshape(padded.shape)[:, :length]).reshape(-1)


def suits(x: UInts, spec: Spec) -> bool:
    """Tell whether a tensor may be pruned: finite floats with at least one dimension."""
    if spec.dtype.name not in LOSSY or not spec.shape:
        return False
    return int(magnitude(x, spec.dtype, "", None).max(initial=0)) < INFINITE


def _refuse(x: UInts, spec: Spec) -> None:
    if not suits(x, spec):
        raise EncodeError(f"{spec} is not pruned: not floats, not finite, or without dimensions")
