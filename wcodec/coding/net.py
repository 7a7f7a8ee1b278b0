"""Integer networks of one chunk: bytes, checks, and the arithmetic in integers and in exact float32 (spec/net.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.errors import Corrupt
from wcodec.types import U8

I8: TypeAlias = npt.NDArray[np.int8]
I32: TypeAlias = npt.NDArray[np.int32]
I64: TypeAlias = npt.NDArray[np.int64]
F32: TypeAlias = npt.NDArray[np.float32]
Numbers: TypeAlias = npt.NDArray[Any]

CHUNK = 16
"""Weights that a net takes and gives."""
WIDEST = 1024
EXACT = 1 << 24
"""Integers below are float32 numbers: every sum of a net stays below, in any order of its terms."""
FINAL = 1 << 23
"""What a net adds stays below, so that the sum with its latent does as well."""
MOST_SHIFT = 6
"""Fraction bits of an output."""
LATENT = 1 << 17
"""Latents are below."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """weights · x + bias. weights: int8 [outputs, inputs], at least −127. bias: int32 [outputs]."""

    weights: I8
    bias: I32


@dataclass(frozen=True, slots=True, eq=False)
class Requantise:
    """⌊(x + 2^(shift − 1)) / 2^shift⌋, cut off at −low and high; low = 0 is a ReLU. shifts: uint8 [width], 0 to 23; 0 keeps x."""

    low: int
    high: int
    shifts: U8


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """x · the factors of the level. factors: int8 [levels, width], at least −127."""

    factors: I8


@dataclass(frozen=True, slots=True, eq=False)
class Save:
    """Keep x for ``Residual``."""


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """x + what was kept last · 2^shift. shifts: uint8 [width], 0 to 16."""

    shifts: U8


Op: TypeAlias = Linear | Requantise | Gate | Save | Residual


@dataclass(frozen=True, eq=False)
class Net:
    """A network: latent · 2^shift + ops(latent, cut off at −clip and clip), for 16 latents at once.

    clip: 1 to 127. shift: 0 to 6. levels: sets of factors that every gate has, 1 to 255.
    """

    clip: int
    shift: int
    levels: int
    ops: tuple[Op, ...]

    @cached_property
    def data(self) -> U8:
        """The bytes. Raises Corrupt [NET-1 … NET-4]."""
        return pack(self)

    @property
    def products(self) -> int:
        """Multiplications of a chunk, those of gates and requantisations left out."""
        return sum(op.weights.size for op in self.ops if isinstance(op, Linear))

    def bounds(self) -> Iterator[I64]:
        """Yield, of the input and after every op, how large each number of x can get. Raises Corrupt [NET-1 … NET-4]."""
        if not (1 <= self.clip <= 127 and 0 <= self.shift <= MOST_SHIFT and 1 <= self.levels <= 255 and 1 <= len(self.ops) <= 255):
            raise Corrupt("a number in the head of a net is out of range", rule="NET-1")
        x, saved = np.full(CHUNK, self.clip, np.int64), None
        yield x
        for op in self.ops:
            if isinstance(op, Save):
                if saved is x:
                    raise Corrupt("a net keeps the same numbers twice", rule="NET-2")
                saved = x
            else:
                x = _bound(op, x, saved, self.levels)
            yield x
        if x.size != CHUNK:
            raise Corrupt(f"a net gives {x.size} numbers", rule="NET-2")
        if int(x.max()) >= FINAL:
            raise Corrupt("an output of a net can reach 2^23", rule="NET-4")

    def check(self) -> Net:
        """Return the net. Raises Corrupt [NET-1 … NET-4]."""
        for _ in self.bounds():
            pass
        return self


def _bound(op: Op, x: I64, saved: I64 | None, levels: int) -> I64:
    """Return the largest magnitudes after an op. Raises Corrupt [NET-1 … NET-4]."""
    if isinstance(op, Linear):
        outputs, inputs = op.weights.shape
        if inputs != x.size or not 1 <= outputs <= WIDEST or op.bias.shape != (outputs,):
            raise Corrupt(f"a linear op of {inputs} inputs and {outputs} outputs follows {x.size} numbers", rule="NET-2")
        if int(x.max()) > 127:
            raise Corrupt(f"an input of a linear op can reach {int(x.max())}", rule="NET-3")
        weights = np.abs(op.weights.astype(np.int64))
        _small(weights, "weight")
        return _exact(weights @ x + np.abs(op.bias.astype(np.int64)))
    if isinstance(op, Requantise):
        if not (0 <= op.low < 2**15 and 1 <= op.high < 2**15 and int(op.shifts.max(initial=0)) <= 23):
            raise Corrupt("a requantisation is out of range", rule="NET-1")
        shifts = _width(op.shifts, x.size).astype(np.int64)
        rounded = _exact(x + (1 << shifts >> 1)) >> shifts
        cut: I64 = np.minimum(rounded, max(op.low, op.high))
        return cut
    if isinstance(op, Gate):
        if op.factors.shape != (levels, x.size):
            raise Corrupt(f"a gate has {op.factors.shape} factors, not ({levels}, {x.size})", rule="NET-2")
        factors = np.abs(op.factors.astype(np.int64))
        _small(factors, "factor")
        return _exact(x * factors.max(0))
    assert isinstance(op, Residual)
    if saved is None or saved.size != x.size:
        raise Corrupt("a net adds what it has not kept", rule="NET-2")
    if int(op.shifts.max(initial=0)) > 16:
        raise Corrupt("a shift of a residual is above 16", rule="NET-1")
    return _exact(x + (saved << _width(op.shifts, x.size).astype(np.int64)))


def _small(magnitudes: I64, what: str) -> None:
    if int(magnitudes.max(initial=0)) > 127:
        raise Corrupt(f"a {what} of a net is -128", rule="NET-1")


def _width(shifts: U8, width: int) -> U8:
    if shifts.shape != (width,):
        raise Corrupt(f"{shifts.size} shifts for {width} numbers", rule="NET-2")
    return shifts


def _exact(bound: I64) -> I64:
    if int(bound.max()) >= EXACT:
        raise Corrupt("a sum of a net can reach 2^24", rule="NET-4")
    return bound


def run(net: Net, latents: Numbers, levels: int | U8) -> Numbers:
    """Return the outputs of all chunks, [bands, 16, columns], in the arithmetic of the latents' dtype: int64 or float32, both exact.

    latents: integers below 2^17 in magnitude. levels: of all columns, or of each; below ``net.levels``.
    """
    kind: Any = latents.dtype.type
    x, saved = np.clip(latents, kind(-net.clip), kind(net.clip)), latents
    for op in net.ops:
        if isinstance(op, Linear):
            x = np.matmul(op.weights.astype(kind), x) + op.bias.astype(kind)[:, None]
        elif isinstance(op, Requantise):
            x = np.clip(_halved(x, op.shifts[:, None]), kind(-op.low), kind(op.high))
        elif isinstance(op, Gate):
            x = x * (op.factors[levels][:, None] if isinstance(levels, int) else op.factors[levels].T).astype(kind)
        elif isinstance(op, Save):
            saved = x
        else:
            x = x + saved * (1 << op.shifts.astype(np.int64))[:, None].astype(kind)
    found: Numbers = latents * kind(1 << net.shift) + x
    return found


def _halved(x: Numbers, shifts: U8) -> Numbers:
    """Return ⌊(x + 2^(shift − 1)) / 2^shift⌋."""
    half = 1 << shifts.astype(np.int64) >> 1
    if x.dtype.kind == "i":
        whole: I64 = (x + half) >> shifts
        return whole
    found: F32 = np.floor((x + half.astype(np.float32)) * np.ldexp(np.float32(1), -shifts.astype(np.int32)))
    return found


CODES: dict[type, int] = {Linear: 1, Requantise: 2, Gate: 3, Save: 4, Residual: 5}


def pack(net: Net) -> U8:
    """Return the bytes of a net. Raises Corrupt [NET-1 … NET-4]."""
    net.check()
    found = bytearray(struct.pack("<4B", net.clip, net.shift, net.levels, len(net.ops)))
    for op in net.ops:
        found.append(CODES[type(op)])
        if isinstance(op, Linear):
            found += struct.pack("<H", len(op.weights)) + op.weights.tobytes() + op.bias.astype("<i4").tobytes()
        elif isinstance(op, Requantise):
            found += struct.pack("<2H", op.low, op.high) + op.shifts.tobytes()
        elif isinstance(op, Gate):
            found += op.factors.tobytes()
        elif isinstance(op, Residual):
            found += op.shifts.tobytes()
    return np.frombuffer(bytes(found), np.uint8)


class _Reader:
    """Bytes taken from the front. Raises Corrupt [NET-1] when there are too few."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def array(self, kind: str, *shape: int) -> Numbers:
        its, count = np.dtype(kind), int(np.prod(shape))
        if self.at + count * its.itemsize > len(self.data):
            raise Corrupt("a net ends within an op", rule="NET-1")
        found = np.frombuffer(self.data, its, count, self.at).reshape(shape)
        self.at += count * its.itemsize
        return found

    def numbers(self, kind: str, count: int) -> list[int]:
        found: list[int] = self.array(kind, count).tolist()
        return found


