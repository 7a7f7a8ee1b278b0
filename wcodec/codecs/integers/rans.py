"""rans: entropy-coded unsigned integers (spec/codecs/rans.md, spec/entropy.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from wcodec.codecs import base
from wcodec.codecs.base import Codec, Env, Expected, StreamOf, stream_of
from wcodec.codecs.integers.bitpack import GROUP, packed
from wcodec.codecs.integers.rans_encoder import add_alphabet, alphabet_of, context_of, encode_tokens, order_of
from wcodec.codecs.params import blob, flag, uint, uints
from wcodec.coding.rans import LOW, Context, Job, Order
from wcodec.coding.tokens import NONE, Alphabet, Beside
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import U8, U32, U64, MemoryStream, Section, Spec, UInts

WIDEST_TABLE = 514
PARAMS = (
    "precision", "lanes", "block", "tile", "base", "zero", "bits", "escape", "outliers", "trellis", "classes", "map", "table_size",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wire:
    """The params of a section, checked against its spec."""

    order: Order
    precision: int
    alphabet: Alphabet
    kind: Literal["none", "trellis", "classes"]
    trellis: int
    classes: tuple[int, int]
    tables: int
    table_size: int | None
    outliers: int


@dataclass(frozen=True, slots=True)
class Head:
    """What decoding any window needs, on the host.

    Look-up, initial states, first words of blocks, byte where words begin, escapes before blocks.
    """

    job: Job
    lut: U32
    states: U32
    offsets: U32
    words_at: int
    escapes: U32 | None


def matrix(spec: Spec) -> tuple[int, int]:
    """Return rows and columns of the section's matrix."""
    rows = spec.storage_shape[0] if len(spec.storage_shape) > 1 else 1
    return rows, spec.count // rows if rows else 0


def wire(section: Section, spec: Spec) -> Wire:
    """Check the params, once. Raises Corrupt [RANS-1, E-8]."""
    found = section.memo.get("wire")
    if found is None:
        found = section.memo["wire"] = _read_wire(section, spec)
    assert isinstance(found, Wire)
    return found


def _read_wire(section: Section, spec: Spec) -> Wire:
    p, rule = section.params, "RANS-1"
    if spec.dtype.name not in ("U8", "U16", "U32"):
        raise Corrupt(f"rans decodes to U8, U16 or U32, not {spec.dtype.name}", rule=rule)
    precision, lanes = uint(p, "precision", 8, 12, rule), uint(p, "lanes", 0, 5, rule, default=5)
    if lanes not in (0, 2, 5) or ("tile" in p) == ("block" in p):
        raise Corrupt("params 'lanes', 'block' and 'tile' exclude each other", rule=rule)
    cols = matrix(spec)[1]
    if "block" in p:
        order = Order(spec.count, cols, 1 << lanes, block=128 * uint(p, "block", 1, 1024, rule))
    else:
        high, wide = uints(p, "tile", 1, 2**17, rule, range(2, 3))
        if wide % (4 << lanes) or high * wide > 2**17:
            raise Corrupt(f"tile {high} × {wide} with {1 << lanes} lanes", rule=rule)
        order = Order(spec.count, cols, 1 << lanes, tile=(high, wide))
    trellis = uint(p, "trellis", 2, 8, rule) if "trellis" in p else 0
    classes, tables = _classes(section) if "classes" in p else ((0, 0), 1)
    if trellis and "classes" in p and (classes[1] > 1 or not order.tile[0]):
        raise Corrupt("with a trellis, classes are those of rows, in tiled order", rule=rule)
    tables *= 2 if trellis else 1
    if ("escape" in p) != ("outliers" in p) or ("map" in p) != ("classes" in p):
        raise Corrupt("'escape' goes with 'outliers', 'map' with 'classes'", rule=rule)
    escape = uint(p, "escape", 0, 255, rule, default=0) if "escape" in p else -1
    if trellis and escape > 0 and escape % 2:
        raise Corrupt("an escape of a trellis must be even", rule=rule)
    if tables << precision > 2**16:
        raise Corrupt(f"{tables} tables of {precision} bits", rule="E-8")
    bits = uint(p, "bits", 1, 16, rule) if "bits" in p else 0
    alphabet = Alphabet(bits, uint(p, "base", 0, 2**32 - 1, rule, default=0), flag(p, "zero", rule), escape, bool(trellis))
    size = uint(p, "table_size", 0, 2**32 - 1, rule) if "table_size" in p else None
    outliers = uint(p, "outliers", 0, 2**32 - 1, rule, default=0)
    kind: Literal["none", "trellis", "classes"] = "trellis" if trellis else "classes" if "classes" in p else "none"
    return Wire(order, precision, alphabet, kind, trellis, classes, tables, size, outliers)


