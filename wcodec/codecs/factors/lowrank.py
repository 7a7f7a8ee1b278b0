"""lowrank: a product of two thin matrices (spec/codecs/lowrank.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import lcm
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import F64, Codec, Env, Expected
from wcodec.codecs.factors.factoring import balanced_svd, choose_rank, needs_spectrum, spectrum
from wcodec.codecs.lossless import Config, encode_part
from wcodec.codecs.matrix import approximable, matrix_shape
from wcodec.codecs.params import uint
from wcodec.coding.numbers import LOSSY, from_float32, to_float32
from wcodec.coding.uniform import F32
from wcodec.errors import Corrupt
from wcodec.types import DType, Part, Ref, Resource, Section, Spec, UInts

UNIT = 2.0**-24
"""Relative error of one rounding to binary32, at most."""
LARGEST = float(np.finfo(np.float32).max) * (1 - 2.0**-10)
"""Magnitude of sums below which no rounding overflows."""
BUDGETS = ("rank", "keep", "energy", "error")


class LowRank(Codec):
    """Stores a matrix as left · right.

    Options: the rank, by one of ``rank``, ``keep`` (share of the parameters, 0.5), ``energy`` (share of Σ σ²) and ``error`` (relative);
    left, right: configs of the factors (rounded to the tensor's dtype).
    """

    name = "lowrank"
    params = frozenset({"rank"})
    options = frozenset({"rank", "keep", "energy", "error", "left", "right"})
    exact: ClassVar[bool] = False
    lossless: ClassVar[bool] = False
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
        {"rank": 3, "left": {"codec": "uniform", "bits": 8}, "right": {"codec": "uniform", "bits": 8}},
    )

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name in LOSSY

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        if spec.dtype.name not in LOSSY:
            raise Corrupt(f"lowrank decodes to {', '.join(LOSSY)}, not {spec.dtype.name}", rule="LOWRANK-1")
        rows, cols = matrix_shape(spec)
        rank = uint(section.params, "rank", 1, max(1, cols), "LOWRANK-1")
        return {"left": Spec.of("F32", rows, rank), "right": Spec.of("F32", rank, cols)}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        (rows, cols), rank = matrix_shape(spec), section.params["rank"]
        together = lcm(base.unit(section.parts["left"], Spec.of("F32", rows, rank), env), rank) // rank
        return int(max(1, min(together * cols, spec.count)))

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        (rows, cols), rank = matrix_shape(spec), section.params["rank"]
        first, last = (start // cols, -(-stop // cols)) if cols else (0, rows)
        lefts, rights = Spec.of("F32", rows, rank), Spec.of("F32", rank, cols)
        with (
            factor(section.parts["left"], lefts, env, first * rank, last * rank) as left,
            factor(section.parts["right"], rights, env, 0, rights.count) as right,
            env.borrow((last - first) * cols, np.dtype(np.uint32)) as room,
        ):
            product = env.backend.floats(room).reshape(last - first, cols)
            env.backend.matmul(left.reshape(last - first, rank), right.reshape(rank, cols), product)
            at = start - first * cols
            env.backend.round_floats(product.reshape(-1)[at : at + stop - start], spec.dtype, out)

    def bound(self, section: Section, spec: Spec, env: Env, start: int, stop: int) -> F64:
        (rows, cols), rank = matrix_shape(spec), section.params["rank"]
        first, last = (start // cols, -(-stop // cols)) if cols else (0, rows)
        lefts, rights = Spec.of("F32", rows, rank), Spec.of("F32", rank, cols)
        left, more_left = magnitudes(section.parts["left"], lefts, env, first * rank, last * rank)
        right, more_right = magnitudes(section.parts["right"], rights, env, 0, rights.count)
        exact = left.reshape(-1, rank) @ right.reshape(rank, cols)
        moved = exact if more_left is left and more_right is right else more_left.reshape(-1, rank) @ more_right.reshape(rank, cols)
        at = start - first * cols
        return rounding(rank, exact, moved).reshape(-1)[at : at + stop - start]

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        values, (rows, cols) = approximable(x, spec, self.name).reshape(matrix_shape(spec)), matrix_shape(spec)
        budget = {key: options.get(key) for key in BUDGETS}
        rank = choose_rank(rows, cols, spectrum(values) if needs_spectrum(**budget) else None, **budget)
        left, right = balanced_svd(values, rank) if values.size else (np.zeros((rows, 1), np.float32), np.zeros((1, cols), np.float32))
        parts: dict[str, Part] = {
            "left": encode_factor(left, spec.dtype, env, options.get("left")),
            "right": encode_factor(right, spec.dtype, env, options.get("right")),
        }
        return Section("lowrank", {"rank": left.shape[1]}, parts)


def encode_factor(factor: F32, dtype: DType, env: Env, config: Config | None) -> Section:
    """Encode an array of float32 as config says; without one, rounded to dtype (that of the tensor it is a factor of), then losslessly."""
    flat = np.ascontiguousarray(factor).reshape(-1)
    if config is None:
        flat = to_float32(from_float32(flat, dtype), dtype)
    return encode_part(flat.view(np.uint32), Spec.of("F32", *factor.shape), env, config)


@contextmanager
def factor(part: Part, spec: Spec, env: Env, start: int, stop: int) -> Iterator[F32]:
    """Lend elements of a factor, which stays decoded when it is shared. Raises Corrupt [LOWRANK-2]."""
    if isinstance(part, Ref | Resource):
        yield finite(env.shared(part, spec)[start:stop], "LOWRANK-2", env)
        return
    with base.decoded(part, spec, env, start, stop) as found:
        yield finite(found, "LOWRANK-2", env)


def magnitudes(part: Part, spec: Spec, env: Env, start: int, stop: int) -> tuple[F64, F64]:
    """Return the magnitudes of a factor's elements in float64, and those that its bound allows: the same array where that is 0."""
    with base.decoded(part, spec, env, start, stop) as found:
        size = np.abs(found.view(np.float32).astype(np.float64))
    more = base.bound(part, spec, env, start, stop)
    return size, size + more if more.any() else size


def rounding(terms: int, exact: F64, moved: F64, largest: float = 1.0) -> F64:
    """Return what the rounding of sums of products may add up to (Higham, section 3.1), and what an error of the factors does.

    terms: products in a sum. exact, moved: sums of the magnitudes of products, of the factors as they are and as their bounds allow.
    largest: what an underflow may be multiplied with, at least any product on the way. Infinite where binary32 overflows.
    """
    relative = terms * UNIT / (1 - terms * UNIT)
    with np.errstate(over="ignore", invalid="ignore"):
        found: F64 = relative * moved + terms * 2.0**-149 * largest
        found = (found if moved is exact else found + (moved - exact)) * (1 + 1e-9)  # as float64 rounds, too
    found[~(moved <= LARGEST) | (largest > LARGEST)] = np.inf
    return found


def finite(factor: UInts, rule: str, env: Env) -> F32:
    """Return storage elements as float32. Raises Corrupt with the rule when one is infinite or no number."""
    values = env.backend.floats(factor)
    env.backend.check_finite(values, rule)
    return values
