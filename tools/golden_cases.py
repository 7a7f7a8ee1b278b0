"""The golden cases: files that every later version must decode, and what each must decode to. Written by make_fixtures.py."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import blake3
import numpy as np
from damage import changed

import wcodec
from wcodec.api.outcome import parts_digest
from wcodec.backends import get_backend
from wcodec.codecs import CODECS, Env, check
from wcodec.codecs.base import exact
from wcodec.codecs.lossless import lossless
from wcodec.codecs.random.fills import Fill
from wcodec.coding.tables import Tables
from wcodec.container.safetensors import canonical_header
from wcodec.container.writer import ContainerWriter
from wcodec.types import DTYPES, MemoryStream, Ref, Section, Spec

ENV = Env(get_backend("numpy"), CODECS)
GOOD: dict[str, tuple[str, Callable[[], tuple[bytes, bytes]]]] = {}


def good(name: str, about: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def keep(make: Callable[[], Any]) -> Callable[[], Any]:
        GOOD[name] = (about, make)
        return make

    return keep


class Builder:
    """A file and the safetensors file that it must decode to, which is made from the tensors and not by decoding."""

    def __init__(self, metadata: dict[str, str] | None = None, seed: int = 0, **options: Any) -> None:
        self.buffer, self.metadata, self.items = io.BytesIO(), metadata, []
        self.writer = ContainerWriter(self.buffer, metadata=metadata, **options)
        self.rng = np.random.default_rng(seed)

    def add(self, name: str, dtype: str, shape: tuple[int, ...], x: Any, section: Section | None = None, **options: Any) -> int:
        """Add a tensor: with a ready section, with the codec and options given, or as the recipe encodes it."""
        spec = Spec.of(dtype, *shape)
        x = np.ascontiguousarray(x).reshape(-1)
        x = x.view(spec.dtype.storage) if x.nbytes == spec.size and x.dtype.kind in "iu" else x.astype(spec.dtype.storage)
        assert x.size == spec.count, name
        if section is None:
            codec = options.pop("codec", None)
            inner = {"codec": options.pop("inner")} if "inner" in options else {}
            section = CODECS[codec].encode(x, spec, ENV, **options, **inner) if codec else lossless(x, spec, ENV)
        self.items.append((name, spec, x.tobytes()))
        digest = blake3.blake3(x.tobytes()).digest()
        env = ENV.within(self.writer.written_resource)
        if exact(section, env):
            return self.writer.add(name, spec, section, digest)
        check(section, spec, env)
        return self.writer.add(name, spec, section, parts_digest(section, spec, env), digest, tolerant=True)

    def alias(self, name: str, index: int, tied: bool) -> None:
        self.items.append((name, *self.items[index][1:]))
        self.writer.add_alias(name, index, tied)

    def done(self) -> tuple[bytes, bytes]:
        self.writer.close()
        header = canonical_header([(name, spec) for name, spec, _ in self.items], self.metadata)
        return self.buffer.getvalue(), header + b"".join(data for _, _, data in self.items)

    # contents

    def noise(self, size: int) -> Any:
        return self.rng.integers(0, 256, size, np.uint8)

    def geometric(self, count: int, dtype: str = "U8", p: float = 0.2, most: int = 200) -> Any:
        return np.minimum(self.rng.geometric(p, count) - 1, most).astype(DTYPES[dtype].storage)

    def weights(self, dtype: str, *shape: int) -> Any:
        """Seeded weights: Gaussian, with a scale of its own per row."""
        x = self.rng.standard_normal(shape) * 0.03 * np.exp(self.rng.standard_normal((shape[0], 1)) * 0.3)
        kinds = {"F64": (np.float64, 0), "F32": (np.float32, 0), "F16": (np.float16, 0), "BF16": (np.float32, 16)}
        kind, drop = kinds[dtype]
        bits = np.ascontiguousarray(x.astype(kind)).reshape(-1).view(f"u{np.dtype(kind).itemsize}")
        return (bits >> np.uint8(drop)).astype(DTYPES[dtype].storage) if drop else bits


def raw(x: Any) -> Section:
    """An array stored as it is."""
    return Section("raw", {}, {"data": MemoryStream(np.ascontiguousarray(x).reshape(-1).view(np.uint8))})


def resource(b: Builder, dtype: str, x: Any, codec: str = "raw") -> Ref:
    spec = Spec.of(dtype, x.size)
    return b.writer.add_resource(spec, CODECS[codec].encode(x, spec, ENV))


def _example(codec: str, options: Mapping[str, Any], seed: int) -> tuple[bytes, bytes]:
    b = Builder(seed=seed)
    options = {("inner" if key == "codec" else key): value for key, value in options.items()} | {"codec": codec}
    for dtype, shape in (("U8", (30, 50)), ("U16", (700,)), ("U32", (9, 4, 20)), ("BF16", (40, 33)), ("F32", (600,)), ("C64", (3, 90))):
        spec = Spec.of(dtype, *shape)
        if CODECS[codec].suits(spec):
            x = np.full(spec.count, 77, spec.dtype.storage) if codec == "const" else b.geometric(spec.count, dtype, 0.1)
            b.add(dtype.lower(), dtype, shape, x, **dict(options))
    return b.done()


for _name, _codec in CODECS.items():
    for _i, _options in enumerate(_codec.examples if _codec.lossless and not isinstance(_codec, Fill) else ()):  # others: own files
        _about = f"codec {_name} with {_options or 'no options'}"
        GOOD[f"{_name}-{_i}"] = (_about, lambda c=_name, o=_options, i=_i: _example(c, o, i))


@good("dtypes", "every dtype, as the lossless recipe encodes random bits, weights and small integers")
def _() -> Any:
    b = Builder()
    for dtype in DTYPES:
        spec = Spec.of(dtype, 8, 80)
        b.add(f"{dtype}.noise", dtype, (8, 16), b.noise(Spec.of(dtype, 8, 16).size))
        b.add(f"{dtype}.small", dtype, spec.shape, b.geometric(spec.count, dtype, 0.3))
        b.add(f"{dtype}.constant", dtype, (5, 8), np.full(Spec.of(dtype, 5, 8).count, 3, spec.dtype.storage))
    return b.done()


@good("specials", "zeros of both signs, infinities, NaNs with payloads, subnormals of every float")
def _() -> Any:
    b = Builder()
    for dtype, kind in DTYPES.items():
        if kind.mantissa and kind.bits >= 8:
            bits = 8 * kind.storage.itemsize
            sign, low = 1 << (bits - 1), (1 << kind.mantissa) - 1
            top = (sign - 1) & ~low
            picks = [0, sign, top, top | sign, top | 1, top | low, sign | top | low // 2, 1, sign | 1, low, 2 * sign - 1]
            x = np.array(picks, np.uint64).astype(kind.storage)
            b.add(dtype, dtype, (22 if dtype == "C64" else 44, 13), np.resize(x, 572))
    return b.done()


@good("weights", "rows of a model's matrices in BF16, F16 and F32")
def _() -> Any:
    b = Builder({"format": "pt"})
    for i, dtype in enumerate(("BF16", "F16", "F32")):
        shape = (64, 96) if dtype == "F32" else (64, 128)
        b.add(f"layers.{i}.weight", dtype, shape, b.weights(dtype, *shape))
    return b.done()


@good("rans-lanes", "1, 4 and 32 lanes, with counts around every edge of blocks and steps")
def _() -> Any:
    b = Builder()
    for lanes in (0, 2, 5):
        for count in (0, 1, 3, 4, 5, 127, 128, 129, 257, 600):
            b.add(f"{lanes}.{count}", "U8", (count,), b.geometric(count), codec="rans", lanes=lanes, block=128)
    return b.done()


@good("rans-precision", "tables of every precision: one token, two, and all 256")
def _() -> Any:
    b = Builder()
    for p in range(8, 13):
        b.add(f"{p}.one", "U8", (300,), np.full(300, 255 if p % 2 else 0), codec="rans", precision=p)
        b.add(f"{p}.two", "U8", (300,), np.arange(300) % 97 == 0, codec="rans", precision=p)
        every = np.arange(1500) % 256 if p > 8 else np.arange(1500) % 250
        b.add(f"{p}.all", "U8", (1500,), every.astype(np.uint8), codec="rans", precision=p)
    return b.done()


@good("rans-contexts", "classes of rows, of columns and of both, and every trellis; tables that nothing uses")
def _() -> Any:
    b = Builder()
    rows, columns = np.arange(21) % 3, np.arange(130) // 50
    for name, table in {"both": [[0, 1, 2], [2, 1, 0], [1, 5, 4]], "rows": [[1], [0], [2]], "columns": [[3, 0, 7]], "one": [[2]]}.items():
        its = (np.array(table, np.uint8), rows, columns)
        b.add(f"classes.{name}", "U8", (21, 130), b.geometric(2730), codec="rans", classes=its, precision=10)
    for v in range(2, 9):
        b.add(f"trellis.{v}", "U8", (5, 131), b.geometric(655), codec="rans", trellis=v, precision=9)
        b.add(f"trellis.{v}.wide", "U16", (5, 131), b.geometric(655, "U16", 0.01, 900), codec="rans", trellis=v, bits=2, tile=(2, 128))
    return b.done()


@good("rans-orders", "linear blocks and tiles, whole, cut off at the edges and larger than the matrix")
def _() -> Any:
    b = Builder()
    for shape in ((7, 150), (1050,), (2, 3, 175), ()):
        count = int(np.prod(shape))
        for i, order in enumerate(({"block": 128}, {"block": 2**17}, {"tile": (1, 128)}, {"tile": (3, 256)}, {"tile": (1024, 128)})):
            b.add(f"{len(shape)}.{i}", "U8", shape, b.geometric(count), codec="rans", lanes=2, **order)
    for i, context in enumerate(({"trellis": 4}, {"classes": "halves"})):
        b.add(f"tiled.context.{i}", "U8", (11, 260), b.geometric(2860), codec="rans", lanes=5, tile=(4, 128), **context)
    return b.done()


@good("rans-alphabets", "base, zero, escapes and 1 to 16 raw bits, with and without a trellis")
def _() -> Any:
    b = Builder()
    for bits in (0, 1, 3, 8, 9, 16):
        for trellis in ({}, {"trellis": 3}):
            shift = bits + len(trellis)
            near = 3000 + b.geometric(600, "U32", 0.1, 90)
            high = np.where(b.rng.random(600) < 0.03, b.rng.integers(0, 2**13, 600), near)
            high[b.rng.random(600) < 0.2] = 0
            x = (high << shift | b.rng.integers(0, 1 << shift, 600)).astype(np.uint32)
            options = {"bits": bits} if bits else {}
            b.add(f"{bits}.{len(trellis)}", "U32", (10, 60), x, codec="rans", tile=(4, 128), **options, **trellis)
            b.add(f"{bits}.{len(trellis)}.linear", "U32", (10, 60), x, codec="rans", block=256, **options, **trellis)
    wrap = CODECS["rans"].encode(np.arange(200, dtype=np.uint8), Spec.of("U8", 200), ENV)
    b.add("base.wraps", "U8", (200,), (np.arange(200) + 100).astype(np.uint8), Section("rans", {**wrap.params, "base": 100}, wrap.parts))
    return b.done()


@good("rans-shared", "tables that several tensors take from a resource, one of them inside planes")
def _() -> Any:
    b = Builder()
    x = [b.geometric(900) for _ in range(3)]
    counts = np.maximum(sum(np.bincount(y, minlength=256) for y in x), 1).astype(np.uint64)
    tables = Tables.fit(counts.reshape(1, -1), 11)
    ref = resource(b, "U8", np.frombuffer(tables.pack(), np.uint8))
    for i, y in enumerate(x[:2]):
        b.add(str(i), "U8", (30, 30), y, codec="rans", precision=11, tables=(tables, ref))
    symbol = CODECS["rans"].encode(x[2], Spec.of("U8", 900), ENV, precision=11, tables=(tables, ref))
    rest = b.noise(900)
    parts = {"symbol": symbol, "rest0": raw(rest)}
    b.add("planes", "U16", (900,), x[2].astype(np.uint16) << np.uint16(8) | rest, Section("planes", {"rest": 8}, parts))
    return b.done()


@good("planes-patches", "elements that are replaced, where the sign went, rest of 0 to 7 bits, in every width")
def _() -> Any:
    b = Builder()
    for dtype, bits in (("U8", 8), ("BF16", 16), ("F32", 32), ("F64", 64)):
        spec, unsigned = Spec.of(dtype, 50, 7), Spec.of(f"U{bits}", 5)
        at, values = np.array([0, 1, 100, 300, 349], np.uint32), np.arange(5, dtype=unsigned.dtype.storage) + 250
        for sign in range(3):
            for rest in sorted({max(0, bits - 16), bits - 8, bits - 7}):
                x = b.geometric(350, f"U{bits}", 0.05) << unsigned.dtype.storage.type(max(0, bits - 10))
                found = CODECS["planes"].encode(x, spec, ENV, rest=rest, sign=sign)
                assert "patches" not in found.params
                x[at] = values
                section = Section("planes", {**found.params, "patches": 5}, {**found.parts, "at": raw(at), "values": raw(values)})
                b.add(f"{dtype}.{sign}.{rest}", dtype, (50, 7), x, section)
    return b.done()


@good("aliases", "names that share data: tied to one storage, and equal by chance")
def _() -> Any:
    b = Builder()
    first = b.add("embed.weight", "BF16", (40, 32), b.weights("BF16", 40, 32))
    b.alias("head.weight", first, True)
    second = b.add("norm.weight", "F32", (700,), b.weights("F32", 700, 1))
    b.alias("norm2.weight", second, False)
    b.alias("lm.weight", first, False)
    return b.done()


for _name, _metadata in {
    "absent": None,
    "empty": {},
    "present": {"format": "pt", "": "empty key", "ключ": 'значение\n"\\\t\u0001\u007f ☃ 😀'},
}.items():
    GOOD[f"metadata-{_name}"] = (
        f"metadata {_name}",
        lambda m=_metadata: (b := Builder(m), b.add("é.😀", "I16", (3,), np.arange(3, dtype="<i2")), b.done())[-1],
    )


def _encoded(source: bytes) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.safetensors"
        path.write_bytes(source)
        wcodec.encode(path, threads=1, kernels="numpy")
        return path.with_suffix(".wcodec").read_bytes(), source


@good("source-header", "a source whose header is not the canonical one: white space, other order, escapes, unknown keys, null metadata")
def _() -> Any:
    entry = '"{}" : {{"shape":[{}], "data_offsets":[{},{}],\n "dtype":"U8", "more": [1.5, {{"x": null}}]}}'
    text = "{" + ",\n".join((entry.format("b\\u0041", 300, 3, 303), '"__metadata__":null', entry.format("a\\/", 3, 0, 3))) + "}  \n "
    data = np.random.default_rng(0).integers(0, 9, 303, np.uint8).tobytes()
    return _encoded(len(text.encode()).to_bytes(8, "little") + text.encode() + data)


@good("encoded", "what encode itself writes, with the encoder's version in it")
def _() -> Any:
    b = Builder({"a": "b"})
    b.add("w", "BF16", (50, 50), b.weights("BF16", 50, 50))
    b.add("i", "I64", (60,), np.arange(60, dtype=np.int64))
    return _encoded(b.done()[1])


@good("inline", "streams inside of records at, below and above the cap of 256 bytes; a file without tensors below")
def _() -> Any:
    b = Builder()
    for size in (0, 1, 255, 256, 257):
        b.add(str(size), "U8", (size,), b.noise(size), codec="raw")
    return b.done()


@good("none", "no tensors at all")
def _() -> Any:
    return Builder().done()


@good("empty", "tensors of no elements and of no dimensions")
def _() -> Any:
    b = Builder()
    for i, shape in enumerate(((), (0,), (0, 5), (5, 0), (0, 2**40), (1,) * 64, (0, 0, 0))):
        for dtype in ("U8", "BF16", "C64"):
            count = Spec.of(dtype, *shape).count
            b.add(f"{dtype}.{i}", dtype, shape, b.geometric(count, dtype))
            if len(shape) < 64:
                b.add(f"{dtype}.{i}.planes", dtype, shape, b.geometric(count, dtype), codec="planes")
    b.add("bitpack", "U32", (0, 3), [], codec="bitpack")
    b.add("rans", "U32", (0, 3), [], codec="rans", classes="halves", bits=3)
    b.add("rans.tiled", "U8", (3, 0), [], codec="rans", trellis=2, tile=(1, 128))
    b.add("concat", "F32", (0, 3), [], codec="concat", inner="raw")
    return b.done()


@good("nested", "concat of planes of rans, and resources that refer to resources, down to the eighth level")
def _() -> Any:
    b = Builder()
    x = b.weights("BF16", 30, 60)
    b.add("concat", "BF16", (30, 60), x, codec="concat", lengths=[1, 9, 0, 20], encode=CODECS["planes"].encode)
    spec = Spec.of("U8", 300)
    y = b.geometric(300)
    ref = b.writer.add_resource(spec, CODECS["rans"].encode(y, spec, ENV))
    for _ in range(5):
        ref = b.writer.add_resource(spec, Section("concat", {"lengths": [300]}, {"0": ref}))
    b.add("shared", "U8", (600,), np.tile(y, 2), Section("concat", {"lengths": [300, 300]}, {"0": ref, "1": ref}))
    deep = raw(y)
    for _ in range(7):
        deep = Section("concat", {"lengths": [300]}, {"0": deep})
    b.add("deep", "U8", (300,), y, deep)
    return b.done()


@good("later-keys", "keys of later versions that are not required, required keys that are known, voids, a higher minor version")
def _() -> Any:
    b = Builder()
    b.add("a", "U8", (300,), b.noise(300))
    b.add("b", "U8", (300,), b.geometric(300), codec="bitpack")
    data, source = b.done()

    def change(p: Any) -> None:
        p.fields |= {"later": [1, {"x": b"y"}], "requires": ["extents", "voids"]}
        p.record("a").update(later="x", requires=["digest"])
        p.record("b")["section"].update(requires=["params"], later=True)
        p.record("b")["section"]["params"].update(requires=["bits"], later=7)
        at = 64 + sum(-(-len(stream) // 64) * 64 for stream in p.streams)
        p.streams.append(b"an old manifest")
        extents = p.manifest()["extents"]
        p.final = {"extents": extents[:-16], "voids": extents[-16:], "checksums": p.manifest()["checksums"][:-8]}
        p.trailer["minor"] = 9
        assert extents[-16:] == at.to_bytes(8, "little") + (15).to_bytes(8, "little")

    return changed(data, change), source
