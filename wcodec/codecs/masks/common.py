"""What the codecs of masks share: BOOL arrays of 0 and 1 that are known by the positions of the kept elements."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from math import prod
from typing import ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import Codec, Env, cut
from wcodec.codecs.integers.smallest import smallest
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import U32, U64, Section, Spec, UInts

RUN = 1 << 24
"""Elements whose positions are held at once."""
WIDEST = 1 << 24
"""Elements of a block, at most."""
KEPT = 1 << 12
"""Kept elements that a block should have, so that its count costs next to nothing."""


class Mask(Codec):
    """A codec of masks that decodes units of elements to positions."""

    whole: ClassVar[bool] = True
    host_encode: ClassVar[str] = "positions are sorted into blocks by numpy"

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name == "BOOL"

    @abstractmethod
    def units(self, section: Section, spec: Spec, env: Env, first: int, last: int) -> tuple[int, U32]:
        """Return the kept elements before unit first, and positions from its start on of those in units first … last − 1."""

    def positions(self, section: Section, spec: Spec, env: Env, start: int, stop: int, kept: int = 0) -> tuple[int, U32]:
        size = self.unit(section, spec, env)
        first = start // size
        before, found = self.units(section, spec, env, first, -(-stop // size))
        if env.near is not None:
            return before, found
        return cut(before, found, start - first * size, stop - first * size)

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        for low, high in runs(start, stop, env):
            _, found = self.positions(section, spec, env, low, high, 0)
            env.backend.mark(found, out[low - start : high - start])


def runs(start: int, stop: int, env: Env) -> Iterator[tuple[int, int]]:
    """Cut a window at multiples of RUN; an empty one, and one on a device, is itself."""
    if start == stop or env.near is not None:
        yield start, stop
        return
    for at in range(start // RUN * RUN, stop, RUN):
        yield max(at, start), min(at + RUN, stop)


def check_dtype(spec: Spec, rule: str) -> None:
    """Check that a mask is one. Raises Corrupt with the page's rule."""
    if spec.dtype.name != "BOOL":
        raise Corrupt(f"a mask decodes to BOOL, not {spec.dtype.name}", rule=rule)


def kept_of(x: UInts, spec: Spec, env: Env) -> U32:
    """Return the positions that a mask of 0 and 1 keeps. Raises EncodeError for others, and above 2^32 elements."""
    if spec.dtype.name != "BOOL" or x.size >= 2**32 or (x.size and int(x.max()) > 1):
        raise EncodeError(f"a mask has BOOL elements of 0 and 1, fewer than 2^32 of them, not {spec}")
    return env.backend.byte_positions(x)


def block_of(count: int, kept: int) -> int:
    """Choose the elements of a block: a power of two with about KEPT kept ones."""
    wanted = KEPT * max(count, 1) // max(kept, 1)
    return 1 << min(max(wanted, 1 << 15).bit_length() - 1, WIDEST.bit_length() - 1)


def encode_counts(counts: U32, env: Env) -> Section:
    """Encode the part ``counts``."""
    return smallest(counts, Spec.of("U32", counts.size), env, zstd=False)


def ranks(section: Section, blocks: int, env: Env) -> tuple[U32, U64]:
    """Decode the part ``counts`` once; return it and the kept elements before every block and in all."""
    found = section.memo.get("ranks")
    if found is None:
        counts: U32 = base.decode_all(section.parts["counts"], Spec.of("U32", blocks), env.host)
        found = section.memo["ranks"] = counts, np.concatenate((np.zeros(1, np.uint64), np.cumsum(counts, dtype=np.uint64)))
    counts, before = found
    return counts, before


def matrix(spec: Spec) -> tuple[int, int]:
    """Return rows and columns of a mask: the first dimension, and all others as one."""
    rows = spec.shape[0] if len(spec.shape) > 1 else 1
    return rows, prod(spec.shape[1:]) if len(spec.shape) > 1 else spec.count
