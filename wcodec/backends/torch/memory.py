"""Holding, moving and checking tensors (numpy/memory.py)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from wcodec.backends.base import Backend
from wcodec.backends.torch.arrays import as_array, dtype_of, signed, unsigned
from wcodec.backends.torch.calls import Call, Recorder, checked, fail, verb
from wcodec.backends.torch.staging import Staging
from wcodec.coding import sampling
from wcodec.types import U8, Stream, UInts

EXPONENT = 0x7F800000


@dataclass(frozen=True, slots=True)
class DeviceStream:
    """A stream whose bytes are on a device until they are read."""

    data: Tensor

    @property
    def size(self) -> int:
        return self.data.numel()

    def read(self, start: int, stop: int) -> AbstractContextManager[U8]:
        return nullcontext(as_array(self.data[start:stop]))


class TorchMemory(Recorder):
    """Tensors in memory of a device. near: the backend of the cpu, for what needs numbers, and for what has no other path."""

    piece: ClassVar[int] = 1 << 31

    def __init__(self, device: torch.device, near: Backend) -> None:
        super().__init__(device)
        self.near, self._staging = near, Staging(device)

    def run(self, name: str, calls: Sequence[Call]) -> None:
        """Do calls of one verb, once what they work on has arrived."""
        self._staging.join()
        super().run(name, calls)

    def wait(self) -> None:
        """Wait until all that was launched is done."""
        torch.empty(1, device=self.device).cpu()

    def empty(self, count: int, dtype: np.dtype[Any]) -> Any:
        """Return a new tensor, uninitialised."""
        return torch.empty(count, dtype=dtype_of(dtype), device=self.device)

    def from_host(self, array: UInts) -> Any:
        """Copy an array of numpy's to the device."""
        return self._staging.copy(array)

    def to_host(self, array: Any) -> Any:
        """Copy a tensor to numpy's memory; waits for it."""
        return as_array(array)

    def stream(self, array: Any) -> Stream:
        """Return the bytes of a tensor as a stream."""
        return DeviceStream(array.view(torch.uint8))

    def sample(self, x: Any, count: int = sampling.SAMPLE) -> Any:
        """Return evenly spread runs of elements in numpy's memory (``sampling.sample``)."""
        if x.numel() <= count:
            return self.to_host(x)
        runs = count // sampling.RUN
        step = (x.numel() - sampling.RUN) // (runs - 1)
        return self.to_host(torch.cat([x[i * step : i * step + sampling.RUN] for i in range(runs)]))

    def pick(self, x: Any, at: Any) -> Any:
        """Return the elements at some positions in numpy's memory."""
        return self.to_host(x[torch.from_numpy(at).to(self.device)])

    def constant(self, x: Any) -> bool:
        """Tell whether all elements have the same bits."""
        return bool((x[:64] == x[:1]).all()) and bool((x == x[:1]).all())

    def extremes(self, x: Any) -> tuple[int, int]:
        """Return the lowest and the highest of one element or more, as unsigned integers."""
        if x.dtype != torch.int64:
            value = unsigned(x)
            return int(value.amin()), int(value.amax())
        low, high = (int(end) for end in (x ^ -(1 << 63)).aminmax())
        return low + (1 << 63), high + (1 << 63)

    def load(self, data: U8, out: Any) -> None:
        """Copy stored bytes to a tensor."""
        self._staging.into(data, out)

    def floats(self, x: Any) -> Any:
        """View storage elements as float32."""
        return x.view(torch.float32)

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        """Return a contiguous copy with other axes, at once."""
        return x.permute(*axes).contiguous()

    @verb
    def copy(self, x: Tensor, out: Tensor) -> None:
        """Copy elements between tensors of one shape."""
        out.copy_(x)

    @verb
    def fill(self, out: Tensor, value: int) -> None:
        """Write one value to all elements."""
        bits = 8 * out.element_size()
        out.fill_(value if bits == 8 else signed(value, bits))

    def check_finite(self, values: Any, rule: str) -> None:
        """Fail with the rule when an element is infinite or no number."""
        self._check_finite(values.view(torch.int32), rule)

    @checked
    def _check_finite(self, status: Tensor, values: Tensor, rule: str) -> None:
        fail(status, rule, values.bitwise_and(EXPONENT) == EXPONENT)

    @checked
    def check_padding(self, status: Tensor, data: Tensor, used: int, rule: str) -> None:
        """Fail with the rule when the last byte has a bit set above its lowest ``used`` ones."""
        fail(status, rule, data[-1:] >> used)
