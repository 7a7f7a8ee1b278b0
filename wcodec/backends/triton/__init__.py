"""The hot verbs as Triton kernels: one launch over the blocks of many sections, the same bytes as numpy (spec/gpu.md)."""

import triton

from wcodec.backends.base import Backend
from wcodec.backends.torch import load as load_torch
from wcodec.backends.triton.backend import TritonBackend
from wcodec.errors import BackendUnavailable


def load(device: str, near: Backend) -> TritonBackend:
    """Return the backend of a device, as torch names it; near: that of the cpu.

    Raises BackendUnavailable when torch lacks the device, or Triton makes no code for it (for the cpu only TRITON_INTERPRET=1 does).
    """
    found = load_torch(device, near).device
    if found.type not in ("cuda", "xpu") and not triton.knobs.runtime.interpret:
        raise BackendUnavailable(f"Triton makes no code for the device {device!r}")
    return TritonBackend(found, near)


__all__ = ["TritonBackend", "load"]
