"""nwc: latents that a small integer net turns into weights (spec/codecs/nwc.md, spec/net.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Any, ClassVar

import numpy as np

from wcodec import nets
from wcodec.codecs import base
from wcodec.codecs.base import Codec, Env, Expected
from wcodec.codecs.floats.nwc_encoder import Coded, quantise
from wcodec.codecs.floats.nwc_feedback import quantise_calibrated
from wcodec.codecs.floats.trellis import decode_symbols
from wcodec.codecs.integers.rans import wire
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.matrix import approximable, matrix_shape
from wcodec.codecs.params import blob, flag, uint
from wcodec.coding.net import CHUNK, Net, parse
from wcodec.coding.numbers import LOSSY
from wcodec.coding.trellis import Lattice, factors
from wcodec.coding.uniform import Grid
from wcodec.errors import Corrupt, EncodeError, UnknownCodec
from wcodec.types import DTYPES, U8, Params, Part, Ref, Resource, Section, Spec, UInts

LARGEST_NET = 1 << 24
HIGHEST_STEP = 0x767FFFFF
"""Bits of the largest step: then no product with factors is infinite."""
PER_BYTE = 2048
"""Products of a net whose time counts as a decoded byte."""
NETS = 8
"""Nets that are kept at hand."""
PIECE = 1 << 20
"""Weights that go through the net at once, about: what windows share with their neighbours is then little."""


@dataclass(frozen=True, slots=True)
class Wire:
    """The params of a section, checked. latents: spec of that part. net_size: of a net in the file, in bytes. digest: of one outside."""

    zero: int
    step: np.float32
    latents: Spec
    trellis: bool
    rows: bool
    columns: bool
    level: int
    levels: bool
    net_size: int
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What decoding any window needs. levels: of all columns, or of each. steps: of all rows."""

    wire: Wire
    cols: int
    net: Net
    levels: int | U8
    steps: Lattice


