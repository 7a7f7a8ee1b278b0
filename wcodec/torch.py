"""The torch face, named as safetensors.torch: save, save_file, load, load_file, save_model, load_model."""

from __future__ import annotations

import io
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wcodec.api.encoder import encode_tensors
from wcodec.api.opened import Framework, Opened
from wcodec.api.work import DEVICE
from wcodec.errors import BackendUnavailable
from wcodec.types import DTYPES, Limits, Spec, UInts

NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F4": "float4_e2m1fn_x2",
}  # fmt: skip

OWN = {name: np.dtype(NAMES[name]) for name in ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL", "C64")}
"""numpy's dtypes that torch takes as they are."""


def torch_dtype(name: str) -> torch.dtype:
    """Return torch's dtype for a safetensors dtype. Raises BackendUnavailable where this torch has none (F6 ones never)."""
    found = getattr(torch, NAMES.get(name, ""), None)
    if not isinstance(found, torch.dtype):
        raise BackendUnavailable(f"torch {torch.__version__} has no dtype for {name}; wcodec.numpy gives its packed bytes")
    return found


def _shape(spec: Spec) -> tuple[int, ...]:
    """Return torch's shape: two F4 elements are one of torch's, as safetensors returns them."""
    if spec.dtype.name == "F4" and spec.shape:
        return (*spec.shape[:-1], spec.shape[-1] // 2)
    return spec.shape


def spec_of(tensor: torch.Tensor) -> Spec:
    """Return the spec of a tensor. Raises TypeError for a dtype that safetensors lacks."""
    for name, attribute in NAMES.items():
        if getattr(torch, attribute, None) is tensor.dtype:
            shape = tuple(tensor.shape)
            return Spec(DTYPES[name], (*shape[:-1], shape[-1] * 2) if name == "F4" and shape else shape)
    raise TypeError(f"torch dtype {tensor.dtype} has no safetensors dtype")


def _bytes(tensor: torch.Tensor) -> UInts:
    """View a contiguous cpu tensor's memory as bytes; bit patterns are never touched by a conversion."""
    found: UInts = tensor.reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.empty(0, np.uint8)
    return found


def torch_framework(device: Any = "cpu", kernels: str = "auto") -> Framework:
    """Make the view of arrays that loads to a device; kernels of a device's decode to tensors, on the cpu too."""
    tensors = kernels in DEVICE
    where = torch.device(device)

    def wrap(flat: Any, spec: Spec) -> torch.Tensor:
        dtype = torch_dtype(spec.dtype.name)
        if not len(flat):
            return torch.empty(_shape(spec), dtype=dtype, device=where)
        if isinstance(flat, torch.Tensor):
            return flat.view(dtype).reshape(_shape(spec))
        own = OWN.get(spec.dtype.name)
        if own is None:
            tensor = torch.from_numpy(flat.view(np.uint8)).view(dtype).reshape(_shape(spec))
        else:  # shaped by numpy, which takes a fraction of torch's time
            tensor = torch.from_numpy(flat.view(own).reshape(spec.shape))
        return tensor if where.type == "cpu" else tensor.to(where)

    def flat(out: Any, spec: Spec) -> Any:
        want = torch_dtype(spec.dtype.name)
        if not isinstance(out, torch.Tensor) or out.dtype != want or tuple(out.shape) != _shape(spec):
            raise ValueError(f"out must be a tensor of {want} {list(_shape(spec))}")
        if out.device.type != where.type or not out.is_contiguous():
            raise ValueError(f"out must be contiguous and on {where}")
        return _bytes(out.detach()).view(spec.dtype.storage) if where.type == "cpu" and not tensors else _elements(out.detach())

    return Framework(wrap, flat)


def _elements(tensor: torch.Tensor) -> torch.Tensor:
    """View a contiguous tensor's memory as flat storage elements."""
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    flat = tensor.reshape(-1)
    return flat.view(torch.int32) if tensor.dtype == torch.complex64 else flat.view(kinds[tensor.element_size()])


def load_file(
    filename: str | Path, device: Any = "cpu", *, threads: int | None = None, kernels: str = "auto", limits: Limits | None = None
) -> dict[str, torch.Tensor]:
    """Load all tensors of a ``.wcodec`` file to a device, which decodes them. Tied names share one tensor; all others own their memory."""
    options: dict[str, Any] = {"threads": threads, "kernels": kernels, "limits": limits, "device": str(device), "whole": True}
    with Opened(filename, torch_framework(device, kernels), **options) as opened:
        return opened.get_tensors()


def load(data: bytes, *, limits: Limits | None = None) -> dict[str, torch.Tensor]:
    """Load all tensors from the bytes of a ``.wcodec`` file to the cpu."""
    with Opened(data, torch_framework(), limits=limits) as opened:
        return opened.get_tensors()


def save_file(tensors: Mapping[str, torch.Tensor], filename: str | Path, metadata: Mapping[str, str] | None = None, **options: Any) -> None:
    """Encode tensors to a file; options are those of ``wcodec.encode`` (recipe, threads, force …). Overwrites, as safetensors does.

    Tensors of a device are encoded on it.
    Raises ValueError for non-contiguous tensors and for tensors that share memory (use save_model for those).
    """
    options = _device(tensors) | {"force": True} | options
    found = _storage(tensors, options)
    _refuse_shared(tensors)
    encode_tensors(found, filename, metadata, **options)


def save(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None, **options: Any) -> bytes:
    """Encode tensors to bytes. Raises as save_file."""
    options = _device(tensors) | options
    found = _storage(tensors, options)
    _refuse_shared(tensors)
    buffer = io.BytesIO()
    encode_tensors(found, buffer, metadata, **options)
    return buffer.getvalue()


def save_model(model: torch.nn.Module, filename: str | Path, metadata: Mapping[str, str] | None = None, **options: Any) -> None:
    """Encode a module's state; names that share one tensor are stored once, as tied aliases, and are shared again when loaded."""
    state = model.state_dict()
    owners: dict[tuple[Any, ...], str] = {}
    tied: dict[str, str] = {}
    for name, tensor in sorted(state.items()):
        key = (
            tensor.device,
            tensor.untyped_storage().data_ptr(),
            tensor.storage_offset(),
            tuple(tensor.shape),
            tensor.stride(),
            tensor.dtype,
        )
        owner = owners.setdefault(key, name) if tensor.numel() else name
        tied |= {name: owner} if owner != name else {}
    _refuse_shared({name: tensor for name, tensor in state.items() if name not in tied})
    options = _device(state) | {"force": True} | options
    found = _storage({name: tensor.contiguous() for name, tensor in state.items()}, options)
    encode_tensors(found, filename, metadata, tied=tied, **options)


def load_model(
    model: torch.nn.Module, filename: str | Path, strict: bool = True, device: Any = "cpu", **options: Any
) -> tuple[list[str], list[str]]:
    """Load a module's state from a ``.wcodec`` file. Returns (missing, unexpected) names; with strict, raises RuntimeError for any.

    A missing name that shares memory with a loaded one is not missing: safetensors' save_model drops such names.
    """
    state = load_file(filename, device, **options)
    missing, unexpected = model.load_state_dict(state, strict=False)
    pointers = {tensor.data_ptr() for name, tensor in model.state_dict().items() if name in state}
    own = model.state_dict()
    missing = [name for name in missing if own[name].data_ptr() not in pointers]
    if strict and (missing or unexpected):
        raise RuntimeError(f"{filename} does not fit the model: missing {missing or 'none'}, unexpected {unexpected or 'none'}")
    return missing, unexpected


def _device(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the device to encode on: that of all tensors, if they have one in common."""
    devices = {str(tensor.device) for tensor in tensors.values()}
    return {"device": devices.pop()} if len(devices) == 1 else {}


def _storage(tensors: Mapping[str, torch.Tensor], options: Mapping[str, Any]) -> dict[str, tuple[Spec, Any]]:
    """Return specs and storage elements, on the device that encodes. Raises ValueError for tensors that are not dense and contiguous."""
    device, found = options.get("device", "cpu"), dict[str, tuple[Spec, Any]]()
    there = device != "cpu" or options.get("kernels") in DEVICE
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or not tensor.is_contiguous():
            raise ValueError(f"tensor {name!r} is not a contiguous dense tensor; call .contiguous() first")
        spec = spec_of(tensor)
        flat = tensor.detach()
        found[name] = spec, _elements(flat.to(device)) if there else _bytes(flat.cpu()).view(spec.dtype.storage)
    return found


def _refuse_shared(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError when two tensors overlap in memory, as safetensors does; disjoint views of one storage are fine."""
    spans = [(str(t.device), t.data_ptr(), t.data_ptr() + t.numel() * t.element_size(), name) for name, t in tensors.items() if t.numel()]
    spans.sort()
    for (device, _, end, name), (other_device, start, _, other) in pairwise(spans):
        if device == other_device and start < end:
            raise ValueError(f"tensors {name!r} and {other!r} share memory; use save_model, or clone one of them")
