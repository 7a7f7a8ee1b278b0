"""Choose the codec that stores an array in the fewest bytes: nobody picks an entropy coder by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env, stored_size
from wcodec.codecs.integers.bitpack import spread
from wcodec.codecs.integers.tails import fit_tails
from wcodec.codecs.integers.wide import FEW, fit_wide
from wcodec.coding.rans import Context, Job, Order
from wcodec.coding.sampling import UNIT, entropy
from wcodec.coding.tables import Tables
from wcodec.types import U8, Section, Spec, UInts

SAMPLE = 1 << 18
"""Bytes of a large array that zstd is tried on."""
BLOCK = 1 << 16
FIXED = 96
"""Guess of the bytes that an entropy-coded section costs besides its symbols."""


def smallest(x: UInts, spec: Spec, env: Env, *, zstd: bool = True, tails: bool = False) -> Section:
    """Encode with const, raw, bitpack, rans or zstd, whichever is smallest, on the host. zstd=False leaves out the slow one.

    tails: x comes from a quantiser, whose tails rans may escape and whose low bits it may leave raw, for a little slower decoding.
    """
    x, env = env.backend.to_host(x), env.host
    if not x.size:
        return env.codecs["raw"].encode(x, spec, env)
    if env.backend.constant(x):
        return env.codecs["const"].encode(x, spec, env)
    base, width = spread(x, env)
    estimates = {"raw": x.nbytes, "bitpack": FIXED // 2 + x.size * width // 8}
    options: dict[str, Any] = {}
    if tails and x.itemsize <= 2 and x.size >= FEW:
        size, options = fit_tails(x, env)
        estimates["rans"] = FIXED + size
    elif width <= 8 and env.codecs["rans"].suits(spec):
        estimates["rans"] = FIXED + _entropy_bytes(x, base, env)
    elif env.codecs["rans"].suits(spec) and (wide := fit_wide(x)):
        estimates["rans"], options = FIXED + wide[0], wide[1]
    frame = None
    if zstd:
        estimates["zstd"], frame = try_zstd(x, spec, env)
    best = min(estimates, key=lambda name: (estimates[name], name != "raw"))
    found = frame if best == "zstd" and frame else env.codecs[best].encode(x, spec, env, **(options if best == "rans" else {}))
    return found if best == "raw" else min(env.codecs["raw"].encode(x, spec, env), found, key=stored_size)


def _entropy_bytes(x: UInts, base: int, env: Env) -> int:
    if x.itemsize == 1:
        job = Job(Order(x.size, x.size, 32, block=BLOCK), Context(), Tables(12, np.zeros((1, 256), np.uint16)))
        counts: npt.NDArray[Any] = env.backend.rans_histogram(job, x)[0]
    else:
        counts = np.bincount((x - x.dtype.type(base)).astype(np.intp))
    return int(entropy(counts) / UNIT * 1.001 / 8) + int((counts > 0).sum()) + 100 * (x.size >> 16)


def try_zstd(x: UInts, spec: Spec, env: Env) -> tuple[int, Section | None]:
    """Return the bytes that zstd needs, for a large array by those of a sample; for others, what it gives as well."""
    if x.nbytes <= 2 * SAMPLE:
        whole = env.codecs["zstd"].encode(x, spec, env)
        return stored_size(whole), whole
    data: U8 = x.view(np.uint8)
    step, piece = data.size // 16 // 64 * 64, SAMPLE // 16
    seen = np.concatenate([data[at * step : at * step + piece] for at in range(16)])
    coded = env.codecs["zstd"].encode(seen, Spec.of("U8", seen.size), env)
    return stored_size(coded) * data.size // seen.size, None