def _classes(section: Section) -> tuple[tuple[int, int], int]:
    rows, columns = uints(section.params, "classes", 1, 256, "RANS-1", range(2, 3))
    if rows * columns > 4096:
        raise Corrupt(f"{rows} × {columns} classes", rule="RANS-1")
    return (rows, columns), 1 + max(blob(section.params, "map", rows * columns, "RANS-1"))


class Rans(Codec):
    """Stores integers as tokens of a static table.

    Options: precision (12), lanes (log2; by count), block (symbols), tile, bits (raw low bits), trellis (v), classes (map, rows, columns),
    tables (a Tables and the part that holds it, shared by several sections), alphabet (an Alphabet: what tokens stand for).
    """

    name = "rans"
    params = frozenset(PARAMS)
    host_encode = ""
    host_rare = "U16 and U32, raw bits, contexts and tiles"
    options = frozenset({"precision", "lanes", "block", "tile", "bits", "trellis", "classes", "tables", "alphabet"})
    examples = (
        {},
        {"precision": 8, "lanes": 0},
        {"precision": 10, "lanes": 2, "bits": 3, "block": 256},
        {"trellis": 3, "tile": (4, 128)},
        {"trellis": 5, "bits": 2},
        {"classes": "halves"},
    )

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name in ("U8", "U16", "U32")

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        w, (rows, cols) = wire(section, spec), matrix(spec)
        found: dict[str, Expected] = {"data": StreamOf()}
        if w.table_size is not None:
            found["tables"] = Spec.of("U8", w.table_size)
        if w.alphabet.bits:
            found["rest"] = Spec.of("U8" if w.alphabet.bits <= 8 else "U16", spec.count)
        if w.alphabet.escape >= 0:
            found["outliers"], found["counts"] = Spec.of("U32", w.outliers), Spec.of("U32", w.order.blocks)
        if w.classes[0] > 1:
            found["rows"] = Spec.of("U8", rows)
        if w.classes[1] > 1:
            found["columns"] = Spec.of("U8", cols)
        return found

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return max(1, wire(section, spec).order.unit)

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        w = wire(section, spec)
        first, last = start // w.order.unit, -(-stop // w.order.unit)
        begin, end = first * w.order.unit, min(last * w.order.unit, spec.count)
        with ExitStack() as stack:
            storage = spec.dtype.storage
            whole = out if (begin, end) == (start, stop) else stack.enter_context(env.borrow(end - begin, storage))
            if w.alphabet.plain and storage.itemsize == 1:
                self._tokens(section, spec, env, first, last, whole)
            else:
                found = stack.enter_context(env.borrow(end - begin, np.dtype(np.uint8)))
                self._tokens(section, spec, env, first, last, found)
                self._join(section, w, env, (first, last, begin, end), found, whole)
            if whole is not out:
                env.backend.copy(whole[start - begin : stop - begin], out)

    def _tokens(self, section: Section, spec: Spec, env: Env, first: int, last: int, out: U8) -> None:
        with self.window(section, spec, env, first, last) as found:
            env.backend.rans_decode(*found, out)

    def _join(self, section: Section, w: Wire, env: Env, at: tuple[int, int, int, int], found: U8, out: UInts) -> None:
        """Turn the tokens of units first … last − 1 into values: raw bits, escapes, base."""
        first, last, begin, end = at
        with ExitStack() as stack:
            raw, values = None, env.backend.empty(0, np.dtype(np.uint32))
            if w.alphabet.bits:
                its = Spec.of("U8" if w.alphabet.bits <= 8 else "U16", w.order.count)
                raw = stack.enter_context(base.decoded(section.parts["rest"], its, env, begin, end))
            if w.alphabet.escape >= 0:
                values, counts = self._outliers(section, w, env, first, last)
                values = env.backend.order_outliers(w.alphabet, w.order.window(first, last), counts, found, values)
            env.backend.join_tokens(w.alphabet, found, raw, values, out)

    def _outliers(self, section: Section, w: Wire, env: Env, first: int, last: int) -> tuple[U32, U32]:
        """Return the escaped values of a window, block after block, and how many each has."""
        before = section.memo["head"].escapes
        low, high = first * w.order.blocks_per_unit, last * w.order.blocks_per_unit
        values = env.backend.empty(int(before[high]) - int(before[low]), np.dtype(np.uint32))
        base.decode(section.parts["outliers"], Spec.of("U32", w.outliers), env, int(before[low]), int(before[high]), values)
        return values, before[low + 1 : high + 1] - before[low:high]

    @contextmanager
    def beside(self, section: Section, spec: Spec, env: Env, first: int, last: int) -> Iterator[Beside]:
        """Lend what stands beside the tokens of units first … last − 1 that ``window`` has lent."""
        w = wire(section, spec)
        begin, end = first * w.order.unit, min(last * w.order.unit, spec.count)
        raw: UInts | None = None
        tight = False
        with ExitStack() as stack:
            if w.alphabet.bits:
                part, its = section.parts["rest"], Spec.of("U8" if w.alphabet.bits <= 8 else "U16", w.order.count)
                if (
                    isinstance(part, Section)
                    and part.codec == "bitpack"
                    and part.params == {"bits": w.alphabet.bits}
                    and begin % GROUP == 0
                ):
                    raw, tight = stack.enter_context(packed(part, its, env, begin, end)), True
                else:
                    raw = stack.enter_context(base.decoded(part, its, env, begin, end))
            outliers, counts = self._outliers(section, w, env, first, last) if w.alphabet.escape >= 0 else (NONE, NONE)
            yield Beside(w.alphabet, spec.dtype.storage.itemsize, raw, tight, outliers, counts)

    @contextmanager
    def window(self, section: Section, spec: Spec, env: Env, first: int, last: int) -> Iterator[tuple[Job, U32, U32, U32, U8]]:
        """Lend job, look-up, states, offsets and words of units first … last − 1.

        What every window needs is read and checked once. Raises Corrupt [E-1 … E-5, RANS-2, RANS-3].
        """
        w, stream = wire(section, spec), stream_of(section, "data")
        head: Head | None = section.memo.get("head")
        if head is None and first == 0 and last == w.order.units:
            with stream.read(0, stream.size) as data:  # once for both
                head = section.memo["head"] = _read_head(section, spec, env.host, w, data)
                yield head.job, head.lut, head.states, head.offsets, env.backend.from_host(data[head.words_at :])
            return
        if head is None:
            with stream.read(0, min(stream.size, _start_size(w))) as data:
                head = section.memo["head"] = _read_head(section, spec, env.host, w, data)
        job, states, offsets, (low, high) = _cut(head, first, last)
        with env.bytes(stream, low, high) as words:
            yield job, head.lut, states, offsets, words

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        if not self.suits(spec):
            raise EncodeError(f"rans takes U8, U16 and U32, not {spec.dtype.name}")
        if spec.dtype.name != "U8" or options.keys() & {"bits", "trellis", "classes", "tile", "alphabet"}:
            x, env = env.backend.to_host(x), env.host
        rows, cols = matrix(spec)
        order = order_of(spec.count, cols, options)
        context, parts = context_of(rows, cols, env, options)
        bits, trellis = options.get("bits", 0), options.get("trellis", 0)
        alphabet = options.get("alphabet") or (
            Alphabet(bits, trellis=bool(trellis)) if spec.dtype.name == "U8" else alphabet_of(x, bits, bool(trellis))
        )
        params: dict[str, Any] = {"precision": options.get("precision", 12)}
        params |= {"lanes": order.lanes.bit_length() - 1} if order.lanes != 32 else {}
        params |= {"block": order.block // 128} if order.block else {"tile": list(order.tile)}
        if alphabet in (Alphabet(), Alphabet(trellis=True)) and spec.dtype.name == "U8":
            symbols = x
        else:
            symbols, raw, outliers, escaped = alphabet.split(x)
            add_alphabet(params, parts, alphabet, order, env, raw, outliers, escaped)
        if trellis:
            params["trellis"] = trellis
        if context.map is not None:
            params |= {"classes": list(context.map.shape), "map": context.map.tobytes()}
        tables, shared = options.get("tables", (None, None))
        data, tables = encode_tokens(order, context, params["precision"], symbols, env, tables, shared is not None)
        if shared is not None:
            params["table_size"], parts["tables"] = len(env.backend.pack_tables(tables)), shared
        parts["data"] = MemoryStream(data)
        return Section("rans", params, parts)

    def encode_symbols(self, symbols: U8, spec: Spec, env: Env, counts: U64, base_: int, zero: bool) -> Section:
        """Encode tokens that are counted already and stand for token + base, or for 0 (what planes makes)."""
        order = order_of(spec.count, matrix(spec)[1], {})
        params: dict[str, Any] = {"precision": 12, "block": order.block // 128}
        params |= {"lanes": order.lanes.bit_length() - 1} if order.lanes != 32 else {}
        params |= ({"base": base_} if base_ else {}) | ({"zero": True} if zero else {})
        counts = counts.reshape(1, 256)
        data, _ = encode_tokens(order, Context(), 12, symbols, env, env.backend.fit_tables(counts, 12), counts=counts)
        return Section("rans", params, {"data": MemoryStream(data)})


def _cut(head: Head, first: int, last: int) -> tuple[Job, U32, U32, tuple[int, int]]:
    """Return job, states, offsets and byte range of the words of units first … last − 1."""
    order = head.job.order
    if first == 0 and last == order.units:
        return head.job, head.states, head.offsets, (head.words_at, head.words_at + 2 * int(head.offsets[-1]))
    low, high = first * order.blocks_per_unit, last * order.blocks_per_unit
    offsets = head.offsets[low : high + 1] - head.offsets[low]
    job = Job(order.window(first, last), head.job.context, head.job.tables, first * order.unit)
    at = head.words_at + 2 * int(head.offsets[low])
    return job, head.states[low:high], offsets, (at, at + 2 * int(offsets[-1]))


def _start_size(w: Wire) -> int:
    """Return the most bytes that can stand before the words."""
    return 4 * max(w.order.blocks - 1, 0) + 4 * w.order.blocks * w.order.lanes + (WIDEST_TABLE * w.tables if w.table_size is None else 0)


def _read_head(section: Section, spec: Spec, env: Env, w: Wire, data: U8) -> Head:
    """Read what stands before the words, on the host; data: the first bytes of the stream, or all."""
    size, blocks = stream_of(section, "data").size, w.order.blocks
    fixed = 4 * max(blocks - 1, 0) + 4 * blocks * w.order.lanes
    start = data[: _start_size(w)].copy()  # lengths and tables are checked in private memory
    if w.table_size is None:
        tables, used, lut = env.backend.read_tables(start[: WIDEST_TABLE * w.tables], w.tables, w.precision)
    else:
        shared = base.decode_all(section.parts["tables"], Spec.of("U8", w.table_size), env)
        tables, used, lut = env.backend.read_tables(shared, w.tables, w.precision)
        if used != shared.size:
            raise Corrupt(f"{shared.size} bytes of entropy tables, {used} used", rule="E-1")
        used = 0
    words_at = used + fixed
    if words_at > size or (size - words_at) % 2 or (size - words_at) // 2 >= 2**32:
        raise Corrupt(f"entropy stream of {size} bytes, {words_at} before its words", rule="E-3")
    numbers = np.frombuffer(start, np.uint32, fixed // 4, used) if fixed else np.empty(0, np.uint32)
    offsets = np.zeros(blocks + 1, np.uint32)
    offsets[1:-1], offsets[-1] = numbers[: max(blocks - 1, 0)], (size - words_at) // 2
    states = numbers[max(blocks - 1, 0) :].reshape(blocks, w.order.lanes).copy()
    per_block = offsets[1:] - offsets[:-1]  # too many words where they decrease, or else their sum is
    if (per_block > w.order.sizes()).any() or int(per_block.sum(dtype=np.uint64)) != offsets[-1]:
        raise Corrupt("word offsets of blocks decrease or leave a block more words than symbols", rule="E-4")
    if states.min(initial=LOW) < LOW:
        raise Corrupt("an initial state is below 2^16", rule="E-5")
    job = Job(w.order, _read_context(section, spec, env, w), tables)
    escapes = None
    if w.alphabet.escape >= 0:
        counts = base.decode_all(section.parts["counts"], Spec.of("U32", blocks), env)
        total = np.concatenate(([0], np.cumsum(counts, dtype=np.uint64)))
        if int(total[-1]) != w.outliers:
            raise Corrupt(f"escapes of the blocks sum to {int(total[-1])}, not {w.outliers}", rule="RANS-3")
        escapes = total.astype(np.uint32)
    return Head(job, lut, states, offsets, words_at, escapes)


def _read_context(section: Section, spec: Spec, env: Env, w: Wire) -> Context:
    if not w.classes[0]:
        return Context(w.kind, w.trellis)
    rows, columns = None, None
    lengths = matrix(spec)
    if w.classes[0] > 1:
        rows = _class_part(section, "rows", lengths[0], w.classes[0], env)
    if w.classes[1] > 1:
        columns = _class_part(section, "columns", lengths[1], w.classes[1], env)
    return Context(w.kind, w.trellis, np.frombuffer(section.params["map"], np.uint8).reshape(w.classes), rows, columns)


def _class_part(section: Section, name: str, count: int, classes: int, env: Env) -> U8:
    found: U8 = base.decode_all(section.parts[name], Spec.of("U8", count), env)
    if found.size and int(found.max()) >= classes:
        raise Corrupt(f"a class of {name} is not below {classes}", rule="RANS-2")
    return found