def parse(data: U8) -> Net:
    """Read a net from its bytes. Raises Corrupt [NET-1 … NET-4]."""
    source, width, ops = _Reader(data.tobytes()), CHUNK, list[Op]()
    clip, shift, levels, count = source.numbers("<u1", 4)
    for _ in range(count):
        op = _read(source, width, levels)
        width = len(op.weights) if isinstance(op, Linear) else width
        ops.append(op)
    if source.at != len(source.data):
        raise Corrupt(f"{len(source.data) - source.at} bytes after the last op of a net", rule="NET-1")
    return Net(clip, shift, levels, tuple(ops)).check()


def _read(source: _Reader, width: int, levels: int) -> Op:
    (code,) = source.numbers("<u1", 1)
    if code == CODES[Linear]:
        (outputs,) = source.numbers("<u2", 1)
        if not 1 <= outputs <= WIDEST:
            raise Corrupt(f"a linear op of {outputs} outputs", rule="NET-2")
        return Linear(source.array("<i1", outputs, width), source.array("<i4", outputs))
    if code == CODES[Requantise]:
        low, high = source.numbers("<u2", 2)
        return Requantise(low, high, source.array("<u1", width))
    if code == CODES[Gate]:
        return Gate(source.array("<i1", levels, width))
    if code == CODES[Save]:
        return Save()
    if code == CODES[Residual]:
        return Residual(source.array("<u1", width))
    raise Corrupt(f"a net has an op {code}", rule="NET-1")
