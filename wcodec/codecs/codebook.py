"""codebook: centroids, and the index of one for every element or run of elements (spec/codecs/codebook.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import lcm, prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from wcodec.codecs import base
from wcodec.codecs.base import Codec, Env, Expected
from wcodec.codecs.integers.rans import Rans, wire
from wcodec.codecs.lossless import Config, encode_part
from wcodec.codecs.params import uint
from wcodec.coding.histogram import F32, F64, Points, assign, importance_of, summarise, weights_of
from wcodec.coding.kmeans import cluster, cluster_blocks
from wcodec.coding.numbers import from_float32
from wcodec.errors import Corrupt, EncodeError, RecipeError
from wcodec.types import DTYPES, Part, Ref, Resource, Section, Spec, UInts

LARGEST = 1 << 16
"""Centroids of the largest codebook, and elements of the widest one's entries."""
RULE = "CODEBOOK-1"
EXTREME = 2.0**60
"""Weights above, or all below its inverse, are not for sums of float32 squares."""


@dataclass(frozen=True, slots=True)
class Book:
    """What the params say. count: centroids. width: elements of each. rows, cols: of the matrix, in storage elements.

    entry: storage elements of a centroid. per_row: blocks of a row.
    """

    count: int
    width: int
    rows: int
    cols: int
    entry: int
    per_row: int
    centroids: Spec
    indices: Spec


