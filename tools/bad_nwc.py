"""The reject corpus of nwc and of nets. Written by make_fixtures.py."""

from __future__ import annotations

from typing import Any

import numpy as np
from bad_linear import SPEC
from bad_linear import bad as bad_section
from golden_linear import raw

from wcodec import nets
from wcodec.codecs import CODECS
from wcodec.types import Ref, Section, Spec

U8S = Spec.of("U8", 16, 7)
LATENTS = (np.arange(112) % 5).astype(np.uint8)
NET = bytes([127, 2, 2, 1, 2, 1, 0, 1, 0, *[3] * 16])


def bad(rule: str, what: str, its: Section, spec: Spec = SPEC, **options: Any) -> None:
    bad_section(rule, what, its, spec, **options)


def coded(**options: Any) -> Section:
    from golden_cases import ENV

    return CODECS["rans"].encode(LATENTS, U8S, ENV, lanes=0, precision=8, **options)


def nwc(drop: str = "", net: bytes | None = NET, latents: Any = None, parts: Any = None, **params: Any) -> Section:
    its = {"zero": 2, "step": 0x3F800000} | ({} if net is None else {"net_size": len(net)}) | params
    found = {"latents": latents or raw(LATENTS)} | ({} if net is None else {"net": raw(np.frombuffer(net, np.uint8))}) | (parts or {})
    return Section("nwc", {key: value for key, value in its.items() if key != drop}, found)


DIGEST = nets.digest(nets.IDENTITY)
for _what, _params in {
    "zero": {"zero": 256}, "zero_wide": {"zero": 65536, "wide": True}, "odd": {"zero": 3, "trellis": True}, "step": {"step": 0},
    "step_huge": {"step": 0x76800000}, "type": {"wide": 1}, "rows": {"rows": "x"}, "level": {"level": 255}, "net_size": {"net_size": 0},
    "net_size_huge": {"net_size": 2**24 + 1}, "both_levels": {"level": 0, "levels": True}, "both_nets": {"digest": DIGEST},
    "trellis": {"trellis": 1},
}.items():  # fmt: skip
    bad("NWC-1", _what, nwc(**_params))
bad("NWC-1", "absent", nwc("step"))
bad("NWC-1", "no_net", nwc(net=None))
bad("NWC-1", "digest", nwc(net=None, digest=DIGEST[:31]))
bad("NWC-1", "dtype", nwc(), Spec.of("U32", 6, 7))
bad("NWC-2", "codec", nwc(trellis=True))
bad("NWC-2", "context", nwc(trellis=True, latents=coded()))
bad("NWC-2", "reference", nwc(trellis=True, latents=Ref(0)), resources=((U8S, coded(trellis=3)),))
bad("NWC-3", "unknown", nwc(net=None, digest=bytes(32)), error="UnknownCodec")
bad("NWC-4", "level", nwc(level=2))
bad("NWC-4", "levels", nwc(levels=True, parts={"levels": raw(np.array([0, 1, 0, 2, 0, 0, 0], np.uint8))}))
bad("C-20", "no_levels", nwc(levels=True))
bad(
    "C-23",
    "net",
    nwc(net=None, net_size=9, parts={"net": Ref(0)}),
    resources=((Spec.of("U8", len(NET)), raw(np.frombuffer(NET, np.uint8))),),
)


def net_of(*ops: bytes, clip: int = 127, shift: int = 2, levels: int = 1, count: int | None = None) -> bytes:
    return bytes([clip, shift, levels, len(ops) if count is None else count]) + b"".join(ops)


def linear(outputs: int, inputs: int, weight: int = 1, bias: int = 0) -> bytes:
    return (
        bytes([1])
        + outputs.to_bytes(2, "little")
        + bytes([weight % 256] * (outputs * inputs))
        + bias.to_bytes(4, "little", signed=True) * outputs
    )


def requantise(width: int = 16, low: int = 127, high: int = 127, shift: int = 0) -> bytes:
    return bytes([2]) + low.to_bytes(2, "little") + high.to_bytes(2, "little") + bytes([shift] * width)


def gate(width: int = 16, factor: int = 127, levels: int = 1) -> bytes:
    return bytes([3] + [factor % 256] * (width * levels))


def residual(width: int = 16, shift: int = 0) -> bytes:
    return bytes([5] + [shift] * width)


GOOD, SAVE = requantise(), b"\x04"
for _what, _net in {
    "clip": net_of(GOOD, clip=0), "clip_large": net_of(GOOD, clip=128), "shift": net_of(GOOD, shift=7), "levels": net_of(GOOD, levels=0),
    "no_ops": net_of(), "code": net_of(b"\x06"), "code_0": net_of(b"\0"), "short": net_of(GOOD)[:-1], "long": net_of(GOOD) + b"\0",
    "head": b"\x7f\x02", "more_ops": net_of(GOOD, count=2), "weight": net_of(linear(16, 16, -128)), "factor": net_of(gate(factor=-128)),
    "low": net_of(requantise(low=2**15)), "high": net_of(requantise(high=0)), "requantise_shift": net_of(requantise(shift=24)),
    "residual_shift": net_of(SAVE, residual(shift=17)),
}.items():  # fmt: skip
    bad("NET-1", _what, nwc(net=_net))
for _what, _net in {
    "outputs": net_of(linear(0, 16)), "outputs_many": net_of(linear(1025, 16)), "last_width": net_of(linear(15, 16)),
    "residual_alone": net_of(residual()),
    "residual_width": net_of(SAVE, linear(8, 16, 0), residual(8), requantise(8), linear(16, 8)),
    "saves": net_of(SAVE, SAVE),
}.items():  # fmt: skip
    bad("NET-2", _what, nwc(net=_net))
bad("NET-3", "gate", nwc(net=net_of(gate(factor=2), linear(16, 16))))
bad("NET-3", "requantise", nwc(net=net_of(gate(factor=2), requantise(low=128, high=128), linear(16, 16))))
for _what, _net in {
    "bias": net_of(linear(16, 16, bias=-(2**24))), "linear": net_of(linear(16, 16, 127, 2**24 - 127 * 127 * 16)),
    "rounding": net_of(linear(16, 16, 1, 2**24 - 2**22 - 127 * 16), requantise(shift=23)),
    "gate": net_of(linear(16, 16, 127), gate()), "residual": net_of(linear(16, 16, 1), SAVE, residual(shift=16)),
    "output": net_of(linear(16, 16, 1, 2**23 - 127 * 16)),
}.items():  # fmt: skip
    bad("NET-4", _what, nwc(net=_net))
