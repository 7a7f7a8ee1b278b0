"""The lines of part `codecs`: each codec on one array of real weights, beside what a user would pick instead. Runs in a worker."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from benchmarks import layout
from benchmarks.side import timed
from wcodec.backends import get_backend
from wcodec.codecs import CODECS, Env, check, decode, decode_all
from wcodec.codecs.base import stored_size
from wcodec.coding.numbers import to_float32
from wcodec.recipes import read_recipe
from wcodec.types import Section, Spec, UInts

Call = Callable[[], Any]
ENCODES = 2
"""Repetitions of encoding, which takes seconds for some."""
BOOK = "codebook, gwk of 16"
TENTH = "sparse, 10% kept"
UNIFORM_FILL = "philox, uniform"
LINE = 64


@dataclass
class Rival:
    """What a user would pick instead: bytes, and how its values come back to an array."""

    name: str
    size: int
    decode: Call


@dataclass
class Line:
    """A codec, what it made, and the least seconds measured for each step."""

    name: str
    encode: Callable[[], Section]
    rival: Callable[[UInts, Section], Rival | None]
    seconds: dict[str, float] = field(default_factory=dict)

    def take(self, what: str, call: Call, clock: str) -> Any:
        """Run a step, and keep the least time."""
        timing, value = timed(call)
        self.seconds[what] = min(timing[clock], self.seconds.get(what, np.inf))
        return value


def weights(path: Path, suffix: str) -> tuple[Spec, UInts]:
    """Return all matrices whose name ends so, below each other."""
    file = layout.read(path)
    found = [tensor for tensor in file.tensors if tensor.name.endswith(suffix)]
    width = layout.WIDTH[found[0].dtype]
    parts = [np.fromfile(path, f"u{width}", tensor.size // width, offset=file.header + tensor.start) for tensor in found]
    return Spec.of(found[0].dtype, sum(tensor.shape[0] for tensor in found), found[0].shape[1]), np.concatenate(parts)


def aligned_like(x: UInts) -> UInts:
    """Return an array as large that begins with a cache line, as those do that files are decoded to."""
    room = np.empty(x.nbytes + LINE, np.uint8)
    return room[-room.ctypes.data % LINE :][: x.nbytes].view(x.dtype)


class Lines:
    """All lines for one array."""

    def __init__(self, path: Path, suffix: str) -> None:
        warnings.filterwarnings("error", message="wcodec runs on numpy")
        self.env = Env(get_backend(), CODECS)
        self.spec, self.x = weights(path, suffix)
        self.out = aligned_like(self.x)

    def recipe(self, text: str) -> Callable[[], Section]:
        """Return what encodes with a recipe."""

        def encode() -> Section:
            recipe, name = read_recipe(text), "weight"
            return recipe.encode(name, self.x, self.spec, self.env).section

        return encode

    def fill(self, codec: str, **options: Any) -> Callable[[], Section]:
        """Return what names random numbers."""
        return lambda: CODECS[codec].section(self.spec, **options)  # type: ignore[attr-defined]

    def all(self) -> list[Line]:
        """Return the lines."""
        eight = "{codec='uniform',bits=8}"
        lines = [
            Line("planes (lossless)", self.recipe("lossless"), self.zstd),
            Line("planes, archive (lossless)", self.recipe("archive"), self.zstd),
            Line("trellis, about 6 bits", self.recipe("trellis:relative=0.031"), self.int8),
            Line("trellis, about 4 bits", self.recipe("trellis:relative=0.125"), self.int8),
            Line("nwc, about 4 bits", self.recipe("nwc:relative=0.125,always=true"), self.int8),
            Line("uniform, 8 bits a row", self.recipe("uniform"), self.int8),
            Line("uniform, 4 bits a row", self.recipe("uniform:bits=4"), self.int8),
            Line(BOOK, self.recipe("gwk:values=16"), self.indices),
            Line("codebook, gwk of 256", self.recipe("gwk:values=256"), self.indices),
            Line("codebook, pq of 256 x 8", self.recipe("pq"), self.indices),
        ]
        lines += [Line(f"sparse, {keep:.0%} kept", self.recipe(f"pruned:keep={keep}"), self.csr) for keep in (0.5, 0.1, 0.02)]
        lines += [
            Line("sparse, 2 of 4", self.recipe("n:m"), self.csr),
            Line("sparse, gs of 16, 30% kept", self.recipe("gs:keep=0.3"), self.csr),
        ]
        lines += [
            Line("lowrank, 50% kept", self.recipe("lowrank:keep=0.5"), self.factors),
            Line("lowrank, 50% kept, 8 bits", self.recipe(f"lowrank:keep=0.5,left={eight},right={eight}"), self.factors),
            Line("tensortrain, 50% kept", self.recipe("mpo"), self.nothing),
            Line("sum, rank 8 and 4 bits", self.recipe("sum:layers=[{codec='lowrank',rank=8},{codec='uniform',bits=4}]"), self.nothing),
            Line(UNIFORM_FILL, self.fill("philox", seed=1, scale=0.05), self.numpy_philox),
            Line("philox, normal", self.fill("philox", seed=1, scale=0.02, kind="normal"), self.numpy_philox),
            Line("mt19937 (torch)", self.fill("mt19937", seed=1, offset=0, low=-0.05, high=0.05), self.nothing),
        ]
        return lines

    # What stands beside them. The arrays are decoded ones, as storage elements.

    def nothing(self, x: UInts, section: Section) -> Rival | None:
        return None

    def zstd(self, x: UInts, section: Section) -> Rival:
        packed = zstandard.ZstdCompressor(3).compress(x.data)
        return Rival("zstd -3", len(packed), lambda: zstandard.ZstdDecompressor().decompress(packed))

    def int8(self, x: UInts, section: Section) -> Rival:
        """8-bit integers times one float32 step a row, to float32."""
        values = to_float32(x, self.spec.dtype).reshape(self.spec.shape)
        steps = np.abs(values).max(1, keepdims=True) / np.float32(127)
        symbols = np.rint(values / np.maximum(steps, np.float32(1e-30))).astype(np.int8)
        out = np.empty(self.spec.shape, np.float32)
        return Rival("int8 and a step a row, numpy", symbols.nbytes + steps.nbytes, lambda: np.multiply(symbols, steps, out=out))

    def indices(self, x: UInts, section: Section) -> Rival:
        """8-bit indices through zstd, then the values they stand for."""
        width = int(section.params.get("width", 1))
        blocks = x.reshape(-1, width) if width > 1 else x
        book, index = np.unique(blocks, axis=0, return_inverse=True)
        packed = zstandard.ZstdCompressor(3).compress(index.reshape(-1).astype(np.uint8).data)
        out = np.empty_like(blocks)

        def back() -> None:
            found = np.frombuffer(zstandard.ZstdDecompressor().decompress(packed), np.uint8)
            np.take(book, found, axis=0, out=out, mode="clip")

        return Rival("8-bit indices, zstd -3, take", len(packed) + book.nbytes, back)

    def csr(self, x: UInts, section: Section) -> Rival:
        """Compressed sparse rows of 16-bit columns, as scipy makes them dense."""
        dense = x.reshape(self.spec.shape)
        row, column = np.nonzero(dense)
        values, column = dense[row, column], column.astype(np.uint16)
        starts = np.searchsorted(row, np.arange(len(dense) + 1)).astype(np.uint32)
        out = np.empty_like(dense)

        def back() -> None:
            out.fill(0)
            out[np.repeat(np.arange(len(dense)), np.diff(starts)), column] = values

        return Rival("CSR, numpy", values.nbytes + column.nbytes + starts.nbytes, back)

    def factors(self, x: UInts, section: Section) -> Rival:
        """Float32 factors, multiplied by BLAS."""
        left = np.ones((self.spec.shape[0], section.params["rank"]), np.float32)
        right = np.ones((section.params["rank"], self.spec.shape[1]), np.float32)
        out = np.empty(self.spec.shape, np.float32)
        size = (left.size + right.size) * self.spec.dtype.storage.itemsize
        return Rival("factors as they are, BLAS", size, lambda: np.matmul(left, right, out=out))

    def numpy_philox(self, x: UInts, section: Section) -> Rival:
        generator, out = np.random.Generator(np.random.Philox(1)), np.empty(x.size, np.float32)
        draw = generator.standard_normal if section.params["kind"] == "normal" else generator.random
        return Rival("numpy's Philox", 0, lambda: draw(dtype=np.float32, out=out))


def plain_rans(lines: Lines, x: UInts) -> Call:
    """Return what decodes 8-bit indices of an array's values by rANS and nothing else."""
    _, index = np.unique(x, return_inverse=True)
    spec, out = Spec.of("U8", x.size), np.empty(x.size, np.uint8)
    section = CODECS["rans"].encode(index.astype(np.uint8), spec, lines.env)
    check(section, spec, lines.env)
    return partial(decode, section, spec, lines.env, 0, x.size, out)


