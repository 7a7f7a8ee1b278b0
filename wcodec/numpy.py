"""The numpy face, named as safetensors.numpy: save, save_file, load, load_file.

dtypes that numpy lacks come from ml_dtypes; F4 and F6 tensors are returned as their packed bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.api.opened import Framework, Opened
from wcodec.types import DTYPES, Limits, Spec, UInts

NATIVE = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?", "C64": "c8",
}  # fmt: skip
EXTRA = {
    "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


@cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return numpy's dtype for a safetensors dtype; that of the packed bytes for F4 and F6."""
    if name in NATIVE:
        return np.dtype(NATIVE[name])
    if name in EXTRA:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, EXTRA[name]))
        return found
    return np.dtype(np.uint8)


def spec_of(array: npt.NDArray[Any]) -> Spec:
    """Return the spec of a numpy array. Raises TypeError for a dtype that safetensors lacks."""
    for name in (*NATIVE, *EXTRA):
        if numpy_dtype(name) == array.dtype:
            return Spec(DTYPES[name], array.shape)
    raise TypeError(f"numpy dtype {array.dtype} has no safetensors dtype")


def _wrap(flat: UInts, spec: Spec) -> npt.NDArray[Any]:
    if spec.dtype.bits < 8:
        return flat
    return flat.view(numpy_dtype(spec.dtype.name)).reshape(spec.shape)


def _flat(out: Any, spec: Spec) -> UInts:
    want = numpy_dtype(spec.dtype.name)
    shape = spec.shape if spec.dtype.bits >= 8 else (spec.size,)
    if not isinstance(out, np.ndarray) or out.dtype != want or out.shape != shape or not out.flags.c_contiguous:
        raise ValueError(f"out must be a C-contiguous array of {want} {list(shape)}")
    flat: UInts = out.reshape(-1).view(spec.dtype.storage)
    return flat


NUMPY = Framework(_wrap, _flat)


def load_file(
    filename: str | Path, *, threads: int | None = None, kernels: str = "auto", limits: Limits | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Load all tensors of a ``.wcodec`` file as numpy arrays that own their memory."""
    with Opened(filename, NUMPY, threads=threads, kernels=kernels, limits=limits, whole=True) as opened:
        return opened.get_tensors()


def load(data: bytes, *, limits: Limits | None = None) -> dict[str, npt.NDArray[Any]]:
    """Load all tensors from the bytes of a ``.wcodec`` file."""
    with Opened(data, NUMPY, limits=limits) as opened:
        return opened.get_tensors()


def save_file(
    tensor_dict: Mapping[str, npt.NDArray[Any]], filename: str | Path, metadata: Mapping[str, str] | None = None, **options: Any
) -> None:
    """Encode numpy arrays to a file; options are those of ``wcodec.encode`` (recipe, threads, force …). Overwrites, as safetensors does."""
    from wcodec.api.encoder import encode_tensors  # loading needs no recipes

    encode_tensors(_tensors(tensor_dict), filename, metadata, **{"force": True} | options)


def save(tensor_dict: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str] | None = None, **options: Any) -> bytes:
    """Encode numpy arrays to bytes."""
    from wcodec.api.encoder import encode_tensors

    buffer = io.BytesIO()
    encode_tensors(_tensors(tensor_dict), buffer, metadata, **options)
    return buffer.getvalue()


def _tensors(tensor_dict: Mapping[str, npt.NDArray[Any]]) -> dict[str, tuple[Spec, UInts]]:
    found: dict[str, tuple[Spec, UInts]] = {}
    for name, array in tensor_dict.items():
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        spec = spec_of(array)
        found[name] = spec, np.ascontiguousarray(array).reshape(-1).view(spec.dtype.storage)
    return found
