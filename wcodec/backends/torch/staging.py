"""Copies from the host to a device: through two pinned buffers and a stream of their own, beside reading and decoding."""

from __future__ import annotations

from threading import Lock
from typing import Any

import torch
from torch import Tensor

from wcodec.backends.torch.arrays import as_tensor
from wcodec.types import UInts

BUFFER = 1 << 25
"""Bytes of a pinned buffer: large enough for the bus, small enough that the first copy starts soon."""
LINE = 256
"""Bytes to which copies in a buffer are aligned."""


class Staging:
    """Copies numpy's arrays to a device; on the cpu, plainly.

    On CUDA and ROCm a copy is queued as soon as its bytes stand in pinned memory, on a stream of copies; ``join`` lets the stream that
    decodes wait for all copies queued so far. While one buffer is being copied, the other is filled.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._lock = device, Lock()
        self._pinned: list[Tensor] = []
        self._busy: list[Any] = [None, None]
        self._stream: Any = None
        self._which, self._used = 0, 0

    def copy(self, array: UInts) -> Tensor:
        """Return a copy on the device; the array may change once this returns."""
        if self._device.type == "cpu":
            return as_tensor(array).clone()
        out = torch.empty(array.size, dtype=as_tensor(array[:0]).dtype, device=self._device)
        self.into(array, out)
        return out

    def into(self, array: UInts, out: Tensor) -> None:
        """Copy to a tensor of as many bytes; the array may change once this returns."""
        source, target = as_tensor(array).view(torch.uint8), out.view(torch.uint8)
        if self._device.type != "cuda":
            target.copy_(source)
            return
        with self._lock:
            if self._stream is None:
                self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
                self._pinned = [torch.empty(BUFFER, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
            out.record_stream(self._stream)
            # The memory may have been another tensor's a moment ago, whose work is not done yet.
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            for at in range(0, source.numel(), BUFFER):
                self._piece(source[at : at + BUFFER], target[at : at + BUFFER])

    def _piece(self, source: Tensor, target: Tensor) -> None:
        size = source.numel()
        if self._used + size > BUFFER:
            self._busy[self._which] = self._stream.record_event()
            self._which, self._used = 1 - self._which, 0
            if self._busy[self._which] is not None:
                self._busy[self._which].synchronize()
        room = self._pinned[self._which][self._used : self._used + size]
        room.copy_(source)
        with torch.cuda.stream(self._stream):
            target.copy_(room, non_blocking=True)
        self._used += -(-size // LINE) * LINE

    def join(self) -> None:
        """Let what is launched from now on see all copies."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
