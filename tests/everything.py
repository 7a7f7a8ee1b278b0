"""A file of a few KB with every codec, context and kind of part, for tests to damage."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from battery import altered, digest, make_env, raw
from strategies import finite

from wcodec.api.outcome import parts_digest
from wcodec.codecs import CODECS, decode_all
from wcodec.codecs.base import exact
from wcodec.codecs.random.fills import Fill
from wcodec.coding.tables import Tables
from wcodec.container.writer import ContainerWriter
from wcodec.nets import IDENTITY
from wcodec.types import Ref, Resource, Section, Spec

TOKENS = np.minimum(np.random.default_rng(0).geometric(0.4, 140), 9)
PRUNED = np.where(np.arange(70) % 9 == 4, 7000, 0)


class Everything:
    """The writer of that file."""

    def __init__(self) -> None:
        self.buffer, self.env, self.rng = io.BytesIO(), make_env(), np.random.default_rng(0)
        with ContainerWriter(self.buffer, metadata={"format": "pt"}) as self.writer:
            self.plain()
            self.entropy_coded()
            self.shared_tables()
            self.planes()
            self.masks()
            self.seeds()
            self.approximate()
            self.writer.add_alias("tied", 0, True)

    def add(self, name: str, dtype: str, shape: tuple[int, ...], x: Any, codec: str, /, **options: Any) -> None:
        spec = Spec.of(dtype, *shape)
        x = np.asarray(x).astype(spec.dtype.storage)
        self.writer.add(name, spec, CODECS[codec].encode(x, spec, self.env, **options), digest(x))

    def plain(self) -> None:
        self.add("raw", "F32", (2, 5), self.rng.integers(0, 2**32, 10), "raw")
        self.add("big", "U8", (300,), self.rng.integers(0, 256, 300), "raw")
        self.add("const", "F16", (5,), np.full(5, 0x3C00), "const")
        self.add("bitpack", "I64", (21,), np.arange(21) + 7, "bitpack")
        self.add("zstd", "I8", (90,), np.arange(90) // 9, "zstd")
        self.add("concat", "U16", (9, 10), np.arange(90), "concat", codec="bitpack")
        few = np.array([3, 9, 27, 81])[self.rng.integers(0, 4, 60)]
        self.add("codebook", "BF16", (6, 10), few, "codebook", indices={"codec": "bitpack"})
        self.add("codebook.pairs", "U8", (6, 10), np.tile(few[:20], 3), "codebook", width=2, indices={"codec": "rans"})

    def entropy_coded(self) -> None:
        self.add("rans", "U8", (140,), TOKENS, "rans", lanes=0, block=128)
        self.add("trellis", "U8", (4, 35), TOKENS, "rans", trellis=3, lanes=0, tile=(3, 16))
        self.add("classes", "U8", (14, 10), TOKENS, "rans", classes="halves", lanes=2)
        wide = np.where(np.arange(140) % 40 == 3, 99_000, (TOKENS + 1000) * 8 * (TOKENS < 6)) + np.arange(140) % 8
        self.add("wide", "U32", (140,), wide, "rans", bits=3, lanes=0, block=128)

    def shared_tables(self) -> None:
        tables = Tables.fit(np.bincount(TOKENS, minlength=256).astype(np.uint64).reshape(1, -1), 9)
        table = np.frombuffer(tables.pack(), np.uint8)
        ref = self.writer.add_resource(its := Spec.of("U8", table.size), raw(table))
        self.env.resource = lambda index: Resource(its, raw(table))
        x = TOKENS.astype(np.uint8)
        section = CODECS["rans"].encode(x, Spec.of("U8", 140), self.env, precision=9, lanes=0, tables=(tables, ref))
        assert section.parts["tables"] == Ref(0)
        self.writer.add("shared", Spec.of("U8", 140), section, digest(x))

    def planes(self) -> None:
        self.add("planes", "BF16", (6, 50), self.rng.standard_normal(300).astype(np.float32).view(np.uint32) >> 16, "planes")
        x, spec = (TOKENS + 118 << 7).astype(np.uint16), Spec.of("BF16", 140)
        at, values = np.array([3, 139], np.uint32), np.array([1, 65535], np.uint16)
        section = CODECS["planes"].encode(x, spec, self.env, rest=7, sign=0)
        x[at] = values
        self.writer.add("patched", spec, altered(section, {"at": raw(at), "values": raw(values)}, patches=2), digest(x))

    def masks(self) -> None:
        mask = (PRUNED > 0).view(np.uint8)
        part = CODECS["gaps"].encode(mask, Spec.of("BOOL", 70), self.env, block=30)
        self.add("sparse", "F32", (7, 10), PRUNED, "sparse", mask=part)
        self.add("gaps", "BOOL", (7, 10), mask, "gaps", block=20)
        self.add("bitmap", "BOOL", (7, 10), mask, "bitmap", block=16)
        self.add("nm", "BOOL", (3, 6), np.tile([1, 0, 1, 0, 1, 1], 3), "nm")
        self.add("gs", "BOOL", (2, 8), np.tile([1, 0, 0, 1, 0, 1, 1, 0], 2), "gs")

    def seeds(self) -> None:
        for name, dtype in (("philox", "F16"), ("mt19937", "F32"), ("draw", "BOOL")):
            its, codec = Spec.of(dtype, 3, 7), CODECS[name]
            assert isinstance(codec, Fill)
            made = Section(name, codec.wire(**{key: value for key, value in codec.examples[-1].items() if key != "counts"}))
            self.add(name, dtype, its.shape, decode_all(made, its, self.env), name, **codec.examples[-1])

    def approximate(self) -> None:
        for name, dtype, codec, options in (
            ("uniform", "F16", "uniform", {"bits": 4, "per": "group", "group": 3}),
            ("trellis.floats", "BF16", "trellis", {"states": 4, "steps": "rows"}),
            ("nwc", "F32", "nwc", {"net": IDENTITY, "states": 4}),
            ("sum", "BF16", "sum", {"layers": [{"codec": "uniform", "bits": 2}, None]}),
            ("lowrank", "F32", "lowrank", {"rank": 2}),
            ("tensortrain", "F32", "tensortrain", {"bond": 2, "sites": 2}),
            ("product.and.rest", "F32", "sum", {"layers": [{"codec": "lowrank", "rank": 1}, {"codec": "uniform", "bits": 2}]}),
        ):
            spec = Spec.of(dtype, 4, 5)
            x = finite(1, spec)
            section = CODECS[codec].encode(x, spec, self.env, **options)
            if exact(section, self.env):
                self.writer.add(name, spec, section, digest(decode_all(section, spec, self.env)))
            else:
                self.writer.add(name, spec, section, parts_digest(section, spec, self.env), digest(x), tolerant=True)


@cache
def everything() -> bytes:
    """Return the bytes of the file."""
    return Everything().buffer.getvalue()