def read(params: Params, spec: Spec) -> Wire:
    """Check the params. Raises Corrupt [NWC-1]."""
    rule, (rows, cols) = "NWC-1", matrix_shape(spec)
    if spec.dtype.name not in LOSSY:
        raise Corrupt(f"nwc decodes to {', '.join(LOSSY)}, not {spec.dtype.name}", rule=rule)
    wide, trellis, levels = flag(params, "wide", rule), flag(params, "trellis", rule), flag(params, "levels", rule)
    zero = uint(params, "zero", 0, 2**16 - 1 if wide else 2**8 - 1, rule)
    if trellis and zero % 2:
        raise Corrupt(f"param 'zero' is {zero}, which is odd", rule=rule)
    if ("net_size" in params) == ("digest" in params) or (levels and "level" in params):
        raise Corrupt("params 'net_size' and 'digest', or 'level' and 'levels', exclude each other", rule=rule)
    step = np.array([uint(params, "step", 1, HIGHEST_STEP, rule)], np.uint32).view(np.float32)[0]
    size = uint(params, "net_size", 1, LARGEST_NET, rule) if "net_size" in params else 0
    digest = blob(params, "digest", 32, rule) if "digest" in params else b""
    latents = Spec(DTYPES["U16" if wide else "U8"], (-(-rows // CHUNK) * CHUNK, cols))
    level = uint(params, "level", 0, 254, rule, default=0)
    return Wire(zero, step, latents, trellis, flag(params, "rows", rule), flag(params, "columns", rule), level, levels, size, digest)


class Nwc(Codec):
    """Rounds floats to what a small network makes of integers, 16 weights of a column at a time.

    Options: net (a name, bytes, or a Resource that holds them; "fast"), by_digest (False): leave it out of the file where this package
    ships it; level: the net's level, tried by default; the step, ``step`` or ``relative`` to the root mean square (0.5), between
    neighbouring latents of both lattices; states (32): of the trellis, or 0 for none; slope, steps, classes, tile and rounds as of
    ``trellis``; sweeps (1): trials of every latent's neighbours, without a trellis (with curvature: 0).
    curvature: as of ``trellis``.
    """

    name = "nwc"
    params = frozenset({"zero", "step", "wide", "trellis", "rows", "columns", "level", "levels", "net_size", "digest"})
    options = frozenset({
        "net", "by_digest", "level", "step", "relative", "states", "slope", "steps", "classes", "tile", "rounds", "sweeps",
        "importance", "curvature",
    })  # fmt: skip
    lossless: ClassVar[bool] = False
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"net": nets.IDENTITY, "by_digest": True},
        {"net": nets.IDENTITY, "states": 0, "steps": "columns"},
        {"net": nets.IDENTITY, "relative": 0.002, "states": 4, "steps": "rows"},
    )

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name in LOSSY

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        w, (rows, cols) = read(section.params, spec), matrix_shape(spec)
        part = section.parts.get("latents")
        if w.trellis and isinstance(part, Section | Ref | Resource) and not _is_trellis(part):
            raise Corrupt("latents of a trellis are not a section of rans with that context", rule="NWC-2")
        if w.digest and nets.find(w.digest) is None:
            raise UnknownCodec(f"this version of wcodec has no net {w.digest.hex()}", rule="NWC-3")
        expected: dict[str, Expected] = {"latents": w.latents}
        expected |= {"rows": Spec.of("U8", rows)} if w.rows else {}
        expected |= {"columns": Spec.of("U8", cols)} if w.columns else {}
        expected |= {"levels": Spec.of("U8", cols)} if w.levels else {}
        return expected | ({"net": Spec.of("U8", w.net_size)} if w.net_size else {})

    def work(self, section: Section, spec: Spec) -> int:
        w = read(section.params, spec)
        shipped = nets.find(w.digest) if w.digest else None
        return w.latents.count // CHUNK * (w.net_size if shipped is None else shipped.size) // PER_BYTE

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        its = read(section.params, spec).latents
        band, own = max(1, CHUNK * its.shape[1]), base.unit(section.parts["latents"], its, env)
        return max(1, min(own if own % band == 0 else band, spec.count))

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        its = self._opened(section, spec, env)
        if not spec.count:  # nothing to run, but something to check
            latents = its.wire.latents
            return base.decode(section.parts["latents"], latents, env, 0, 0, env.backend.empty(0, latents.dtype.storage))
        for low, high in self._pieces(section, its, env, start, stop):
            with env.borrow(high - low, np.dtype(np.uint32)) as whole:
                values = env.backend.floats(whole)
                self._latents(section, its, env, low, high, whole)
                env.backend.run_net(its.net, values, its.cols, its.levels, values)
                first, last = max(start, low), min(stop, high)
                rows = its.steps.rows
                rows = rows if rows.size == 1 else rows[first // its.cols : -(-last // its.cols)]
                steps = replace(its.steps, rows=rows)
                env.backend.scale(values[first - low : last - low], first, its.cols, steps, spec.dtype, out[first - start : last - start])
        return None

    def _pieces(self, section: Section, its: Opened, env: Env, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut a window, rounded to bands of chunks, where latents begin anew if they do so between bands."""
        band, latents = CHUNK * its.cols, its.wire.latents
        own = base.unit(section.parts["latents"], latents, env)
        unit = own if own % band == 0 else band
        step = max(unit, max(PIECE, env.backend.piece) // unit * unit)
        low, end = start // band * band, -(-stop // band) * band
        while low < end:
            high = min(end, (low // step + 1) * step)
            yield low, high
            low = high

    def _latents(self, section: Section, its: Opened, env: Env, start: int, stop: int, out: UInts) -> None:
        """Write latents start … stop − 1 as float32."""
        w, part = its.wire, section.parts["latents"]
        if w.trellis:
            assert isinstance(part, Section)
            return _trellis_latents(part, w, env, start, stop, out)
        one = env.backend.floats(env.backend.from_host(np.ones(1, np.float32).view(np.uint32)))
        with base.decoded(part, w.latents, env, start, stop) as symbols:
            grid = Grid(w.latents.count, w.latents.count, 1)
            env.backend.dequantise(grid, start, symbols, one, w.zero, 2**16, DTYPES["F32"], out)

    def _opened(self, section: Section, spec: Spec, env: Env) -> Opened:
        """Read the net, levels, factors, once. Raises Corrupt [NET-1 … NET-4, NWC-4]."""
        known: Opened | None = section.memo.get("opened")
        if known is not None:
            return known
        w, (rows, cols), host = read(section.params, spec), matrix_shape(spec), env.host
        net = _net(section, w, host)
        columns, levels, steps = None, w.level, np.full(1, w.step)
        of_levels = np.full(1, w.level, np.uint8)
        with np.errstate(under="ignore"):
            if w.rows:
                steps = w.step * factors(base.decode_all(section.parts["rows"], Spec.of("U8", rows), host).astype(np.uint8))
            if w.columns:
                columns = factors(base.decode_all(section.parts["columns"], Spec.of("U8", cols), host).astype(np.uint8))
            if w.levels:
                of_levels = base.decode_all(section.parts["levels"], Spec.of("U8", cols), host).astype(np.uint8)
        if int(of_levels.max(initial=0)) >= net.levels:
            raise Corrupt(f"a level is not below {net.levels}", rule="NWC-4")
        found = Opened(w, cols, net, of_levels if w.levels else levels, Lattice(0, 0, steps, columns))
        section.memo["opened"] = found
        return found

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        found, by_digest = resource(options.pop("net", None), env), options.pop("by_digest", False)
        data = base.decode_all(found.section, found.spec, env)
        how = quantise if options.get("curvature") is None else quantise_calibrated
        its = how(approximable(x, spec, self.name), spec, env, parsed(data.tobytes()), options)
        digest = next((nets.digest(name) for name in nets.names() if nets.load(name).tobytes() == data.tobytes()), None)
        return assemble(its, spec, env, found if not by_digest or digest is None else digest)


def assemble(its: Coded, spec: Spec, env: Env, net: Resource | bytes) -> Section:
    """Make the section that says what an encoder decided. net: a resource, or the digest of a net that readers have."""
    latents = Spec(DTYPES["U16" if its.latents.itemsize > 1 else "U8"], (-(-matrix_shape(spec)[0] // CHUNK) * CHUNK, matrix_shape(spec)[1]))
    params: dict[str, Any] = {"zero": its.zero, "step": int(its.step.view(np.uint32))}
    params |= {"wide": True} if its.latents.itemsize > 1 else {}
    params |= {"trellis": True} if "trellis" in its.coding else {}
    parts: dict[str, Part] = {"latents": env.codecs["rans"].encode(its.latents, latents, env, **its.coding)}
    for name, codes in (("rows", its.rows), ("columns", its.columns)):
        if codes is not None:
            params[name], parts[name] = True, smallest(codes, Spec.of("U8", codes.size), env)
    if isinstance(its.levels, int):
        params |= {"level": its.levels} if its.levels else {}
    else:
        params["levels"], parts["levels"] = True, smallest(its.levels, Spec.of("U8", its.levels.size), env)
    if isinstance(net, bytes):
        params["digest"] = net
    else:
        params["net_size"], parts["net"] = net.spec.count, net
    return Section("nwc", params, parts)


@lru_cache(maxsize=NETS)
def parsed(data: bytes) -> Net:
    """Read a net, of the last ones only once. Raises Corrupt [NET-1 … NET-4]."""
    return parse(np.frombuffer(data, np.uint8))


def resource(net: Any, env: Env) -> Resource:
    """Return a net that an encoder was given as a resource: the same one for the same bytes. Raises EncodeError."""
    if isinstance(net, Resource):
        return net
    if not isinstance(net, np.ndarray):
        name = net or ("fast" if "fast" in nets.names() else nets.IDENTITY)
        if name not in nets.names():
            raise EncodeError(f"no net {name!r}; there are: {', '.join(nets.names())}")
        net = nets.load(name)
    return _shared(net.tobytes(), env.host)


_RESOURCES: dict[bytes, Resource] = {}
_SHARING = Lock()
"""Held while a net is looked up: threads that make one each would store it as often."""


def _shared(data: bytes, env: Env) -> Resource:
    with _SHARING:
        if data not in _RESOURCES:
            while len(_RESOURCES) >= NETS:
                _RESOURCES.pop(next(iter(_RESOURCES)))
            spec = Spec.of("U8", len(data))
            _RESOURCES[data] = Resource(spec, smallest(np.frombuffer(data, np.uint8), spec, env))
        return _RESOURCES[data]


def _is_trellis(part: Part) -> bool:
    return isinstance(part, Section) and part.codec == "rans" and "trellis" in part.params


def _net(section: Section, w: Wire, env: Env) -> Net:
    """Return the net. Raises Corrupt [NET-1 … NET-4]."""
    if w.digest:
        data = nets.find(w.digest)
        assert data is not None, "check has found it"
        return parsed(data.tobytes())
    part, spec = section.parts["net"], Spec.of("U8", w.net_size)
    data = env.shared(part, spec) if isinstance(part, Ref | Resource) else base.decode_all(part, spec, env)
    return parsed(data.tobytes())


def _trellis_latents(part: Section, w: Wire, env: Env, start: int, stop: int, out: UInts) -> None:
    """Write k = 2 · (symbol − zero) + z0 of latents start … stop − 1 as float32."""
    its = wire(part, w.latents)
    unit = its.order.unit
    first, last = start // unit, -(-stop // unit)
    begin, end = first * unit, min(last * unit, w.latents.count)
    lattice, dtype = Lattice(its.trellis, w.zero, np.ones(1, np.float32)), DTYPES["F32"]
    if (begin, end) != (start, stop):
        with env.borrow(end - begin, out.dtype) as whole:
            _trellis_latents(part, w, env, begin, end, whole)
            return env.backend.copy(whole[start - begin : stop - begin], out)
    decode_symbols(part, w.latents, env, first, last, lattice, dtype, out)
