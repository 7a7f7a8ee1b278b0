"""Cut a byte plane where noise begins and ends, so that noise stays raw and windows decode apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env
from wcodec.codecs.integers.smallest import smallest
from wcodec.coding.sampling import UNIT, log2
from wcodec.types import U8, Section, Spec

SPAN = 1 << 14
"""Bytes that are noise or not as a whole."""
SEEN = 1 << 10
"""Bytes of each that are looked at; those of noise have an entropy of 7.82 ± 0.02 bits."""
NOISE = 7.5
MOST = 64
"""Runs from which on a coder of matches does better."""
COST = 512
"""Bytes that every run must save: what its table, its record and a guess by a sample may be wrong by."""


def by_runs(plane: U8, spec: Spec, env: Env) -> Section | None:
    """Code runs of noise and of other bytes each by itself; None when there is one run, when there are too many, or they save nothing."""
    spans = plane.size // SPAN
    if spans < 2:
        return None
    seen = plane[: spans * SPAN].reshape(spans, SEEN, -1)[:, :, 0]
    at = seen + 256 * np.arange(spans, dtype=np.intp)[:, None]
    counts = np.bincount(at.ravel(), minlength=256 * spans).reshape(spans, 256)
    bits = _bits(counts)
    first = np.flatnonzero(np.diff(bits > NOISE * SEEN, prepend=bits[0] <= NOISE * SEEN))
    saved = _bits(counts.sum(0)) - _bits(np.add.reduceat(counts, first)).sum()
    if not 1 < first.size <= MOST or saved * (SPAN // SEEN) < 8 * COST * first.size:
        return None
    lengths = np.diff(SPAN * first, append=plane.size)
    return env.codecs["concat"].encode(plane, spec, env, lengths=lengths.tolist(), encode=_run)


def _bits(counts: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
    """Return the order-0 entropy of the bytes counted in each row together, in whole bits."""
    total = counts.sum(-1)
    found: npt.NDArray[np.int64] = (total * log2(total) - (counts * log2(np.maximum(counts, 1))).sum(-1)) // UNIT
    return found


def _run(run: U8, spec: Spec, env: Env) -> Section:
    return env.codecs["raw"].encode(run, spec, env) if env.backend.is_noise(run) else smallest(run, spec, env)
