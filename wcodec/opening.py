"""safe_open: open a file for one framework, as safetensors does."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from wcodec.api.opened import Framework, Opened
from wcodec.types import Limits


def safe_open(
    filename: str | Path | bytes,
    framework: str = "np",
    device: Any = "cpu",
    *,
    backend: Literal["pread", "mmap"] = "pread",
    threads: int | None = None,
    kernels: str = "auto",
    limits: Limits | None = None,
    layers: int | None = None,
) -> Opened:
    """Open a ``.wcodec`` file for reading, with the calls of safetensors' ``safe_open``.

    framework: ``np``/``numpy`` or ``pt``/``torch``/``pytorch``. device: where torch tensors are decoded.
    backend: how stored bytes are read; pread
    survives a file that is cut off while open. threads: for decoding, all cores by default. kernels: auto, numpy, native, torch or triton.
    limits: what the file may ask for. layers: stop after so many parts of tensors that are stored in
    layers (``sum``). Raises FormatError, LimitExceeded, OSError, ValueError.
    """
    options: dict[str, Any] = {"threads": threads, "kernels": kernels, "limits": limits, "layers": layers}
    return Opened(filename, _framework(framework, device, kernels), backend=backend, device=str(device), **options)


def _framework(name: str, device: Any, kernels: str) -> Framework:
    if name in ("np", "numpy"):
        if str(device) != "cpu" or kernels in ("torch", "triton"):
            raise ValueError(f"numpy arrays live on the cpu, not on {device!r}, and {kernels!r} does not make them")
        from wcodec.numpy import NUMPY

        return NUMPY
    if name in ("pt", "torch", "pytorch"):
        from wcodec.torch import torch_framework

        return torch_framework(device, kernels)
    raise ValueError(f"framework {name!r} is not one of np, numpy, pt, torch, pytorch")
