"""trellis: steps of two interleaved lattices, chosen along a trellis (spec/codecs/trellis.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import Codec, Env, Expected, storage_spec
from wcodec.codecs.floats.trellis_encoder import LARGEST, PER_POINT, quantise
from wcodec.codecs.floats.trellis_feedback import quantise_calibrated
from wcodec.codecs.integers.rans import Rans, wire
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.matrix import approximable, matrix_shape
from wcodec.codecs.params import flag, uint, uints
from wcodec.coding.numbers import LOSSY
from wcodec.coding.tokens import Alphabet
from wcodec.coding.trellis import Lattice, Quantised, factors
from wcodec.errors import Corrupt
from wcodec.types import DTYPES, DType, Params, Part, Ref, Resource, Section, Spec, UInts

POINTS = 64
"""Points that a section has at most."""
FUSED = Alphabet(trellis=True)
"""What tokens stand for when they are the symbols."""


@dataclass(frozen=True, slots=True)
class Wire:
    """The params of a section, checked. symbols: dtype of that part. rows, columns: whether they have factors."""

    zero: int
    step: np.float32
    symbols: str
    rows: bool
    columns: bool
    points: tuple[int, ...]


def read(section: Section, spec: Spec) -> Wire:
    """Check the params, once. Raises Corrupt [TRELLIS-1]."""
    found: Wire | None = section.memo.get("wire")
    if found is None:
        found = section.memo["wire"] = _read(section.params, spec)
    return found


def _read(params: Params, spec: Spec) -> Wire:
    rule = "TRELLIS-1"
    if spec.dtype.name not in LOSSY:
        raise Corrupt(f"trellis decodes to {', '.join(LOSSY)}, not {spec.dtype.name}", rule=rule)
    wide = flag(params, "wide", rule)
    zero = uint(params, "zero", 0, 2**16 - 2 if wide else 2**8 - 2, rule)
    if zero % 2:
        raise Corrupt(f"param 'zero' is {zero}, which is odd", rule=rule)
    step = uint(params, "step", 1, (127 + LARGEST << 23) - 1, rule)
    points = uints(params, "points", 0, 2**16 - 1, rule, range(1, POINTS + 1)) if "points" in params else ()
    bits = np.array([step], np.uint32).view(np.float32)
    return Wire(zero, bits[0], "U16" if wide else "U8", flag(params, "rows", rule), flag(params, "columns", rule), points)


def symbols_of(section: Section, spec: Spec) -> tuple[Section, Spec]:
    """Return the part that holds the symbols, and its spec. Raises Corrupt [TRELLIS-2]."""
    known: tuple[Section, Spec] | None = section.memo.get("symbols")
    if known is not None:
        return known
    part = section.parts["symbols"]
    assert isinstance(part, Section | Ref | Resource), "check has found a stream"
    if not isinstance(part, Section) or part.codec != "rans" or "trellis" not in part.params:
        raise Corrupt("the symbols of a trellis are not a section of rans with that context", rule="TRELLIS-2")
    found = section.memo["symbols"] = part, storage_spec(spec, DTYPES[read(section, spec).symbols])
    return found


def decode_symbols(part: Section, its: Spec, env: Env, first: int, last: int, lattice: Lattice, dtype: DType, out: UInts) -> None:
    """Decode units first … last − 1 of symbols and write what they stand for: in one pass, but a device may need more."""
    w, codec = wire(part, its), env.codecs["rans"]
    if isinstance(codec, Rans) and w.alphabet == FUSED and its.dtype.name == "U8":
        with codec.window(part, its, env, first, last) as found:
            return env.backend.trellis_decode(*found, lattice, dtype, out)
    if isinstance(codec, Rans) and env.near is None:
        with codec.window(part, its, env, first, last) as found, codec.beside(part, its, env, first, last) as beside:
            return env.backend.trellis_join(*found, beside, lattice, dtype, out)
    start = first * w.order.unit
    with env.borrow(len(out), its.dtype.storage) as symbols:
        base.decode(part, its, env, start, start + len(out), symbols)
        return env.backend.trellis_dequantise(w.order.window(first, last), start, symbols, lattice, dtype, out)


class Trellis(Codec):
    """Rounds floats to multiples of a step, even or odd ones as the trellis of every column demands.

    Options: the step, ``step`` or ``relative`` to the root mean square (0.5), between neighbours of the two lattices together; states
    (32): 4 to 256; slope (0.37): squared steps that a bit is worth; steps: ``tensor``, ``rows`` or ``columns``; classes (4) of rows and
    points (True): used at most, where they pay; tile: (R, C) or "linear"; rounds (2) of estimating code lengths. curvature: what errors
    of a matrix cost (``Curvature``), by which columns make up for each other's; steps then are in the root of that cost.
    """

    name = "trellis"
    params = frozenset({"zero", "step", "wide", "rows", "columns", "points"})
    options = frozenset({"step", "relative", "states", "slope", "steps", "classes", "points", "tile", "rounds", "importance", "curvature"})
    lossless: ClassVar[bool] = False
    host_encode: ClassVar[str] = ""
    host_rare: ClassVar[str] = "all but the search, and with a curvature that too: it feeds errors of every column to the next"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
        {"relative": 0.2, "states": 8, "steps": "rows", "tile": (4, 128)},
        {"relative": 0.002, "states": 4, "steps": "columns"},
    )

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name in LOSSY

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        found, (rows, cols) = read(section, spec), matrix_shape(spec)
        if isinstance(section.parts.get("symbols"), Section | Ref | Resource):
            symbols_of(section, spec)
        expected: dict[str, Expected] = {"symbols": storage_spec(spec, DTYPES[found.symbols])}
        expected |= {"rows": Spec.of("U8", rows)} if found.rows else {}
        return expected | ({"columns": Spec.of("U8", cols)} if found.columns else {})

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return base.unit(*symbols_of(section, spec), env)

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        unit = self.unit(section, spec, env)
        first, last = start // unit, -(-stop // unit)
        begin, end = first * unit, min(last * unit, spec.count)
        if (begin, end) == (start, stop):
            return self._units(section, spec, env, first, last, out)
        with env.borrow(end - begin, spec.dtype.storage) as whole:
            self._units(section, spec, env, first, last, whole)
            env.backend.copy(whole[start - begin : stop - begin], out)

    def _units(self, section: Section, spec: Spec, env: Env, first: int, last: int, out: UInts) -> None:
        """Decode units first … last − 1."""
        part, its = symbols_of(section, spec)
        start, cols, lattice = first * wire(part, its).order.unit, matrix_shape(spec)[1], self._lattice(section, spec, env)
        if lattice.rows.size > 1 and cols:
            lattice = replace(lattice, rows=lattice.rows[start // cols : -(-(start + len(out)) // cols)])
        decode_symbols(part, its, env, first, last, lattice, spec.dtype, out)

    def _lattice(self, section: Section, spec: Spec, env: Env) -> Lattice:
        """Read the factors and points, once; steps are those of all rows."""
        known: Lattice | None = section.memo.get("lattice")
        if known is not None:
            return known
        p, (rows, cols) = read(section, spec), matrix_shape(spec)
        steps, columns = np.full(1, p.step), None
        if p.rows:
            with np.errstate(under="ignore"):
                steps = p.step * factors(base.decode_all(section.parts["rows"], Spec.of("U8", rows), env.host))
        if p.columns:
            columns = factors(base.decode_all(section.parts["columns"], Spec.of("U8", cols), env.host))
        points = np.array(p.points, np.float32) / np.float32(PER_POINT)
        part = symbols_of(section, spec)
        found = section.memo["lattice"] = Lattice(wire(*part).trellis, p.zero, steps, columns, points)
        return found

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        values = approximable(env.backend.to_host(x), spec, self.name)
        if options.get("curvature") is None:
            return assemble(quantise(values, spec, env, options), spec, env.host)
        return assemble(quantise_calibrated(values, spec, env.host, options), spec, env.host)


def assemble(its: Quantised, spec: Spec, env: Env) -> Section:
    """Make the section that says what an encoder decided."""
    wide = its.symbols.itemsize > 1
    coding: dict[str, Any] = {"trellis": its.v, "alphabet": its.alphabet}
    coding |= {"tile": its.tile} if its.tile else {}
    if its.classes is not None:
        coding["classes"] = (its.classes[0].reshape(-1, 1), its.classes[1], np.zeros(matrix_shape(spec)[1], np.uint8))
    symbols = env.codecs["rans"].encode(its.symbols, storage_spec(spec, DTYPES["U16" if wide else "U8"]), env, **coding)
    params: dict[str, Any] = {"zero": its.zero, "step": int(its.step.view(np.uint32))} | ({"wide": True} if wide else {})
    parts: dict[str, Part] = {"symbols": symbols}
    for name, codes in (("rows", its.rows), ("columns", its.columns)):
        if codes is not None:
            params[name], parts[name] = True, smallest(codes, Spec.of("U8", codes.size), env)
    params |= {"points": list(its.points)} if its.points else {}
    return Section("trellis", params, parts)
