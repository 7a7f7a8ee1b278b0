"""uniform: multiples of a step (spec/codecs/uniform.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import Codec, Env, Expected, storage_spec
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.lossless import Config, encode_part
from wcodec.codecs.matrix import approximable, matrix_shape
from wcodec.codecs.params import uint
from wcodec.coding.numbers import LOSSY
from wcodec.coding.uniform import F32, Grid, largest, root_mean_squares, shrink, thresholds
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import DTYPES, DType, Params, Section, Spec, UInts

FAR = 1 << 24
"""Distances of a symbol from zero lie below this: they are exact in float32."""
SCOPES = ("tensor", "row", "column", "group")
WIDEST = 1 << 16
"""Levels above which symbols are not weighed by their cost."""


def _grid(per: str, group: int, spec: Spec) -> tuple[Grid, int]:
    """Return which step an element has, and the number of steps."""
    rows, cols = matrix_shape(spec)
    if per == "tensor":
        return Grid(spec.count, spec.count, 1), 1
    if per == "column":
        return Grid(cols, 1, 0), cols
    grid = Grid(cols, cols if per == "row" else group, 1 if per == "row" else -(-cols // group))
    return grid, rows * grid.stride


def _read(params: Params, spec: Spec) -> tuple[int, int, Grid, int]:
    """Check the params. Returns levels, zero, grid and number of steps. Raises Corrupt [UNIFORM-1]."""
    rule, per = "UNIFORM-1", params.get("per", "tensor")
    zero = uint(params, "zero", 0, FAR - 1, rule)
    levels = uint(params, "levels", 1, zero + FAR, rule)
    if spec.dtype.name not in LOSSY:
        raise Corrupt(f"uniform decodes to {', '.join(LOSSY)}, not {spec.dtype.name}", rule=rule)
    if per not in SCOPES or (per == "tensor" and "per" in params) or (per == "group") != ("group" in params):
        raise Corrupt(f"param 'per' is {params.get('per')!r}, or does not go with 'group'", rule=rule)
    group = uint(params, "group", 1, 2**32 - 1, rule) if per == "group" else 1
    return levels, zero, *_grid(per, group, spec)


def _dtype(levels: int) -> DType:
    return DTYPES["U8" if levels <= 2**8 else "U16" if levels <= 2**16 else "U32"]


class Uniform(Codec):
    """Rounds floats to multiples of a step.

    Options: the step, as one of ``step``, ``bits`` (2^bits − 1 levels over the range) and ``relative`` (to the root mean square), with one
    step per tensor, row, column or group of elements of a row (``per``, ``group``). Without any: 8 bits per row.
    rdo: Lagrange multiplier of squared error in steps against bits; 0: nearest. steps: config of that part.
    """

    name = "uniform"
    params = frozenset({"levels", "zero", "per", "group"})
    options = frozenset({"step", "bits", "relative", "per", "group", "rdo", "steps"})
    lossless: ClassVar[bool] = False
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
        {"bits": 4, "per": "group", "group": 5, "rdo": 0.1},
        {"step": 0.25},
        {"relative": 0.002, "per": "column"},
    )

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name in LOSSY

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        levels, _, _, count = _read(section.params, spec)
        return {"symbols": storage_spec(spec, _dtype(levels)), "steps": Spec.of("F32", count)}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return base.unit(section.parts["symbols"], storage_spec(spec, _dtype(section.params["levels"])), env)

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        levels, zero, grid, count = _read(section.params, spec)
        with base.decoded(section.parts["symbols"], storage_spec(spec, _dtype(levels)), env, start, stop) as symbols:
            low, high = grid.span(start, stop)
            with base.decoded(section.parts["steps"], Spec.of("F32", count), env, low, high) as found:
                steps = env.backend.floats(found)
                env.backend.check_finite(steps, "UNIFORM-2")
                env.backend.dequantise(grid, start, symbols, steps, zero, levels, spec.dtype, out)

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        values = approximable(x, spec, self.name)
        per, group = options.get("per", "row"), options.get("group", 64)
        if per not in SCOPES or group < 1:
            raise EncodeError(f"per is {per!r} and group {group}; there are: {', '.join(SCOPES)}")
        grid, count = _grid(per, group, spec)
        steps, most = _steps(values, grid, count, options)
        zero, levels, symbols = self._quantise(values, grid, steps, most, env, options.get("rdo", 0))
        params: dict[str, Any] = {"levels": levels, "zero": zero} | ({"per": per} if per != "tensor" else {})
        params |= {"group": group} if per == "group" else {}
        config: Config | None = options.get("steps")
        parts = {
            "symbols": smallest(symbols, storage_spec(spec, _dtype(levels)), env, tails=True),
            "steps": encode_part(steps.view(np.uint32), Spec.of("F32", count), env, config),
        }
        return Section("uniform", params, parts)

    def _quantise(self, values: F32, grid: Grid, steps: F32, most: int, env: Env, rdo: float) -> tuple[int, int, UInts]:
        """Return zero, levels and symbols, moved so that the lowest one in use is 0."""
        kind = _dtype(2 * most + 1).storage
        symbols: UInts = np.empty(values.size, kind)
        env.backend.quantise(grid, 0, values, steps, most, 2 * most + 1, symbols)
        if rdo and symbols.size and 2 * most + 1 <= WIDEST:
            counts = np.bincount(symbols, minlength=2 * most + 1)
            shrink(grid, 0, values, steps, most, thresholds(counts, most, rdo), symbols)
        low, high = (int(symbols.min()), int(symbols.max())) if symbols.size else (most, most)
        low = min(low, most)  # zero must not become negative
        levels = max(high, low) - low + 1
        symbols -= kind.type(low)
        return most - low, levels, symbols.astype(_dtype(levels).storage)


def _steps(values: F32, grid: Grid, count: int, options: Mapping[str, Any]) -> tuple[F32, int]:
    """Return the steps that the options ask for, and the largest distance from zero in steps, below 2^24. Raises EncodeError."""
    asked = [key for key in ("step", "bits", "relative") if key in options]
    if len(asked) > 1:
        raise EncodeError(f"{' and '.join(asked)} exclude each other")
    how = asked[0] if asked else "bits"
    ask = options.get(how, 8)
    if how == "bits":
        if not 2 <= ask <= 16:
            raise EncodeError(f"{ask} bits, there can be 2 to 16")
        most = (1 << ask - 1) - 1
        return largest(grid, values, count) / np.float32(most), most
    if not 0 < ask < np.inf:
        raise EncodeError(f"{how} is {ask}, not a positive number")
    scale = np.ones(count) if how == "step" else root_mean_squares(grid, values, count)
    steps: F32 = (ask * scale).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratios = np.nan_to_num(largest(grid, values, count) / steps, nan=0, posinf=np.inf)
    far = float(ratios.max(initial=0))
    if not far < FAR - 1 or not np.isfinite(steps).all():
        raise EncodeError(f"values of {far:.3g} steps: the step is too small")
    return steps, max(1, int(np.rint(far)))
