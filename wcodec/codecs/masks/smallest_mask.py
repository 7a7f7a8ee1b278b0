"""Choose how a mask is stored, and whether a tensor is sparse enough to have one."""

from __future__ import annotations

import numpy as np

from wcodec.codecs.base import Env, stored_size
from wcodec.codecs.masks.nm import NM
from wcodec.coding.layouts import Groups
from wcodec.coding.patterns import complete
from wcodec.coding.sampling import UNIT, entropy
from wcodec.types import U8, Section, Spec, UInts

SAMPLE = 1 << 14
SPARSE = 0.05
"""Share of exact zeros from which a mask may pay."""
PREFERRED = 0.97
"""Of two masks of nearly one size, the one that tells its structure is better."""
USUAL = ((2, 4), (1, 2), (1, 4), (4, 8), (2, 8))
"""Patterns n:m that are looked for."""


def smallest_mask(mask: U8, spec: Spec, env: Env, *, loose: bool = False) -> Section:
    """Encode a mask of 0 and 1 in the smallest way: const, gaps, bitmap, or nm where it fits.

    loose: the mask may keep a few elements more, so that as many are kept in every group.
    """
    kept = int(np.count_nonzero(mask))
    if not spec.shape or kept in (0, mask.size):
        return env.codecs["const" if mask.size else "raw"].encode(mask, spec, env)
    found = []
    for n, m in USUAL:
        if (section := _as_nm(mask, kept, n, m, spec, env, loose)) is not None:
            found.append(section)
            break
    if kept < mask.size // 2:
        found.append(env.codecs["gaps"].encode(mask, spec, env))
    bits = np.packbits(mask, bitorder="little")
    if not found or entropy(np.bincount(bits, minlength=256)) / UNIT / 8 < min(map(stored_size, found)):
        found.append(env.codecs["bitmap"].encode(mask, spec, env))
    return min(found, key=lambda section: stored_size(section) * (PREFERRED if section.codec == NM else 1))


def _as_nm(mask: U8, kept: int, n: int, m: int, spec: Spec, env: Env, loose: bool) -> Section | None:
    """Encode as n of m along the last axis, or as the mask's part that is missing is filled up; None where it does not fit."""
    groups = Groups.of(n, m, len(spec.shape) - 1, spec.shape)
    full = groups.outer * groups.kept
    if not (0.9 * full <= kept <= full if loose else kept == full):
        return None
    split = groups.split(mask)
    if int(split.sum(1, dtype=np.uint8).max(initial=0)) > n:
        return None
    whole = groups.join(complete(split, n)) if loose else mask
    return env.codecs[NM].encode(whole, spec, env, n=n, m=m)


def sparse_lossless(x: UInts, spec: Spec, env: Env) -> Section | None:
    """Encode a tensor with many exact zeros (+0, all bits 0) as sparse; None when it has few, or cannot be."""
    if spec.dtype.bits < 16 or not env.codecs["sparse"].suits(spec) or not 0 < len(x) < 2**32:
        return None
    seen = env.backend.to_host(x[:: max(1, len(x) // SAMPLE)])
    zeros = seen.size - int(np.count_nonzero(seen))
    if zeros < SPARSE * seen.size:
        return None
    return env.codecs["sparse"].encode(env.backend.to_host(x), spec, env.host)
