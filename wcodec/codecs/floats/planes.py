"""planes: an entropy-coded symbol and planes of rest bits (spec/codecs/planes.md)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from math import lcm
from typing import Any, ClassVar

import numpy as np

from wcodec.backends import Planes, Symbols
from wcodec.codecs import base
from wcodec.codecs.base import Codec, Env, Expected, storage_spec, stored_size
from wcodec.codecs.floats.splitting import Tokens, choose_split, highest, split_tokens
from wcodec.codecs.integers import bitpack
from wcodec.codecs.integers.rans import Rans, wire
from wcodec.codecs.integers.runs import by_runs
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.params import uint
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import DTYPES, U8, U32, Part, Section, Spec, UInts

FEW = 16
"""Runs of noise and of other bytes that are not compared with a frame of the whole plane, which would take most of the time."""
FASTER = 1.001
"""How much larger more runs may be than that frame, which decodes at a fifth of their speed."""


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


def values_spec(count: int, spec: Spec) -> Spec:
    """Return the spec of the part ``values``: unsigned integers as wide as a storage element."""
    return Spec(DTYPES[f"U{8 * spec.dtype.storage.itemsize}"], (count,))


class PlanesCodec(Codec):
    """Stores any number type without loss.

    Options: rest (bits outside the symbol) and sign (where the top bit goes), both by a sample when absent.
    """

    name = "planes"
    params = frozenset({"rest", "sign", "patches"})
    options = frozenset({"rest", "sign"})
    host_encode: ClassVar[str] = ""
    host_rare: ClassVar[str] = "symbols of more than 256 kinds and rest planes that are not noise"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"rest": 7, "sign": 0}, {"rest": 7, "sign": 1}, {"rest": 7, "sign": 2})

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.bits >= 8 and len(spec.storage_shape) <= 64

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        split = split_of(section, spec)
        plane = Spec.of("U8", spec.count)
        found: dict[str, Expected] = {"symbol": symbol_spec(split, spec)}
        found |= {f"rest{i}": plane for i in range(split.count)}
        if "patches" in section.params:
            count = uint(section.params, "patches", 1, min(spec.count, 2**32), "PLANES-1")
            found |= {"at": Spec.of("U32", count), "values": values_spec(count, spec)}
        return found

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        expected = self.parts(section, spec)
        names = [name for name in expected if name not in ("at", "values")]
        units = [base.unit(section.parts[name], its, env) for name in names if isinstance(its := expected[name], Spec)]
        return min(lcm(*units), max(1, spec.count))

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        plan = _plan(section, spec, env)
        fused = plan.symbols is not None and start % plan.unit == 0 and (stop % plan.unit == 0 or stop == spec.count)
        with ExitStack() as stack:
            rest = [stack.enter_context(base.decoded(part, plan.plane, env, start, stop)) for part in plan.rest]
            if plan.packed is not None:
                lent = bitpack.packed if fused else base.decoded
                rest.append(stack.enter_context(lent(plan.packed, plan.plane, env, start, stop)))
            symbol = section.parts["symbol"]
            if fused and plan.symbols is not None:
                assert isinstance(symbol, Section)
                _join(symbol, plan, plan.symbols, env, start, stop, rest, out)
            else:
                symbols = stack.enter_context(base.decoded(symbol, plan.symbol, env, start, stop))
                env.backend.join_planes(plan.split, symbols, rest, out)
        if plan.at.size:
            low, high = np.searchsorted(plan.at, (start, stop))
            at, values = env.backend.from_host(plan.at[low:high] - np.uint32(start)), env.backend.from_host(plan.values[low:high])
            env.backend.scatter(at, values, out, False)

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        if not self.suits(spec):
            raise EncodeError(f"planes cannot hold {spec}")
        bits = 8 * spec.dtype.storage.itemsize
        split, top = choose_split(x, spec, env)
        if options:
            rest = min(max(options.get("rest", split.rest), bits - 16), bits - 1)
            split = Planes(bits, rest, options.get("sign", split.sign))
            top = highest(x, split, env)
        parts: dict[str, Part] | None = None
        strays = 0
        if len(x):
            with env.borrow(len(x), np.dtype(np.uint8)) as room:
                split, tokens = split_tokens(x, split, top, env, room, fixed="rest" in options)
                if tokens is not None:
                    parts = _parts_of_tokens(tokens, x, symbol_spec(split, spec), split, env)
                    strays = tokens.strays.size
        if parts is None:
            symbol, planes = env.backend.split_planes(split, x)
            symbol, planes, env = env.backend.to_host(symbol), [env.backend.to_host(plane) for plane in planes], env.host
            parts = {"symbol": smallest(symbol, symbol_spec(split, spec), env, zstd=False)}
            parts |= {f"rest{i}": smallest(plane, Spec.of("U8", plane.size), env) for i, plane in enumerate(planes)}
        params = {"rest": split.rest} | ({"sign": split.sign} if split.sign else {})
        return Section("planes", params | ({"patches": strays} if "at" in parts else {}), parts)


@dataclass(frozen=True, slots=True)
class Plan:
    """What decoding any window needs, worked out once.

    symbols: when the symbol is rans without a trellis, so that windows of whole blocks (unit) decode and join in one pass. rest: planes,
    without the top one when that is packed bits. at, values: the patches, few enough to stand in numpy's memory.
    """

    split: Planes
    symbol: Spec
    plane: Spec
    rest: list[Part]
    packed: Section | None
    symbols: Symbols | None
    unit: int
    at: U32
    values: UInts


def _plan(section: Section, spec: Spec, env: Env) -> Plan:
    found = section.memo.get("plan")
    if found is None:
        found = section.memo["plan"] = _make_plan(section, spec, env)
    assert isinstance(found, Plan)
    return found


def _make_plan(section: Section, spec: Spec, env: Env) -> Plan:
    split = split_of(section, spec)
    symbol, its = section.parts["symbol"], symbol_spec(split, spec)
    rest: list[Part] = [section.parts[f"rest{i}"] for i in range(split.count)]
    top = rest[-1] if split.rest % 8 else None
    packed = None
    if isinstance(top, Section) and top.codec == "bitpack" and top.params == {"bits": split.rest % 8}:
        packed = top
        rest.pop()
    symbols, unit = None, 1
    if isinstance(symbol, Section) and symbol.codec == "rans":
        w = wire(symbol, its)
        if w.order.block and w.kind != "trellis" and not w.alphabet.bits and w.alphabet.escape < 0:
            symbols, unit = Symbols(w.alphabet.base, w.alphabet.zero, packed is not None), w.order.unit
    at, values = _patches(section, spec, env)
    return Plan(split, its, Spec.of("U8", spec.count), rest, packed, symbols, unit, at, values)


def _patches(section: Section, spec: Spec, env: Env) -> tuple[U32, UInts]:
    """Decode where elements are replaced and by what. Raises Corrupt [PLANES-2]."""
    count = section.params.get("patches", 0)
    if not count:
        return np.empty(0, np.uint32), np.empty(0, spec.dtype.storage)
    at: U32 = base.decode_all(section.parts["at"], Spec.of("U32", count), env.host)
    if int(at[-1]) >= spec.count or (at[1:] <= at[:-1]).any():
        raise Corrupt("patches do not stand in increasing order inside the array", rule="PLANES-2")
    return at, base.decode_all(section.parts["values"], values_spec(count, spec), env.host)


def _join(symbol: Section, plan: Plan, symbols: Symbols, env: Env, start: int, stop: int, rest: list[U8], out: UInts) -> None:
    codec = env.codecs["rans"]
    assert isinstance(codec, Rans)
    with codec.window(symbol, plan.symbol, env, start // plan.unit, -(-stop // plan.unit)) as found:
        env.backend.rans_join(*found, symbols, plan.split, rest, out)


def _parts_of_tokens(found: Tokens, x: UInts, its: Spec, split: Planes, env: Env) -> dict[str, Part] | None:
    """Code symbols and rest planes; None when many exact zeros make the planes worth a closer look."""
    zeros = int(found.counts[0]) if found.zero or not split.rest else 0
    if zeros > 0.02 * int(found.counts.sum()):
        return None
    codec = env.codecs["rans"]
    assert isinstance(codec, Rans)
    parts: dict[str, Part] = {"symbol": codec.encode_symbols(found.tokens, its, env, found.counts, found.base, found.zero)}
    whole = split.rest // 8
    parts |= {f"rest{i}": part for i, part in enumerate(env.workers(lambda plane: _rest(plane, env), found.planes[:whole]))}
    if split.rest % 8:
        parts[f"rest{whole}"] = Section("bitpack", {"bits": split.rest % 8}, {"data": env.backend.stream(found.planes[whole])})
    if found.strays.size:
        at, values, env = found.strays.astype(np.uint32), env.backend.pick(x, found.strays), env.host
        parts["at"] = smallest(at, Spec.of("U32", at.size), env, zstd=False)
        parts["values"] = smallest(values, Spec(DTYPES[f"U{8 * values.itemsize}"], (at.size,)), env, zstd=False)
    return parts


def _rest(plane: U8, env: Env) -> Section:
    """Code one rest plane: raw unless a look says that it is not noise."""
    its = Spec.of("U8", len(plane))
    if env.backend.is_noise(plane):
        return env.codecs["raw"].encode(plane, its, env)
    plane, env = env.backend.to_host(plane), env.host
    runs = by_runs(plane, its, env)
    if runs is not None and len(runs.parts) <= FEW:
        return runs
    found = smallest(plane, its, env)
    return runs if runs is not None and stored_size(runs) <= FASTER * stored_size(found) else found