def book_of(params: Mapping[str, Any], spec: Spec) -> Book:
    """Check the params. Raises Corrupt [CODEBOOK-1]."""
    if spec.dtype.bits < 8:
        raise Corrupt(f"codebook cannot hold {spec.dtype.name}", rule=RULE)
    rows = spec.shape[0] if len(spec.shape) > 1 else 1
    grain = 2 if spec.dtype.name == "C64" else 1
    cols = spec.count // rows if rows else 0
    count = uint(params, "centroids", 1, LARGEST, RULE)
    width = uint(params, "width", 2, min(LARGEST, cols // grain), RULE) if "width" in params else 1
    per_row = -(-cols // (grain * width))
    indices = Spec(DTYPES["U8" if count <= 256 else "U16"], spec.shape if width == 1 else (rows, per_row))
    centroids = Spec(spec.dtype, (count,) if width == 1 else (count, width))
    return Book(count, width, rows, cols, grain * width, per_row, centroids, indices)


class Codebook(Codec):
    """Stores arrays of few distinct values, or of few distinct runs of values along their rows.

    Options: width (1, at most that of a row), book (centroids, an array of storage elements or a Resource; all distinct blocks by
    default), assigned (the index of every block; by default of the centroid with the same bits), centroids and indices (how these parts
    are encoded). values: instead of a book, approximate by this many centroids, at most; with the options of ``Means``.
    """

    name = "codebook"
    params = frozenset({"centroids", "width"})
    options = frozenset({"width", "book", "assigned", "centroids", "indices", "values", "rate", "half", "seed", "importance"})
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"width": 3}, {"indices": {"codec": "rans"}})

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.bits >= 8

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        book = book_of(section.params, spec)
        return {"centroids": book.centroids, "indices": book.indices}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        book = book_of(section.params, spec)
        blocks = base.unit(section.parts["indices"], book.indices, env)
        if book.rows < 2 or book.cols % book.entry == 0:
            return min(blocks * book.entry, max(1, spec.count))
        return min(lcm(blocks, book.per_row) // book.per_row * book.cols, spec.count)

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        book = book_of(section.params, spec)
        for begin, end in _spans(book, start, stop):
            _decode_span(section, book, env, begin, end, out[begin - start : end - start])
        if not spec.count:  # nothing to look up, but something to check
            _look_up(section, book, env, 0, 0, out)

    def encode(
        self,
        x: UInts,
        spec: Spec,
        env: Env,
        width: int = 1,
        book: UInts | Resource | None = None,
        assigned: UInts | None = None,
        centroids: Config | None = None,
        indices: Config | None = None,
        values: int | None = None,
        **options: Any,
    ) -> Section:
        if not self.suits(spec):
            raise EncodeError(f"codebook cannot hold {spec}")
        width = fitting(width, spec)
        if values is not None and x.size:
            book, assigned = means_of(values, options).of(x, spec, width)
        params = {"width": width} if width > 1 else {}
        its = book_of({"centroids": 1, **params}, spec)
        entries = base.decode_all(book, book.spec, env) if isinstance(book, Resource) else book
        if assigned is None:
            entries, assigned = _assign(blocks_of(x, spec, width), entries)
        assert entries is not None, "indices without centroids"
        its = book_of({"centroids": entries.size // its.entry, **params}, spec)
        assigned = assigned.astype(its.indices.dtype.storage, copy=False)
        part = book if isinstance(book, Resource) else encode_part(entries, its.centroids, env, centroids)
        parts: dict[str, Part] = {"centroids": part, "indices": _encode_indices(assigned, its.indices, env, indices)}
        return Section("codebook", {"centroids": its.count, **params}, parts)


def fitting(width: int, spec: Spec) -> int:
    """Return the width, or what the rows of an array allow of it."""
    rows = spec.shape[0] if len(spec.shape) > 1 else 1
    return max(1, min(width, LARGEST, prod(spec.shape) // max(rows, 1)))


def blocks_of(x: UInts, spec: Spec, width: int) -> UInts:
    """Return the blocks of an array, [blocks, storage elements of each]; cut off ones are filled up with zeros."""
    book = book_of({"centroids": 1} | ({"width": width} if width > 1 else {}), spec)
    if book.cols % book.entry == 0:
        return x.reshape(-1, book.entry)
    whole = np.zeros((book.rows, book.per_row * book.entry), x.dtype)
    whole[:, : book.cols] = x.reshape(book.rows, book.cols)
    return whole.reshape(-1, book.entry)


@dataclass(frozen=True, slots=True)
class Means:
    """Centroids by k-means.

    values: their number, at most. rate: what a bit of an index counts, in shares of the mean square (width 1 only).
    half: round centroids to F16 values, which take half the bytes (wider ones only). importance: of every element's error.
    """

    values: int
    rate: float = 0.0
    half: bool = False
    seed: int = 0
    importance: F32 | None = None

    def of(self, x: UInts, spec: Spec, width: int) -> tuple[UInts, UInts]:
        """Return centroids, flat, and the index of every block. Raises EncodeError for what are not finite floats."""
        weights, importance = weights_of(x, spec), importance_of(self.importance, spec.count)
        if width > 1:
            return self._of_blocks(weights, spec, width, importance)
        points = summarise(weights, importance)
        return rounded(weights, spec, points, *cluster(points, self.values, self.rate))

    def _of_blocks(self, weights: F32, spec: Spec, width: int, importance: F32 | None) -> tuple[UInts, UInts]:
        largest = float(np.abs(weights).max())
        if not (largest == 0 or 1 / EXTREME < largest < EXTREME):
            raise EncodeError("the square of the largest weight is no number")
        f32 = Spec.of("F32", *spec.shape)
        blocks = blocks_of(weights.view(np.uint32), f32, width).view(np.float32)
        mass = np.ones(len(blocks), np.float32)
        if importance is not None:
            # One importance per block: weights of their own overfit (tools/results/codebook.md).
            mass = blocks_of(importance.view(np.uint32), f32, width).view(np.float32).mean(1)
        centroids, index = cluster_blocks(blocks, mass, self.values, self.seed)
        if self.half and spec.dtype.bits > 16:
            centroids = np.clip(centroids, -65504, 65504).astype(np.float16).astype(np.float32)
        return from_float32(centroids.reshape(-1), spec.dtype), index.astype(np.uint16)


def means_of(values: int, options: Mapping[str, Any]) -> Means:
    """Read options. Raises RecipeError."""
    try:
        found = Means(values, **options)
        if not 1 <= found.values <= LARGEST or not 0 <= found.rate < 1:
            raise RecipeError(f"codebook: values is 1 to {LARGEST}, rate is at least 0 and below 1")
    except TypeError as error:
        raise RecipeError(f"codebook: {error}") from None
    return found


def rounded(weights: F32, spec: Spec, points: Points, centroids: F64, index: npt.NDArray[np.intp]) -> tuple[UInts, UInts]:
    """Return the centroids in use among those that points were given, and the index of every weight's one."""
    used, index = np.unique(index, return_inverse=True)
    return from_float32(centroids[used].astype(np.float32), spec.dtype), assign(weights, points, index)


def _assign(blocks: UInts, book: UInts | None) -> tuple[UInts, UInts]:
    """Return centroids, flat, and the index of every block: among those given, or among all distinct blocks. Raises EncodeError."""
    width = blocks.shape[1]
    found, inverse = np.unique(blocks.reshape(-1) if width == 1 or not len(blocks) else blocks, axis=0, return_inverse=True)
    found = found.reshape(-1, width)
    if book is None:
        book, place = found if len(found) else np.zeros((1, width), blocks.dtype), np.arange(len(found))
    else:
        book = book.reshape(-1, width)
        known = {entry.tobytes(): i for i, entry in enumerate(book)}
        place = np.array([known.get(entry.tobytes(), -1) for entry in found], np.intp)
    if len(book) > LARGEST or (place < 0).any():
        raise EncodeError(f"{len(found)} distinct blocks do not fit into {min(len(book), LARGEST)} centroids")
    order: UInts = place.astype(np.uint8 if len(book) <= 256 else np.uint16)
    return book.reshape(-1), np.take(order, inverse.reshape(-1))


def _encode_indices(x: UInts, spec: Spec, env: Env, config: Config | None) -> Section:
    """Encode indices as asked, or in the fewest bytes: wide ones also as tokens with raw bits."""
    found = encode_part(x, spec, env, config)
    if config is not None or x.itemsize == 1 or not x.size:
        return found
    tokens = env.codecs["rans"].encode(x, spec, env, bits=max(1, int(x.max()).bit_length() - 8))
    return min(found, tokens, key=base.stored_size)


def _spans(book: Book, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut a window where rows of cut off blocks make that necessary: the rest of a row, whole rows, and the begin of one."""
    if book.rows < 2 or book.cols % book.entry == 0:
        if start < stop:
            yield start, stop
        return
    head = min(stop, -(-start // book.cols) * book.cols)
    tail = max(head, stop // book.cols * book.cols)
    for begin, end in pairwise((start, head, tail, stop)):
        if begin < end:
            yield begin, end


def _decode_span(section: Section, book: Book, env: Env, start: int, stop: int, out: UInts) -> None:
    """Decode elements of one row, of whole rows, or any of rows without cut off blocks."""
    if book.rows < 2 or book.cols % book.entry == 0:
        row, rows = 0, 0
    else:
        row, rows = start // book.cols, (stop - start) // book.cols
    low, high = start - row * book.cols, stop - row * book.cols
    if rows:
        first, last = row * book.per_row, (row + rows) * book.per_row
    else:
        first, last = row * book.per_row + low // book.entry, row * book.per_row - (-high // book.entry)
    if (last - first) * book.entry == len(out):
        return _look_up(section, book, env, first, last, out)
    with env.borrow((last - first) * book.entry, book.centroids.dtype.storage) as whole:
        _look_up(section, book, env, first, last, whole)
        if rows:
            env.backend.copy(whole.reshape(rows, -1)[:, : book.cols], out.reshape(rows, book.cols))
        else:
            env.backend.copy(whole[low % book.entry :][: len(out)], out)


def _look_up(section: Section, book: Book, env: Env, first: int, last: int, out: UInts) -> None:
    """Write the centroids of blocks first … last − 1. Raises Corrupt [CODEBOOK-2]."""
    part, centroids = section.parts["indices"], _centroids(section, book, env)
    unit = base.unit(part, book.indices, env)
    if isinstance(part, Section) and part.codec == "rans" and book.indices.dtype.name == "U8" and last > first:
        w = wire(part, book.indices)
        if w.kind == "none" and w.order.block and w.alphabet.plain and first % unit == 0 and (last % unit == 0 or last == w.order.count):
            return _join(part, book, env, first, last, centroids, out)
    step = max(unit, env.backend.piece // unit * unit)
    cuts = [first, *range((first // step + 1) * step, last, step), last]
    for begin, end in pairwise(cuts):
        # Never straight from stored bytes: a file that changes must not change an index after its check.
        with env.borrow(end - begin, book.indices.dtype.storage) as indices:
            base.decode(part, book.indices, env, begin, end, indices)
            env.backend.gather(centroids, book.entry, indices, out[(begin - first) * book.entry : (end - first) * book.entry])
    return None


def _join(part: Section, book: Book, env: Env, first: int, last: int, centroids: UInts, out: UInts) -> None:
    """Decode entropy-coded indices of whole units and look them up in one pass."""
    codec = env.codecs["rans"]
    assert isinstance(codec, Rans)
    unit = wire(part, book.indices).order.unit
    with codec.window(part, book.indices, env, first // unit, -(-last // unit)) as found:
        env.backend.rans_gather(*found, centroids, book.entry, out)


def _centroids(section: Section, book: Book, env: Env) -> UInts:
    """Decode the centroids once."""
    part = section.parts["centroids"]
    if isinstance(part, Ref | Resource):
        return env.shared(part, book.centroids)
    found: UInts | None = section.memo.get(("centroids", env.backend))
    if found is None:
        with env.backend.at_once():  # other windows will use them
            found = section.memo["centroids", env.backend] = base.decode_all(part, book.centroids, env)
    return found
