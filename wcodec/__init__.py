"""wcodec: compressed model files that load as safetensors do.

encode and decode convert files; safe_open reads tensors and slices; wcodec.numpy and wcodec.torch load and save dictionaries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wcodec.errors import (
    BackendUnavailable,
    Corrupt,
    EncodeError,
    FormatError,
    LimitExceeded,
    NotAContainer,
    RecipeError,
    Truncated,
    UnknownCodec,
    UnsupportedVersion,
    WcodecError,
)

if TYPE_CHECKING:
    from wcodec.api.checks import diff, verify
    from wcodec.api.decoder import decode
    from wcodec.api.encoder import encode
    from wcodec.api.inspector import inspect
    from wcodec.calibration.gather import calibrate
    from wcodec.codecs import register
    from wcodec.evaluation import quality
    from wcodec.opening import safe_open
    from wcodec.types import Limits
    from wcodec.writing import Writer

_LAZY = {
    "Limits": "wcodec.types",
    "Writer": "wcodec.writing",
    "calibrate": "wcodec.calibration.gather",
    "decode": "wcodec.api.decoder",
    "diff": "wcodec.api.checks",
    "encode": "wcodec.api.encoder",
    "inspect": "wcodec.api.inspector",
    "quality": "wcodec.evaluation",
    "register": "wcodec.codecs",
    "safe_open": "wcodec.opening",
    "verify": "wcodec.api.checks",
}
"""Public names whose modules are imported when first used, so that ``import wcodec`` stays cheap."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'wcodec' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)


__all__ = [
    "BackendUnavailable",
    "Corrupt",
    "EncodeError",
    "FormatError",
    "LimitExceeded",
    "Limits",
    "NotAContainer",
    "RecipeError",
    "Truncated",
    "UnknownCodec",
    "UnsupportedVersion",
    "WcodecError",
    "Writer",
    "calibrate",
    "decode",
    "diff",
    "encode",
    "inspect",
    "quality",
    "register",
    "safe_open",
    "verify",
]
