"""The lossless composition, and how every codec encodes its parts."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, TypeAlias

from wcodec.codecs.base import Env, stored_size
from wcodec.codecs.integers.smallest import smallest, zstd_estimate
from wcodec.codecs.masks.smallest_mask import sparse_lossless
from wcodec.errors import RecipeError
from wcodec.types import Section, Spec, UInts

Config: TypeAlias = Mapping[str, Any]
"""How to encode an array: {"codec": name, option: value, …}."""

LARGEST_PART = 1 << 30
"""Storage elements above which an array is cut along axis 0."""
SMALLEST_SPLIT = 512
"""Storage elements below which the parts of ``planes`` cost more than they save."""


def encode_part(x: UInts, spec: Spec, env: Env, config: Config | None = None) -> Section:
    """Encode an array as its config says; without one, losslessly. Raises EncodeError, RecipeError."""
    if config is None:
        return lossless(x, spec, env)
    options = dict(config)
    name = options.pop("codec", None)
    if name == "lossless":
        return lossless(x, spec, env)
    if name not in env.codecs:
        raise RecipeError(f"no codec {name!r}; there are: lossless, {', '.join(env.codecs)}")
    codec = env.codecs[name]
    if codec.host_encode:
        x, env = env.backend.to_host(x), env.host
    if codec.options is not None and (unknown := sorted(options.keys() - codec.options)):
        raise RecipeError(f"{name} has no option {unknown[0]!r}; there are: {', '.join(sorted(codec.options)) or 'none'}")
    try:
        return codec.encode(x, spec, env, **options)
    except TypeError as error:  # what a config holds comes from people
        raise RecipeError(f"options of {name}: {error}") from error


def lossless(x: UInts, spec: Spec, env: Env) -> Section:
    """Encode without losing a bit: floats by planes, all else by whichever codec is smallest. x: flat storage elements."""
    rows = spec.storage_shape[0] if spec.storage_shape else 1
    if len(x) > LARGEST_PART and rows > 1 and spec.dtype.bits >= 8:
        return _cut(x, spec, env, rows)
    if len(x) and env.backend.constant(x):
        return env.codecs["const"].encode(x, spec, env)
    if spec.dtype.mantissa and env.codecs["planes"].suits(spec):
        if len(x) < SMALLEST_SPLIT:
            return env.codecs["raw"].encode(x, spec, env)
        split = env.codecs["planes"].encode(x, spec, env)
        found = [split, env.codecs["raw"].encode(x, spec, env)]
        if _patterned(split):  # few tensors are, and zstd is the host's
            x, env = env.backend.to_host(x), env.host
            if zstd_estimate(x, env) < stored_size(split):
                found.append(env.codecs["zstd"].encode(x, spec, env))
        if (sparse := sparse_lossless(x, spec, env)) is not None:
            found.append(sparse)
        return min(found, key=stored_size)
    return smallest(x, spec, env)


def _cut(x: UInts, spec: Spec, env: Env, rows: int) -> Section:
    """Encode equal runs of rows of at most 2^30 elements each."""
    per_row = max(1, prod(spec.storage_shape[1:]))
    step = max(1, LARGEST_PART // per_row)
    lengths = [min(step, rows - at) for at in range(0, rows, step)]
    return env.codecs["concat"].encode(x, spec, env, lengths=lengths, encode=lossless)


def _patterned(split: Section) -> bool:
    """Tell whether a rest plane turned out not to be noise: then equal rows or many zeros may suit zstd better."""
    names = [name for name in split.parts if name.startswith("rest")]
    lowest = split.parts.get("rest0")
    return bool(names) and isinstance(lowest, Section) and lowest.codec not in ("raw", "bitpack", "const")
