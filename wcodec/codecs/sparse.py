"""sparse: values at the places that a mask keeps, a fill everywhere else (spec/codecs/sparse.md)."""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import F64, Codec, Env, Expected
from wcodec.codecs.lossless import encode_part
from wcodec.codecs.masks.common import runs
from wcodec.codecs.masks.smallest_mask import smallest_mask
from wcodec.codecs.params import flag, uint
from wcodec.coding.numbers import LOSSY, from_float32, to_float32
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import DTYPES, U32, DType, Part, Section, Spec, UInts


class Sparse(Codec):
    """Stores what differs from a fill.

    Options: fill (a part; zeros), mask (0 and 1, or a part; where x is not the fill, bit for bit), values (config of that part),
    delta (values are differences to the fill; lossy).
    """

    name = "sparse"
    params = frozenset({"kept", "delta"})
    options = frozenset({"fill", "mask", "values", "delta"})
    whole: ClassVar[bool] = True

    def suits(self, spec: Spec) -> bool:
        return holds(spec.dtype)

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        if not holds(spec.dtype):
            raise Corrupt(f"sparse cannot hold {spec.dtype.name}", rule="SPARSE-1")
        kept, delta = uint(section.params, "kept", 0, spec.count, "SPARSE-1"), flag(section.params, "delta", "SPARSE-1")
        filled = "fill" in section.parts
        if delta and (not filled or spec.dtype.name not in LOSSY):
            raise Corrupt("differences need a fill and floats", rule="SPARSE-1")
        return {"mask": mask_spec(spec), "values": Spec(spec.dtype, (kept,))} | ({"fill": spec} if filled else {})

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        units = [base.unit(section.parts["mask"], mask_spec(spec), env)]
        units += [base.unit(section.parts["fill"], spec, env)] if "fill" in section.parts else []
        return min(lcm(*units), max(1, spec.count))

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        for low, high in runs(start, stop, env):
            self._decode_run(section, spec, env, low, high, out[low - start : high - start])

    def _decode_run(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        kept, fill = section.params["kept"], section.parts.get("fill")
        before, found = base.positions(section.parts["mask"], mask_spec(spec), env, start, stop, kept)
        after = before + len(found)
        if after > kept or (stop == spec.count and after != kept):
            raise Corrupt(f"the mask keeps {after} elements up to element {stop}, there are {kept} values", rule="SPARSE-2")
        if fill is not None:
            base.decode(fill, spec, env, start, stop, out)
        with base.decoded(section.parts["values"], Spec(spec.dtype, (kept,)), env, before, after) as values:
            if section.params.get("delta"):
                env.backend.add_at(found, values, spec.dtype, out)
            else:
                env.backend.scatter(found, values, out, fill is None)

    def bound(self, section: Section, spec: Spec, env: Env, start: int, stop: int) -> F64:
        fill, found = section.parts.get("fill"), np.zeros(stop - start)
        if section.params.get("delta"):  # sums are rounded twice: not for tolerant parts
            return found
        if fill is not None:
            found[:] = base.bound(fill, spec, env, start, stop)
        values = Spec(spec.dtype, (section.params["kept"],))
        for low, high in runs(start, stop, env):
            before, kept = base.positions(section.parts["mask"], mask_spec(spec), env, low, high)
            found[kept + np.int64(low - start)] = base.bound(section.parts["values"], values, env, before, before + kept.size)
        return found

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        if not self.suits(spec):
            raise EncodeError(f"sparse cannot hold {spec.dtype.name}")
        fill: Part | None = options.get("fill")
        filled = None if fill is None else base.decode_all(fill, spec, env)
        mask, positions = _mask_of(x, filled, spec, env, options.get("mask"))
        values, delta = x[positions], bool(options.get("delta"))
        if delta:
            if filled is None or spec.dtype.name not in LOSSY:
                raise EncodeError("differences need a fill and floats")
            values = difference(values, filled[positions], spec.dtype)
        parts: dict[str, Part] = {"mask": mask, "values": encode_part(values, Spec(spec.dtype, (values.size,)), env, options.get("values"))}
        parts |= {} if fill is None else {"fill": fill}
        return Section("sparse", {"kept": values.size} | ({"delta": True} if delta else {}), parts)


def holds(dtype: DType) -> bool:
    """Tell whether an element of this dtype is one storage element."""
    return dtype.bits >= 8 and dtype.name != "C64"


def mask_spec(spec: Spec) -> Spec:
    """Return the spec of the part ``mask``."""
    return Spec(DTYPES["BOOL"], spec.shape)


def _mask_of(x: UInts, filled: UInts | None, spec: Spec, env: Env, mask: Any) -> tuple[Part, U32]:
    """Return the mask as a part, and the positions that it keeps."""
    if mask is None:
        mask = np.not_equal(x, 0 if filled is None else filled)
    if not isinstance(mask, np.ndarray):
        return mask, all_positions(mask, spec, env)
    kept = mask.reshape(-1).view(np.uint8)
    if kept.size != spec.count:
        raise EncodeError(f"a mask of {kept.size} elements for {spec}")
    part = smallest_mask(kept, mask_spec(spec), env, loose=filled is None)
    return part, all_positions(part, spec, env)


def all_positions(mask: Part, spec: Spec, env: Env) -> U32:
    """Return all positions that a mask keeps, of an array of fewer than 2^32 elements."""
    its = mask_spec(spec)
    found = [base.positions(mask, its, env, low, high)[1] + np.uint32(low) for low, high in runs(0, its.count, env)]
    return np.concatenate(found)


def difference(a: UInts, b: UInts, dtype: DType) -> UInts:
    """Subtract floats, rounded to the dtype. Raises EncodeError for those that are not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype.name == "F64":
            found: UInts = (a.view("<f8") - b.view("<f8")).view(dtype.storage)
            finite = np.isfinite(found.view("<f8"))
        else:
            found = from_float32(to_float32(a, dtype) - to_float32(b, dtype), dtype)
            finite = np.isfinite(to_float32(found, dtype))
    if not finite.all():
        raise EncodeError("a difference to the fill is not finite")
    return found
