"""planes: an entropy-coded symbol and planes of rest bits (spec/codecs/planes.md)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from math import lcm
from typing import Any

import numpy as np

from wcodec.backends import Planes
from wcodec.codecs import base
from wcodec.codecs.base import Codec, Env, Expected, storage_spec
from wcodec.codecs.params import flag, uint
from wcodec.codecs.rans import Rans, window, wire
from wcodec.codecs.smallest import entropy, smallest
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import DTYPES, U8, Part, Section, Spec, UInts

SAMPLE = 1 << 15
RUN = 1 << 10


def split_of(section: Section, spec: Spec) -> Planes:
    """Check the params. Raises Corrupt [PLANES-1]."""
    bits = 8 * spec.dtype.storage.itemsize
    rest = uint(section.params, "rest", max(0, bits - 16), bits - 1, "PLANES-1")
    if spec.dtype.bits < 8:
        raise Corrupt(f"planes cannot hold {spec.dtype.name}", rule="PLANES-1")
    return Planes(bits, rest, flag(section.params, "rotate", "PLANES-1"))


def symbol_spec(split: Planes, spec: Spec) -> Spec:
    """Return the spec of the part ``symbol``."""
    return storage_spec(spec, DTYPES["U8" if split.bits - split.rest <= 8 else "U16"])


class PlanesCodec(Codec):
    """Stores any number type without loss.

    Options: rest (bits outside the symbol; by a sample), rotate (floats: true), exact about what the parts are coded with.
    """

    name = "planes"
    examples: tuple[Mapping[str, Any], ...] = ({}, {"rest": 7, "rotate": False}, {"rest": 7, "rotate": True})

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.bits >= 8

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        split = split_of(section, spec)
        plane = Spec.of("U8", spec.count)
        return {"symbol": symbol_spec(split, spec)} | {f"rest{i}": plane for i in range(split.count)}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        expected = self.parts(section, spec)
        units = [base.unit(section.parts[name], its, env) for name, its in expected.items() if isinstance(its, Spec)]
        return min(lcm(*units), max(1, spec.count))

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        split, plane = split_of(section, spec), Spec.of("U8", spec.count)
        with ExitStack() as stack:
            rest = [
                stack.enter_context(base.decoded(section.parts[f"rest{i}"], plane, env, start, stop)) for i in range(split.count)
            ]
            if self._fused(section, spec, split, env, start, stop, rest, out):
                return
            symbol = stack.enter_context(base.decoded(section.parts["symbol"], symbol_spec(split, spec), env, start, stop))
            env.backend.join_planes(split, symbol, rest, out)

    def _fused(
        self, section: Section, spec: Spec, split: Planes, env: Env, start: int, stop: int, rest: list[U8], out: UInts
    ) -> bool:
        """Decode and join in one pass when the symbol is plain rans and the window is whole blocks."""
        symbol, its = section.parts["symbol"], symbol_spec(split, spec)
        if not isinstance(symbol, Section) or symbol.codec != "rans":
            return False
        w = wire(symbol, its)
        unit = w.order.unit
        whole = start % unit == 0 and (stop % unit == 0 or stop == spec.count)
        if not whole or not w.order.block or w.kind != "none" or w.alphabet.bits or w.alphabet.escape >= 0 or w.alphabet.zero:
            return False
        codec = env.codecs["rans"]
        assert isinstance(codec, Rans)
        job, lut, states, offsets, (low, high) = window(codec.head(symbol, its, env), start // unit, -(-stop // unit))
        with base.stream_of(symbol, "data").read(low, high) as words:
            env.backend.rans_join(job, lut, states, offsets, words, w.alphabet.base, split, rest, out)
        return True

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        if not self.suits(spec):
            raise EncodeError(f"planes cannot hold {spec.dtype.name}")
        bits = 8 * spec.dtype.storage.itemsize
        rotate = options.get("rotate", spec.dtype.mantissa > 0)
        rest = options["rest"] if "rest" in options else choose_rest(x, spec, rotate)
        rest = min(max(rest, bits - 16), bits - 1)
        split = Planes(bits, rest, rotate)
        symbol, planes = env.backend.split_planes(split, x)
        its = symbol_spec(split, spec)
        parts: dict[str, Part] = {"symbol": smallest(symbol, its, env, zstd=False)}
        for i, plane in enumerate(planes):
            parts[f"rest{i}"] = _rest(plane, env)
        return Section("planes", {"rest": rest} | ({"rotate": True} if rotate else {}), parts)


def sample(x: UInts, count: int = SAMPLE) -> UInts:
    """Take evenly spread runs of elements, at most about ``count`` of them."""
    if x.size <= count:
        return x
    runs = count // RUN
    step = (x.size - RUN) // (runs - 1)
    return np.concatenate([x[i * step : i * step + RUN] for i in range(runs)])


def choose_rest(x: UInts, spec: Spec, rotate: bool) -> int:
    """Choose r by the entropy of a sample: most bits below the symbol that cost nothing."""
    bits = 8 * spec.dtype.storage.itemsize
    if bits == 8:
        return 1 if rotate else 0
    if not x.size:
        return bits - 8
    seen = sample(x)
    kind = x.dtype.type
    v = seen << kind(1) | seen >> kind(bits - 1) if rotate else seen
    counts = np.bincount((v >> kind(bits - 16)).astype(np.intp), minlength=1 << 16)
    best = (float("inf"), 0)
    for width in range(min(max(spec.dtype.exponent, 6), 8), 13):
        merged = counts.reshape(1 << width, -1).sum(1)
        used = int((merged > 0).sum())
        if used > 250 and width > 8:
            break
        # A wider symbol pays for its table and for 12-bit frequencies; a sample sees fewer of its tokens.
        cost = entropy(merged) / seen.size + bits - width + (9 * used) / x.size + used / 40_000
        best = min(best, (cost, bits - width))
    return best[1]


def _rest(plane: U8, env: Env) -> Section:
    """Code one rest plane: raw unless a look says that it is not noise."""
    its = Spec.of("U8", plane.size)
    seen = sample(plane)
    counts = np.bincount(seen, minlength=256)
    width = max(1, int(seen.max(initial=0)).bit_length())
    noise = entropy(counts) / max(1, seen.size)
    if plane.size and noise < width - 0.02 - 300 / plane.size:
        return smallest(plane, its, env)
    if width < 8 and plane.size and int(plane.max()) >> width == 0:
        return env.codecs["bitpack"].encode(plane, its, env)
    return env.codecs["raw"].encode(plane, its, env)