def relative(a: UInts, b: UInts, spec: Spec) -> float:
    """Return the error of b, relative to a, root mean squares both."""
    a, b = to_float32(a, spec.dtype).astype(np.float64), to_float32(b, spec.dtype)
    return float(np.sqrt(((a - b) ** 2).sum() / (a**2).sum()))


def measure(path: Path, suffix: str, repetitions: int, cpu: bool) -> dict[str, Any]:
    """Return a row for each line, and the rates of plain rANS and of memcpy (to arrays as large), all in weights per second."""
    lines, clock = Lines(path, suffix), "cpu" if cpu else "seconds"
    spec, env, out = lines.spec, lines.env, lines.out
    found, sections, rivals = lines.all(), {}, {}
    for line in found:
        for _ in range(ENCODES):
            sections[line.name] = line.take("encode", line.encode, clock)
        check(sections[line.name], spec, env)
        rivals[line.name] = line.rival(decode_all(sections[line.name], spec, env), sections[line.name])
    rans = plain_rans(lines, decode_all(sections[BOOK], spec, env))
    copied, beside = np.empty_like(out), Line("beside", found[0].encode, lines.nothing)
    for _ in range(repetitions):
        beside.take("rans", rans, clock)
        beside.take("memcpy", lambda: np.copyto(copied, out), clock)
        for line in found:
            line.take("decode", partial(decode, sections[line.name], spec, env, 0, spec.count, out), clock)
            if (rival := rivals[line.name]) is not None:
                line.take("rival", rival.decode, clock)
    rows = [row(line, sections[line.name], rivals[line.name], lines) for line in found]
    return {"shape": list(spec.shape), "rows": rows} | {what: spec.count / least for what, least in beside.seconds.items()}


def row(line: Line, section: Section, rival: Rival | None, lines: Lines) -> dict[str, Any]:
    """Return what was measured of a line; a codec without parts holds a seed, and neither error nor encoding mean anything."""
    spec, count, seed = lines.spec, lines.x.size, not section.parts
    return {
        "name": line.name,
        "bits": 8 * stored_size(section) / count,
        "error": None if seed else relative(lines.x, decode_all(section, spec, lines.env), spec),
        "encode": None if seed else count / line.seconds["encode"],
        "decode": count / line.seconds["decode"],
        "rival": None if rival is None else rival.name,
        "rival bits": None if rival is None else 8 * rival.size / count,
        "rival decode": None if rival is None else count / line.seconds["rival"],
    }
