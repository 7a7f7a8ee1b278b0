"""bitpack: unsigned integers of k bits each (spec/codecs/bitpack.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from wcodec.codecs.base import Codec, Env, Expected, StreamOf, stream_of
from wcodec.codecs.params import uint
from wcodec.types import U8, Section, Spec, UInts

GROUP = 8
"""Values that fill whole bytes, whatever their width."""


class Bitpack(Codec):
    """Stores (x − base) in as many bits as the spread needs."""

    name = "bitpack"
    params = frozenset({"bits", "base"})
    options = frozenset()
    host_encode = ""

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        bits = 8 * spec.dtype.storage.itemsize
        width = uint(section.params, "bits", 1, bits, "BITPACK-1")
        uint(section.params, "base", 0, 2**bits - 1, "BITPACK-1", default=0)
        return {"data": StreamOf(-(-spec.count * width // 8), "BITPACK-2")}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return GROUP

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        width, base = section.params["bits"], section.params.get("base", 0)
        first = start // GROUP * GROUP
        with packed(section, spec, env, first, stop) as data:
            if first == start:
                env.backend.unpack_bits(data, width, base, out)
                return
            with env.borrow(stop - first, spec.dtype.storage) as wide:
                env.backend.unpack_bits(data, width, base, wide)
                env.backend.copy(wide[start - first :], out)

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        base, width = spread(x, env)
        return Section(
            "bitpack",
            {"bits": width} | ({"base": base} if base else {}),
            {"data": env.backend.stream(env.backend.pack_bits(x, width, base))},
        )


@contextmanager
def packed(section: Section, spec: Spec, env: Env, start: int, stop: int) -> Iterator[U8]:
    """Lend the bytes of values start … stop − 1, start being a multiple of GROUP. Raises Corrupt [BITPACK-3]."""
    width = section.params["bits"]
    with env.bytes(stream_of(section, "data"), start * width // 8, -(-stop * width // 8)) as data:
        if stop == spec.count and (used := stop * width % 8):
            env.backend.check_padding(data, used, "BITPACK-3")
        yield data


def spread(x: UInts, env: Env) -> tuple[int, int]:
    """Return the minimum and the bits that all differences to it need (at least 1)."""
    if not len(x):
        return 0, 1
    low, high = env.backend.extremes(x)
    return low, max(1, (high - low).bit_length())
