"""planes: an entropy-coded symbol and planes of rest bits (spec/codecs/planes.md)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import lcm
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from wcodec.backends import Planes, Symbols
from wcodec.codecs import base
from wcodec.codecs.base import Codec, Env, Expected, storage_spec
from wcodec.codecs.params import uint
from wcodec.codecs.rans import Rans, window, wire
from wcodec.codecs.smallest import entropy, smallest
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import DTYPES, U8, U64, MemoryStream, Part, Section, Spec, Stream, UInts

SAMPLE = 1 << 14
RUN = 1 << 10
WIDEST = 11
"""Bits of the widest symbol that is considered, without the sign."""


def split_of(section: Section, spec: Spec) -> Planes:
    """Check the params. Raises Corrupt [PLANES-1]."""
    bits = 8 * spec.dtype.storage.itemsize
    rest = uint(section.params, "rest", max(0, bits - 16), bits - 1, "PLANES-1")
    if spec.dtype.bits < 8:
        raise Corrupt(f"planes cannot hold {spec.dtype.name}", rule="PLANES-1")
    return Planes(bits, rest, uint(section.params, "sign", 0, 2, "PLANES-1", default=0))


def symbol_spec(split: Planes, spec: Spec) -> Spec:
    """Return the spec of the part ``symbol``."""
    return storage_spec(spec, DTYPES["U8" if split.bits - split.rest <= 8 else "U16"])


class PlanesCodec(Codec):
    """Stores any number type without loss.

    Options: rest (bits outside the symbol) and sign (where the top bit goes), both by a sample when absent.
    """

    name = "planes"
    params = frozenset({"rest", "sign"})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"rest": 7, "sign": 0}, {"rest": 7, "sign": 1}, {"rest": 7, "sign": 2})

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.bits >= 8 and len(spec.storage_shape) <= 64

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        split = split_of(section, spec)
        plane = Spec.of("U8", spec.count)
        return {"symbol": symbol_spec(split, spec)} | {f"rest{i}": plane for i in range(split.count)}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        expected = self.parts(section, spec)
        units = [base.unit(section.parts[name], its, env) for name, its in expected.items() if isinstance(its, Spec)]
        return min(lcm(*units), max(1, spec.count))

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        plan = _plan(section, spec)
        fused = plan.symbols is not None and start % plan.unit == 0 and (stop % plan.unit == 0 or stop == spec.count)
        with ExitStack() as stack:
            rest = [stack.enter_context(base.decoded(part, plan.plane, env, start, stop)) for part in plan.rest]
            if plan.packed is not None:
                width = plan.split.rest % 8
                if fused:
                    rest.append(stack.enter_context(plan.packed.read(start * width // 8, -(-stop * width // 8))))
                else:
                    top = section.parts[f"rest{plan.split.count - 1}"]
                    rest.append(stack.enter_context(base.decoded(top, plan.plane, env, start, stop)))
            symbol = section.parts["symbol"]
            if fused and plan.symbols is not None:
                assert isinstance(symbol, Section)
                _join(symbol, plan, plan.symbols, env, start, stop, rest, out)
            else:
                symbols = stack.enter_context(base.decoded(symbol, plan.symbol, env, start, stop))
                env.backend.join_planes(plan.split, symbols, rest, out)

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        if not self.suits(spec):
            raise EncodeError(f"planes cannot hold {spec}")
        bits = 8 * spec.dtype.storage.itemsize
        rest, sign = choose_split(x, spec)
        rest = options.get("rest", rest)
        split = Planes(bits, min(max(rest, bits - 16), bits - 1), options.get("sign", sign))
        parts: dict[str, Part] | None = None
        if x.size:
            split, tokens = split_tokens(x, split, env, fixed="rest" in options)
            parts = None if tokens is None else _parts_of_tokens(tokens, symbol_spec(split, spec), split, env)
        if parts is None:
            symbol, planes = env.backend.split_planes(split, x)
            parts = {"symbol": smallest(symbol, symbol_spec(split, spec), env, zstd=False)}
            parts |= {f"rest{i}": smallest(plane, Spec.of("U8", plane.size), env) for i, plane in enumerate(planes)}
        return Section("planes", {"rest": split.rest} | ({"sign": split.sign} if split.sign else {}), parts)


@dataclass(frozen=True, slots=True)
class Plan:
    """What decoding any window needs, worked out once.

    symbols: when the symbol is plain rans, so that windows of whole blocks (unit) decode and join in one pass. rest: planes, without
    the top one when that is packed bits.
    """

    split: Planes
    symbol: Spec
    plane: Spec
    rest: list[Part]
    packed: Stream | None
    symbols: Symbols | None
    unit: int


def _plan(section: Section, spec: Spec) -> Plan:
    found = section.memo.get("plan")
    if found is None:
        found = section.memo["plan"] = _make_plan(section, spec)
    assert isinstance(found, Plan)
    return found


def _make_plan(section: Section, spec: Spec) -> Plan:
    split = split_of(section, spec)
    symbol, its = section.parts["symbol"], symbol_spec(split, spec)
    rest: list[Part] = [section.parts[f"rest{i}"] for i in range(split.count)]
    top = rest[-1] if split.rest % 8 else None
    packed = None
    if isinstance(top, Section) and top.codec == "bitpack" and top.params == {"bits": split.rest % 8}:
        packed = base.stream_of(rest.pop(), "data")
    symbols, unit = None, 1
    if isinstance(symbol, Section) and symbol.codec == "rans":
        w = wire(symbol, its)
        if w.order.block and w.kind == "none" and not w.alphabet.bits and w.alphabet.escape < 0:
            symbols, unit = Symbols(w.alphabet.base, w.alphabet.zero, packed is not None), w.order.unit
    return Plan(split, its, Spec.of("U8", spec.count), rest, packed, symbols, unit)


def _join(symbol: Section, plan: Plan, symbols: Symbols, env: Env, start: int, stop: int, rest: list[U8], out: UInts) -> None:
    codec = env.codecs["rans"]
    assert isinstance(codec, Rans)
    head = codec.head(symbol, plan.symbol, env)
    job, lut, states, offsets, (low, high) = window(head, start // plan.unit, -(-stop // plan.unit))
    with base.stream_of(symbol, "data").read(low, high) as words:
        env.backend.rans_join(job, lut, states, offsets, words, symbols, plan.split, rest, out)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Elements split in one pass. planes: the top one packed when it has fewer than 8 bits. counts: of the tokens."""

    tokens: U8
    planes: list[U8]
    counts: U64
    base: int
    zero: bool


