"""Choose the codec that stores an array in the fewest bytes: nobody picks an entropy coder by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env, stored_size
from wcodec.codecs.bitpack import spread
from wcodec.codecs.const import is_constant
from wcodec.types import U8, Section, Spec, UInts

SAMPLE = 1 << 20
"""Bytes that zstd is tried on before it is let loose on a large array."""
FIXED = 96
"""Guess of the bytes that an entropy-coded section costs besides its symbols."""


def entropy(counts: npt.NDArray[np.floating | np.integer]) -> float:
    """Return the order-0 entropy in bits of all symbols together."""
    used = counts[counts > 0].astype(np.float64)
    return float(used.sum() * np.log2(used.sum()) - (used * np.log2(used)).sum()) if used.size else 0.0


def smallest(x: UInts, spec: Spec, env: Env, *, zstd: bool = True) -> Section:
    """Encode with const, raw, bitpack, rans or zstd, whichever is smallest. zstd=False leaves out the slow one."""
    if not x.size:
        return env.codecs["raw"].encode(x, spec, env)
    if is_constant(x):
        return env.codecs["const"].encode(x, spec, env)
    base, width = spread(x)
    estimates = {"raw": x.nbytes, "bitpack": FIXED // 2 + x.size * width // 8}
    if x.itemsize <= 4 and width <= 8 + 8 * (x.itemsize > 1) and env.codecs["rans"].suits(spec):
        estimates["rans"] = FIXED + _entropy_bytes(x, base)
    best = min(estimates, key=lambda name: (estimates[name], name != "raw"))
    found = env.codecs[best].encode(x, spec, env)
    if zstd and _compressible(x, env):
        other = env.codecs["zstd"].encode(x, spec, env)
        found = min(found, other, key=stored_size)
    if best != "raw":
        found = min(env.codecs["raw"].encode(x, spec, env), found, key=stored_size)
    return found


def _entropy_bytes(x: UInts, base: int) -> int:
    counts = np.bincount((x - x.dtype.type(base)).astype(np.intp))
    used = int((counts > 0).sum())
    if used > 4096:
        return 2**63
    outside = 0 if counts.size <= 256 else int(np.sort(counts)[:-255].sum())
    return int(entropy(counts) * 1.001 / 8) + used + 4 * outside + 100 * (x.size >> 16)


def _compressible(x: UInts, env: Env) -> bool:
    """Tell whether zstd is worth running on the whole array."""
    data: U8 = x.view(np.uint8)
    if data.size <= 2 * SAMPLE:
        return True
    step = data.size // 16 // 64 * 64
    piece = SAMPLE // 16
    sample = np.concatenate([data[at * step : at * step + piece] for at in range(16)])
    coded = env.codecs["zstd"].encode(sample, Spec.of("U8", sample.size), env)
    return stored_size(coded) < 0.98 * sample.size
