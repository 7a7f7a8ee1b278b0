"""draw: a mask that chance drew (spec/codecs/draw.md)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import Env, Expected
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.params import flag, uint
from wcodec.codecs.random.fills import Fill, check_key
from wcodec.errors import Corrupt
from wcodec.types import U8, U32, Section, Spec, UInts

BLOCK = 1 << 20
"""Elements that one of the counts counts."""


class Draw(Fill):
    """Stores the seed of a mask. Options: seed, id, stream, threshold (of 2^32: the share kept), counts (for access to any part)."""

    name = "draw"
    params = frozenset({"seed", "id", "stream", "threshold", "counts"})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"seed": 1, "threshold": 2**30},
        {"seed": 2**64 - 1, "id": 5, "stream": 6, "threshold": 2**32 - 1, "counts": True},
    )

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name == "BOOL"

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        check_key(section.params)
        uint(section.params, "threshold", 0, 2**32 - 1, "DRAW-1")
        if spec.dtype.name != "BOOL":
            raise Corrupt(f"a mask is BOOL, not {spec.dtype.name}", rule="DRAW-1")
        return {"counts": _counts_spec(spec)} if flag(section.params, "counts", "DRAW-1") else {}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return BLOCK

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        _draw(section, env, start, out)
        counts = _counts(section, spec, env)
        first, last = -(-start // BLOCK), len(counts) if stop == spec.count else stop // BLOCK
        if first < last and len(counts):
            env.backend.check_ones(out[first * BLOCK - start : last * BLOCK - start], BLOCK, counts[first:last])

    def positions(self, section: Section, spec: Spec, env: Env, start: int, stop: int, kept: int = 0) -> tuple[int, U32]:
        if env.near is not None:
            return super().positions(section, spec, env, start, stop, kept)
        block = start // BLOCK
        first = block * BLOCK
        with env.borrow(stop - first, np.dtype(np.uint8)) as mask:
            self.decode(section, spec, env, first, stop, mask)
            inside = int(np.count_nonzero(mask[: start - first]))
            return _before(section, spec, env, block) + inside, np.flatnonzero(mask[start - first :]).astype(np.uint32)

    def wire(self, **options: Any) -> dict[str, Any]:
        return _wire(**options)

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        counts = options.pop("counts", False)
        plain = super().encode(x, spec, env, **options)
        if not counts:
            return plain
        kept = [np.count_nonzero(x[at : at + BLOCK]) for at in range(0, x.size, BLOCK)]
        part = smallest(np.array(kept, np.uint32), _counts_spec(spec), env)
        return Section("draw", {**plain.params, "counts": True}, {"counts": part})


def _counts_spec(spec: Spec) -> Spec:
    return Spec.of("U32", -(-spec.count // BLOCK))


def _draw(section: Section, env: Env, start: int, out: U8) -> int:
    p = section.params
    return env.backend.philox_draw(p["seed"], p["id"], p["stream"], p["threshold"], start, out)


def _counts(section: Section, spec: Spec, env: Env) -> U32:
    """Return the part ``counts``, decoded once; empty without one."""
    found: U32 | None = section.memo.get("counts")
    if found is None:
        counted = section.params.get("counts")
        found = base.decode_all(section.parts["counts"], _counts_spec(spec), env.host) if counted else np.empty(0, np.uint32)
        section.memo["counts"] = found
    return found


def _before(section: Section, spec: Spec, env: Env, block: int) -> int:
    """Return how many elements before a block are kept: summed up from the counts, or drawn once and remembered."""
    known: list[int] | None = section.memo.get("before")
    if known is None:
        known = section.memo["before"] = [0, *accumulate(_counts(section, spec, env).tolist())]
    if len(known) <= block:
        known = list(known)
        with env.borrow(BLOCK, np.dtype(np.uint8)) as mask:
            while len(known) <= block:
                known.append(known[-1] + _draw(section, env, (len(known) - 1) * BLOCK, mask))
        section.memo["before"] = known
    return known[block]


def _wire(seed: int, threshold: int, id: int = 0, stream: int = 0) -> dict[str, Any]:
    """Return the params of a mask without counts."""
    return {"seed": seed, "id": id, "stream": stream, "threshold": threshold}
