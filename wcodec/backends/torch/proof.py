"""A quick proof that a device computes what numpy does, before it decodes anything for real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from wcodec.backends.base import Backend
from wcodec.backends.numpy.planes import Planes, Symbols
from wcodec.backends.torch.backend import TorchBackend
from wcodec.coding.net import Gate, Linear, Net, Requantise, Residual, Save
from wcodec.coding.rans import Context, Job, Order
from wcodec.coding.tables import Tables
from wcodec.coding.tokens import Alphabet
from wcodec.coding.trellis import Lattice
from wcodec.coding.uniform import Grid
from wcodec.types import DTYPES, DType

COUNT = 3000
WIDE, HIGH = 11, 272
"""Columns and rows of the latents of a net, of at most COUNT."""
Put = Callable[[Any], Any]
Case = Callable[[Any, Put, Any], None]


def prove(backend: TorchBackend) -> str | None:
    """Run small vectors through the verbs that decode, beside numpy and as batches; return the name of the first that differs or fails."""
    oracle = Backend()
    for name, dtype, case in cases():
        want, out = np.zeros(COUNT, dtype), backend.empty(COUNT, np.dtype(dtype))
        case(oracle, lambda x: x, want)
        try:
            out.zero_()
            with backend.batch() as batch, batch.tape(name):
                case(backend, backend.from_host, out)
            found = backend.to_host(out)
        except Exception as error:  # whatever a driver or compiler may raise
            return f"{name} fails: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        if found.tobytes() != want.tobytes():
            return f"{name} gives other bits than numpy"
    return None


def _encoded(kind: str) -> tuple[Any, ...]:
    """Return job, look-up, states, offsets and words of COUNT tokens below 16."""
    tokens = np.minimum(np.random.default_rng(1).geometric(0.3, COUNT), 15).astype(np.uint8)
    order = Order(COUNT, 100, 32, tile=(8, 128)) if kind == "trellis" else Order(COUNT, 100, 32, block=1024)
    context = Context("trellis", trellis=3) if kind == "trellis" else Context()
    if kind == "classes":
        context = Context("classes", map=np.array([[0, 1]], np.uint8), columns=np.arange(100, dtype=np.uint8) % 2)
    oracle, counts = Backend(), np.zeros((context.tables, 256), np.uint16)
    tables = Tables.fit(oracle.rans_histogram(Job(order, context, Tables(12, counts)), tokens), 12)
    job, words = Job(order, context, tables), np.empty(2 * COUNT, np.uint8)
    states, sizes, used = oracle.rans_encode(job, tokens, words)
    return job, tables.lut(), states, np.append(0, np.cumsum(sizes)).astype(np.uint32), words[:used]


def _net(rng: np.random.Generator, hidden: int) -> Net:
    """Return a net; with 1024 hidden numbers, sums come close to what float32 holds exactly: products of fewer bits show."""

    def weights(*shape: int) -> Any:
        return rng.integers(-127, 128, shape).astype(np.int8)

    one, all_of = np.ones(16, np.int32), np.full(hidden, 5, np.uint8)
    many = (Linear(weights(hidden, 16), rng.integers(-999, 999, hidden).astype(np.int32)), Requantise(0, 127, all_of))
    few = (Linear(weights(16, hidden), one), Requantise(32767, 32767, all_of[:16]), Residual(all_of[:16]))
    return Net(127, 6, 3, (Save(), *many, *few, Gate(weights(3, 16)), Requantise(32767, 32767, all_of[:16]))).check()


def cases() -> Iterator[tuple[str, str, Case]]:
    """Yield the name of a verb, the dtype of what it writes, and a call of it."""
    rng = np.random.default_rng(0)
    data, half = rng.integers(0, 256, 4 * COUNT, np.uint8), rng.integers(0, 2**16, COUNT, np.uint16)
    some = np.flatnonzero(data[:COUNT] > 127).astype(np.uint32)
    floats = rng.standard_normal(COUNT).astype(np.float32).view(np.uint32)

    latents = rng.integers(-200, 200, WIDE * HIGH).astype(np.float32).view(np.uint32)
    scales = np.exp2(rng.standard_normal(200)).astype(np.float32)
    levels = rng.integers(0, 3, WIDE).astype(np.uint8)

    def token(kind: str) -> Case:
        *head, words = _encoded(kind)
        return lambda b, put, out: b.rans_decode(*head, put(words), out)

    def joined(b: Any, put: Put, out: Any) -> None:
        *head, words = _encoded("none")
        b.rans_join(*head, put(words), Symbols(100, True), Planes(16, 8, 1), [put(data[:COUNT])], out)

    def along(b: Any, put: Put, out: Any) -> None:
        *head, words = _encoded("trellis")
        order, alphabet, its = head[0].order, Alphabet(3, 1000, False, 6, True), np.empty(COUNT, np.uint8)
        oracle: Any = Backend()
        oracle.rans_decode(*head, words, its)
        counts = np.bincount(order.places(np.flatnonzero(alphabet.escapes(its)))[0], minlength=order.blocks).astype(np.uint32)
        found, symbols = b.empty(COUNT, np.dtype(np.uint8)), b.empty(COUNT, np.dtype(np.uint16))
        b.rans_decode(*head, put(words), found)
        escaped = b.order_outliers(alphabet, order, counts, found, put(np.arange(int(counts.sum()), dtype=np.uint32)))
        b.join_tokens(alphabet, found, put(data[:COUNT]), escaped, symbols)
        b.trellis_dequantise(order, 0, symbols, Lattice(3, 8000, scales[:1]), DTYPES["BF16"], out)

    def through(net: Net) -> Case:
        return lambda b, put, out: b.run_net(net, b.floats(put(latents)), WIDE, levels, b.floats(out)[: latents.size])

    def gathered(b: Any, put: Put, out: Any) -> None:
        *head, words = _encoded("none")
        b.rans_gather(*head, put(words), put(half[:16]), 1, out)

    def gaps(b: Any, put: Put, out: Any) -> None:
        b.copy(b.place_gaps(put(data[:COUNT] % 7), np.full(30, 100, np.uint32), 1000, 30_000), out)

    def kept(b: Any, put: Put, out: Any) -> None:
        b.copy(b.byte_positions(put(data[:COUNT] // 128), some.size), out[: some.size])

    def tokens(b: Any, put: Put, out: Any) -> None:
        raw, escaped = put(data[:COUNT] % 8), put(np.arange(int((data[:COUNT] == 255).sum()), dtype=np.uint32) + 2**20)
        b.join_tokens(Alphabet(3, 1000, True, 255), put(data[:COUNT]), raw, escaped, out)

    def dequantised(b: Any, put: Put, out: Any) -> None:
        b.dequantise(Grid(100, 100, 1), 0, put(data[:COUNT]), b.floats(put(floats[:30])), 100, 256, DTYPES["BF16"], out)

    def summed(b: Any, put: Put, out: Any) -> None:
        b.fill(out, 0)
        b.add_floats(b.floats(out), b.floats(put(floats)))
        b.add_floats(b.floats(out), b.floats(put(floats[::-1].copy())))

    def tiny(b: Any, put: Put, out: Any) -> None:
        b.fill(out, 1)
        b.add_floats(b.floats(out), b.floats(put(half.astype(np.uint32))))

    def scaled(b: Any, put: Put, out: Any) -> None:
        b.scale(b.floats(put(floats)), 70, 100, Lattice(0, 0, scales[:40], scales[-100:]), DTYPES["BF16"], out)

    for kind in ("none", "classes", "trellis"):
        yield f"rans_decode ({kind})", "u1", token(kind)
    yield "trellis with raw bits and escapes", "u2", along
    yield "rans_join", "u2", joined
    yield "rans_gather", "u2", gathered
    yield "unpack_bits", "u2", lambda b, put, out: b.unpack_bits(put(data), 11, 5, out)
    for sign in range(3):
        yield "join_planes", "u2", _joined(Planes(16, 7, sign), half % 512, data[:COUNT] % 128)
    yield "join_tokens", "u4", tokens
    yield "gather", "u2", lambda b, put, out: b.gather(put(half[:256]), 1, put(data[:COUNT]), out)
    yield "place_gaps", "u4", gaps
    yield "byte_positions", "u4", kept
    yield "scatter", "u2", lambda b, put, out: b.scatter(put(some), put(half[: some.size]), out, True)
    for code, name in (("u4", "F32"), ("u2", "BF16")):
        yield f"philox_fill ({name})", code, _drawn(DTYPES[name])
    yield "philox_draw", "u1", lambda b, put, out: b.philox_draw(1, 2, 3, 2**31, 5, out)
    yield "dequantise", "u2", dequantised
    yield "add_floats", "u4", summed
    yield "add_floats (subnormal)", "u4", tiny
    for hidden in (60, 1024):
        yield f"run_net ({hidden} numbers)", "u4", through(_net(rng, hidden))
    yield "scale", "u2", scaled
    for dtype in ("F16", "BF16"):
        yield "round_floats", "u2", _rounded(floats, DTYPES[dtype])


def _joined(split: Planes, symbols: Any, rest: Any) -> Case:
    return lambda b, put, out: b.join_planes(split, put(symbols), [put(rest)], out)


def _drawn(dtype: DType) -> Case:
    return lambda b, put, out: b.philox_fill(1, 2, 3, "normal", 0.1, 0.9, 5, dtype, out)


def _rounded(floats: Any, dtype: DType) -> Case:
    return lambda b, put, out: b.round_floats(b.floats(put(floats)), dtype, out)