def split_tokens(x: UInts, split: Planes, env: Env, fixed: bool) -> tuple[Planes, Tokens | None]:
    """Split into tokens that stand for all symbols, with more rest bits where 256 of them do not suffice (None if ``fixed``)."""
    seen = sample(x)
    symbol, _ = env.backend.split_planes(split, seen)
    width = split.bits - split.rest
    # A guess that leaves room for a few larger exponents than the sample has; the verb tells whether it was right.
    base_ = max(0, min(int(symbol.max()) + (4 << width - 8), (1 << width) - 1) - 255) if width > 8 else 0
    tokens = np.empty(x.size, np.uint8)
    while True:
        widths = [8] * (split.rest // 8) + [split.rest % 8] * (split.rest % 8 > 0)
        planes = [np.empty(-(-x.size * width // 8), np.uint8) for width in widths]
        counts, low, high = _split(x, split, base_, tokens, planes, widths, env)
        if high < 256 and not base_:
            return split, Tokens(tokens, planes, counts, 0, False)
        if base_ < low and high - base_ < 256:
            return split, Tokens(tokens, planes, counts, base_, True)
        fewer = 0
        while (high >> fewer) - (low >> fewer) + 1 > 255:
            fewer += 1
        if fewer and fixed:
            return split, None
        split = replace(split, rest=split.rest + fewer)
        base_ = max(0, (low >> fewer) - 1) if high >> fewer > 255 else 0


def _split(x: UInts, split: Planes, base_: int, tokens: U8, planes: list[U8], widths: list[int], env: Env) -> tuple[U64, int, int]:
    """Run the verb on as many pieces as there are workers."""
    step = -(-x.size // (env.parallel * RUN)) * RUN

    def piece(a: int) -> tuple[U64, int, int]:
        b = min(a + step, x.size)
        rest = [plane[a * width // 8 : -(-b * width // 8)] for plane, width in zip(planes, widths, strict=True)]
        return env.backend.split_tokens(split, x[a:b], base_, tokens[a:b], rest)

    found = list(env.workers(piece, range(0, x.size, step)))
    counts: U64 = np.sum([counts for counts, _, _ in found], axis=0, dtype=np.uint64)
    return counts, min(low for _, low, _ in found), max(high for _, _, high in found)


def _parts_of_tokens(found: Tokens, its: Spec, split: Planes, env: Env) -> dict[str, Part] | None:
    """Code symbols and rest planes; None when many exact zeros make the planes worth a closer look."""
    zeros = int(found.counts[0]) if found.zero or not split.rest else 0
    if zeros > 0.02 * found.tokens.size:
        return None
    codec = env.codecs["rans"]
    assert isinstance(codec, Rans)
    parts: dict[str, Part] = {"symbol": codec.encode_symbols(found.tokens, its, env, found.counts, found.base, found.zero)}
    for i, plane in enumerate(found.planes):
        packed = i == split.rest // 8
        parts[f"rest{i}"] = Section("bitpack", {"bits": split.rest % 8}, {"data": MemoryStream(plane)}) if packed else _rest(plane, env)
    return parts


def sample(x: UInts, count: int = SAMPLE) -> UInts:
    """Take evenly spread runs of elements, at most about ``count`` of them."""
    if x.size <= count:
        return x
    runs = count // RUN
    step = (x.size - RUN) // (runs - 1)
    return np.concatenate([x[i * step : i * step + RUN] for i in range(runs)])


def choose_split(x: UInts, spec: Spec) -> tuple[int, int]:
    """Choose rest bits and the place of the sign by the entropy of a sample: what costs next to nothing belongs to the rest."""
    bits = 8 * spec.dtype.storage.itemsize
    if not spec.dtype.mantissa or not x.size:
        return max(0, bits - 8), 0
    seen = sample(x)
    kind = x.dtype.type
    top = seen >> kind(bits - 1)
    width = min(WIDEST, bits - 1)
    # Counts of [upper bits without the sign, sign]; merging neighbours takes a mantissa bit away.
    upper = (seen & kind((1 << bits - 1) - 1)) >> kind(bits - 1 - width)
    counts = np.bincount(upper << kind(1) | top, minlength=2 << width).reshape(-1, 2)
    best = (float("inf"), 0, 0)
    for width in range(width, min(width, 6) - 1, -1):
        unsigned = counts.sum(1)
        best = min(best, _cost(unsigned, seen.size, x.size, bits, width, 1))
        both = counts.min(1).sum() / seen.size
        if both < 0.45:  # skewed: worth a look
            best = min(best, _cost(counts.ravel(), seen.size, x.size, bits, width + 1, 2))
        counts = counts.reshape(-1, 2, 2).sum(1)
    return best[1], best[2]


def _cost(counts: npt.NDArray[Any], seen: int, size: int, bits: int, width: int, sign: int) -> tuple[float, int, int]:
    """Return (bits per element, rest, sign) of symbols of a width with these counts in a sample."""
    used = int(np.count_nonzero(counts))
    if used > 240 and width > 8:
        return float("inf"), bits - width, sign
    # A wider symbol pays for its table, for 12-bit frequencies, and for what a sample cannot see; 8 bits are the fastest.
    cost = entropy(counts) / seen + bits - width + 10 * used / size + used / 30_000
    return cost - (0.004 if width == 8 else 0), bits - width, sign


def _rest(plane: U8, env: Env) -> Section:
    """Code one rest plane: raw unless a look says that it is not noise."""
    its = Spec.of("U8", plane.size)
    seen = sample(plane)
    counts = np.bincount(seen, minlength=256)
    # The entropy of a sample of noise falls short of 8 bits by about 184 bits in all.
    if plane.size and entropy(counts) / seen.size < 8 - 0.015 - 250 / seen.size:
        return smallest(plane, its, env)
    return env.codecs["raw"].encode(plane, its, env)
