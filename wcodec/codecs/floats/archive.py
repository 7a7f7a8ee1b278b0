"""Smaller lossless floats, more slowly: exponents by tables of the scales of their rows and columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env, decode_all, find, stored_size
from wcodec.codecs.integers.rans import matrix, wire
from wcodec.coding.sampling import UNIT, entropy
from wcodec.types import U8, Section, Spec

BLOCK = 1 << 17
"""Symbols of a block: half the bytes of the default, half the parallelism."""
TABLES = 16
"""Tables at most: 16 of 12 bits are what the format allows at once (spec/entropy.md, E-8)."""
CLASSES = 64
"""Classes of rows, and of columns, at most: their product is bounded (spec/codecs/rans.md, RANS-1)."""
TABLE = 12
"""Bits that a table takes for each of its tokens, about."""
WIDTHS = (1.0, 2.0, 4.0)
"""Widths of classes that are tried, in symbols: an exponent with two bits of mantissa has four to the octave."""
SLAB = 1 << 22
"""Symbols that are looked at together."""

Counts = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


def archive(section: Section, spec: Spec, env: Env) -> Section:
    """Encode the floats of a lossless section once more, by classes of rows and columns where that is smaller.

    section: as ``lossless`` makes it; all its parts are looked at. Exact: the same array comes back.
    """
    expected = find(section, env).parts(section, spec)
    parts = dict(section.parts)
    for name, part in section.parts.items():
        its = expected.get(name)
        if isinstance(part, Section) and isinstance(its, Spec):
            exponents = section.codec == "planes" and name == "symbol" and part.codec == "rans"
            parts[name] = _by_classes(part, its, env.host) if exponents else archive(part, its, env)
    return section if all(parts[name] is part for name, part in section.parts.items()) else replace(section, parts=parts, memo={})


def _by_classes(plain: Section, spec: Spec, env: Env) -> Section:
    """Encode symbols by classes of their matrix's rows and columns; as they are where that is not smaller."""
    rows, cols = matrix(spec)
    its = wire(plain, spec)
    if rows < 2 or cols < 2 or its.kind != "none" or not its.order.block or its.alphabet.bits or its.alphabet.escape >= 0:
        return plain
    symbols = decode_all(plain, spec, env)
    tokens = its.alphabet.split(symbols)[0].reshape(rows, cols)
    of_rows, of_columns = _scales(tokens, its.alphabet.zero)
    found = [_classes(tokens, of_rows / width, of_columns / width) for width in WIDTHS]
    bits, classes = min(found, key=lambda pair: pair[0])
    if bits >= 8 * stored_size(plain):
        return plain
    block = min(BLOCK, 2 * its.order.block)
    better = env.codecs["rans"].encode(symbols, spec, env, classes=classes, alphabet=its.alphabet, block=block)
    return min(plain, better, key=stored_size)


def _slabs(tokens: U8) -> Iterator[slice]:
    step = max(1, SLAB // tokens.shape[1])
    return (slice(at, at + step) for at in range(0, tokens.shape[0], step))


def _scales(tokens: U8, zero: bool) -> tuple[F64, F64]:
    """Return the mean symbol of every row, and of every column beside it: exponents, so means of logarithms. zero: token 0 has none."""
    least = 1 if zero else 0
    rows, counts = np.zeros((2, tokens.shape[0]))
    columns, weights = np.zeros((2, tokens.shape[1]))
    for at in _slabs(tokens):
        used = tokens[at] >= least
        counts[at] = used.sum(1)
        rows[at] = tokens[at].sum(1, dtype=np.int64) / np.maximum(counts[at], 1)
        columns += ((tokens[at] - rows[at, None]) * used).sum(0)
        weights += used.sum(0)
    return rows, columns / np.maximum(weights, 1)


def _classes(tokens: U8, rows: F64, columns: F64) -> tuple[float, tuple[U8, U8, U8]]:
    """Return the bits that the tokens take, about, and (map, rows, columns) of classes one unit of scale wide."""
    of_rows, of_columns = _numbered(rows), _numbered(columns)
    sums = int(of_rows.max()) + int(of_columns.max()) + 1
    counts = np.zeros((sums, 256), np.int64)
    for at in _slabs(tokens):
        places = (of_rows[at, None] + of_columns).astype(np.int32) << 8
        counts += np.bincount((places | tokens[at]).reshape(-1), minlength=sums << 8).reshape(sums, 256)
    bits, table = _merged(counts)
    bits += sum(entropy(np.bincount(its)) / UNIT for its in (of_rows, of_columns))
    grid = np.add.outer(np.arange(of_rows.max() + 1), np.arange(of_columns.max() + 1))
    return bits, (table[grid], of_rows.astype(np.uint8), of_columns.astype(np.uint8))


def _numbered(scales: F64) -> Counts:
    """Return numbers of classes of scales, from 0 on; those far outside belong to the last ones."""
    found = np.rint(scales).astype(np.int64)
    low, high = np.quantile(found, (0.002, 0.998)).astype(np.int64)
    numbers: Counts = np.clip(found, low, min(high, low + CLASSES - 1)) - low
    return numbers


def _merged(counts: Counts) -> tuple[float, U8]:
    """Merge neighbouring classes while that saves bits, and until there are few enough. Returns the bits, and every class's table."""
    groups = [[i] for i in range(len(counts))]
    rows = list(counts)
    costs = [_bits(row) for row in rows]
    together = [_bits(a + b) for a, b in pairwise(rows)]
    while len(rows) > 1:
        saved = [a + b - both for a, b, both in zip(costs, costs[1:], together, strict=False)]
        i = int(np.argmax(saved))
        if saved[i] < 0 and len(rows) <= TABLES:
            break
        rows[i : i + 2], groups[i : i + 2], costs[i : i + 2] = [rows[i] + rows[i + 1]], [groups[i] + groups[i + 1]], [together[i]]
        together[max(i - 1, 0) : i + 2] = [_bits(a + b) for a, b in pairwise(rows[max(i - 1, 0) : i + 2])]
    table = np.zeros(len(counts), np.uint8)
    for number, group in enumerate(groups):
        table[group] = number
    return float(sum(costs)), table


def _bits(counts: Counts) -> float:
    """Return the bits that symbols take with a table of their own, and the table."""
    return entropy(counts) / UNIT + TABLE * int((counts > 0).sum()) + 16
