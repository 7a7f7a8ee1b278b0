"""Verbs that hold, move and check arrays: what codecs would do in numpy itself were all arrays numpy's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from wcodec.coding import sampling
from wcodec.errors import Corrupt
from wcodec.types import U8, MemoryStream, Stream, UInts


class MemoryVerbs:
    """Arrays of storage elements in memory. piece: elements that are best worked on at once, so that they stay in a cache."""

    piece: ClassVar[int] = 1 << 16

    def empty(self, count: int, dtype: np.dtype[Any]) -> UInts:
        """Return a new array, uninitialised; dtype: of storage elements, as numpy names them."""
        return np.empty(count, dtype)

    def from_host(self, array: UInts) -> UInts:
        """Return an array of numpy's as one of this backend's; what numpy lends may go, or change, once a device has its copy."""
        return array

    def to_host(self, array: UInts) -> UInts:
        """Return an array as one of numpy's."""
        return array

    def stream(self, array: UInts) -> Stream:
        """Return the bytes of an array as a stream."""
        return MemoryStream(array.view(np.uint8))

    def sample(self, x: UInts, count: int = sampling.SAMPLE) -> UInts:
        """Return evenly spread runs of elements in numpy's memory (``sampling.sample``)."""
        return sampling.sample(x, count)

    def pick(self, x: UInts, at: npt.NDArray[np.intp]) -> UInts:
        """Return the elements at some positions in numpy's memory."""
        return x[at]

    def constant(self, x: UInts) -> bool:
        """Tell whether all elements have the same bits; most arrays show at either end that they have not."""
        if x.size and x[0] != x[-1]:
            return False
        step = 1 << 16
        return all(bool((x[at : at + step] == x[0]).all()) for at in range(0, x.size, step))

    def extremes(self, x: UInts) -> tuple[int, int]:
        """Return the lowest and the highest of one element or more, as unsigned integers."""
        return int(np.min(x)), int(np.max(x))

    def load(self, data: U8, out: UInts) -> None:
        """Write stored bytes, in numpy's memory, to out."""
        out.view(np.uint8)[:] = data

    def copy(self, x: UInts, out: UInts) -> None:
        """Copy elements between arrays, or views of arrays, of one shape."""
        out[...] = x

    def fill(self, out: UInts, value: int) -> None:
        """Write one value to all elements."""
        out[:] = value

    def floats(self, x: UInts) -> npt.NDArray[np.float32]:
        """View storage elements as float32, for verbs that calculate."""
        return x.view(np.float32)

    def transpose(self, x: npt.NDArray[Any], axes: Sequence[int]) -> npt.NDArray[Any]:
        """Return a contiguous copy with other axes, at once (``at_once``)."""
        return np.ascontiguousarray(x.transpose(axes))

    def apart(self) -> AbstractContextManager[None]:
        """Let verbs inside the block go before or after those of neighbouring blocks ``apart``."""
        return nullcontext()

    def at_once(self) -> AbstractContextManager[None]:
        """Let verbs do inside the block what an open batch of a device would leave for later: others will use their results."""
        return nullcontext()

    def check_finite(self, values: npt.NDArray[np.float32], rule: str) -> None:
        """Raise Corrupt with the rule when an element is infinite or no number."""
        if not np.isfinite(values).all():
            raise Corrupt("an element is infinite or no number", rule=rule)

    def check_padding(self, data: U8, used: int, rule: str) -> None:
        """Raise Corrupt with the rule when the last byte has a bit set above its lowest ``used`` ones."""
        if int(data[-1]) >> used:
            raise Corrupt("bits after the last value are not zero", rule=rule)
