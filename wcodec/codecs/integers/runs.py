"""Cut a byte plane where noise begins and ends, so that noise stays raw and windows decode apart."""

from __future__ import annotations

import numpy as np

from wcodec.codecs.base import Env
from wcodec.codecs.integers.smallest import smallest
from wcodec.types import U8, Section, Spec

SPAN = 1 << 14
"""Bytes that are noise or not as a whole."""
SEEN = 1 << 10
"""Bytes of each that are looked at; those of noise have an entropy of 7.82 ± 0.02 bits."""
NOISE = 7.5
MOST = 64
"""Runs from which on a coder of matches does better."""


def by_runs(plane: U8, spec: Spec, env: Env) -> Section | None:
    """Code runs of noise and of other bytes each by itself; None when there is one run, or when there are too many."""
    spans = plane.size // SPAN
    if spans < 2:
        return None
    seen = plane[: spans * SPAN].reshape(spans, SEEN, -1)[:, :, 0]
    at = seen + 256 * np.arange(spans, dtype=np.intp)[:, None]
    counts = np.bincount(at.ravel(), minlength=256 * spans).reshape(spans, 256)
    entropies = np.log2(SEEN) - (counts * np.log2(np.maximum(counts, 1))).sum(1) / SEEN
    cuts = SPAN * (np.flatnonzero(np.diff(entropies > NOISE)) + 1)
    if not 0 < cuts.size < MOST:
        return None
    lengths = np.diff(cuts, prepend=0, append=plane.size)
    return env.codecs["concat"].encode(plane, spec, env, lengths=lengths.tolist(), encode=smallest)
