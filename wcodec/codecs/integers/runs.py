"""Cut a byte plane where noise begins and ends, so that noise stays raw and windows decode apart."""

from __future__ import annotations

import numpy as np

from wcodec.codecs.base import Env
from wcodec.codecs.integers.smallest import smallest, try_zstd
from wcodec.coding.sampling import UNIT, entropy, log2
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
SCALED = np.arange(SEEN + 1) * log2(np.maximum(np.arange(SEEN + 1), 1))
"""n log₂ n of what can be counted in a span, in 2^-20 bits."""


def by_runs(plane: U8, spec: Spec, env: Env) -> Section | None:
    """Code runs of noise and of other bytes each by itself; None when there is one run, when there are too many, or they save nothing."""
    spans = plane.size // SPAN
    if spans < 2:
        return None
    seen = plane[: spans * SPAN].reshape(spans, SEEN, -1)[:, :, 0]
    at = seen + 256 * np.arange(spans, dtype=np.intp)[:, None]
    counts = np.bincount(at.ravel(), minlength=256 * spans).reshape(spans, 256)
    noise = SCALED[SEEN] - SCALED[counts].sum(1) > NOISE * SEEN * UNIT
    first = np.flatnonzero(np.diff(noise, prepend=not noise[0]))
    if not 1 < first.size <= MOST:
        return None
    saved = entropy(counts.sum(0)) - sum(map(entropy, np.add.reduceat(counts, first)))
    if saved * (SPAN // SEEN) < 8 * UNIT * COST * first.size:
        return None
    lengths = np.diff(SPAN * first, append=plane.size)
    return env.codecs["concat"].encode(plane, spec, env, lengths=lengths.tolist(), encode=_run)


def _run(run: U8, spec: Spec, env: Env) -> Section:
    repeats = not env.backend.is_noise(run) or try_zstd(run, spec, env)[0] < run.size
    return smallest(run, spec, env) if repeats else env.codecs["raw"].encode(run, spec, env)
