"""Sparse tensors as the arrays that sparse kernels take: CSR, BSR, gather-scatter, 2:4. numpy in, numpy out; bits are kept.

Matrices have the first dimension as rows and all others as columns. Values are storage elements, exactly those of the tensor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.codecs.base import Env, decode_all
from wcodec.codecs.masks.common import matrix
from wcodec.codecs.sparse import all_positions
from wcodec.errors import EncodeError
from wcodec.types import U8, Section, Spec, UInts

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CSR:
    """values [n], columns [n], indptr [rows + 1]: row i has entries indptr[i] … indptr[i + 1] − 1."""

    values: UInts
    columns: Index
    indptr: Index


@dataclass(frozen=True, slots=True)
class BSR:
    """values [n, height, width], columns [n] (of blocks), indptr [rows / height + 1]."""

    values: UInts
    columns: Index
    indptr: Index


@dataclass(frozen=True, slots=True)
class GatherScatter:
    """values [g, B], index [g, B] (columns, different modulo B), indptr [bundles + 1]; slot s of a group is in row ⌊s / k⌋ of a bundle."""

    values: UInts
    index: Index
    indptr: Index


def parts(section: Section, spec: Spec, env: Env) -> tuple[UInts, U8]:
    """Return a checked ``sparse`` section as a matrix, and its mask, 1 where kept. Raises EncodeError for other fills than 0."""
    if section.codec != "sparse" or "fill" in section.parts:
        raise EncodeError("the tensor is not sparse with zeros elsewhere")
    shape, mask = matrix(spec), np.zeros(spec.count, np.uint8)
    mask[all_positions(section.parts["mask"], spec, env)] = 1
    return decode_all(section, spec, env).reshape(shape), mask.reshape(shape)


def csr(x: UInts, mask: U8 | None = None) -> CSR:
    """Return the kept elements of a matrix row by row; without a mask, those that are not 0 in every bit."""
    kept = x != 0 if mask is None else mask != 0
    rows, columns = np.nonzero(kept)
    return CSR(x[rows, columns], columns, _indptr(rows, x.shape[0]))


def bsr(x: UInts, height: int, width: int, mask: U8 | None = None) -> BSR:
    """Return the blocks of a matrix that have a kept element. Raises EncodeError where blocks do not divide it."""
    if not height or not width or x.shape[0] % height or x.shape[1] % width:
        raise EncodeError(f"blocks of {height} × {width} do not divide a matrix of {x.shape[0]} × {x.shape[1]}")
    kept = _blocks(x != 0 if mask is None else mask != 0, height, width).any((2, 3))
    rows, columns = np.nonzero(kept)
    return BSR(_blocks(x, height, width)[rows, columns], columns, _indptr(rows, kept.shape[0]))


def gather_scatter(x: UInts, mask: U8, banks: int, per_row: int | None = None) -> GatherScatter:
    """Cut a gather-scatter mask into groups of B elements in different banks, k to a row. Raises EncodeError where there are none."""
    k = per_row or banks
    high = banks // k
    if banks % k or x.shape[0] % high:
        raise EncodeError(f"GS({banks}, {k}) does not divide a matrix of {x.shape[0]} × {x.shape[1]}")
    groups, indptr = [], [0]
    for at in range(0, x.shape[0], high):
        groups += _cut(mask[at : at + high] != 0, banks, k)
        indptr.append(len(groups))
    index = np.array(groups, np.int64).reshape(-1, banks)
    bundle = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    rows = bundle[:, None] * high + np.arange(banks)[None, :] // k
    return GatherScatter(x[rows, index], index, np.array(indptr, np.int64))


def _cut(kept: npt.NDArray[np.bool_], banks: int, k: int) -> list[list[int]]:
    """Cut a bundle into groups; each is a matching of the B slots with the B lanes, which Hall's theorem says exists."""
    left: list[list[list[int]]] = [[np.flatnonzero(row[lane::banks]).tolist() for lane in range(banks)] for row in kept]
    count = int(kept.sum()) // banks
    lanes = [sum(len(row[lane]) for row in left) for lane in range(banks)]
    if any(lane != count for lane in lanes) or any(int(row.sum()) != count * k for row in kept):
        raise EncodeError(f"the mask is not GS({banks}, {k})")
    groups = []
    for _ in range(count):
        owner = [-1] * banks  # slot of every lane

        def place(slot: int, seen: set[int], owner: list[int] = owner) -> bool:
            for lane in range(banks):
                if lane not in seen and left[slot // k][lane]:
                    seen.add(lane)
                    if owner[lane] < 0 or place(owner[lane], seen):
                        owner[lane] = slot
                        return True
            return False

        for slot in range(banks):
            place(slot, set())
        group = [0] * banks
        for lane, slot in enumerate(owner):
            group[slot] = left[slot // k][lane].pop(0) * banks + lane
        groups.append(group)
    return groups


def semi_structured(x: UInts, spec: Spec) -> tuple[UInts, npt.NDArray[Any]]:
    """Return (values [m, k / 2], meta) of a 2:4 matrix in the layout of CUTLASS, as torch's conversion makes it; F32 is 1:2.

    meta: I16 [m, k / 16] for F16 and BF16, [m, k / 8] for F32; I32 [m, k / 32] for I8. Two bits tell the place of each value;
    rows and columns are interleaved for sparse tensor cores. Groups with fewer values keep zeros, with −0 counted as 0.
    Source: torch.sparse._semi_structured_conversions. Raises EncodeError for other dtypes and shapes, and groups with more values.
    """
    name, (rows, cols) = spec.dtype.name, matrix(spec)
    wide = name == "F32"
    group, quads = (2 if wide else 4), (8 if name == "I8" else 4)
    if name not in ("F16", "BF16", "F32", "I8") or rows % (16 if name == "I8" else 32) or cols % (group * quads):
        raise EncodeError(f"{spec} does not divide into blocks of sparse tensor cores")
    dense = x.reshape(-1, group)
    sign = 0 if name == "I8" else 1 << (spec.dtype.bits - 1)
    kept = (dense & x.dtype.type(~sign & ((1 << spec.dtype.bits) - 1))) != 0
    if (kept.sum(1) > group // 2).any():
        raise EncodeError(f"a group of {group} has more than {group // 2} values")
    a, b, d = (kept[:, 0], kept[:, 0], kept[:, 1]) if wide else (kept[:, 0], kept[:, 1], kept[:, 3])
    first = (~a & b) | (~a & ~b).astype(np.int64) << 1
    second = ((a & b) | (~a & ~b) | d) | ((~a & b) | ~b).astype(np.int64) << 1
    at = np.arange(dense.shape[0])
    chosen = [dense[at, first // 2]] if wide else [dense[at, first], dense[at, second]]
    values = np.ascontiguousarray(np.stack(chosen, 1)).reshape(rows, cols // 2)
    codes = (first | second << 2).reshape(rows, -1, quads)
    meta = (codes << (4 * np.arange(quads))).sum(2).astype(np.uint32 if quads == 8 else np.uint16)
    out = np.empty(meta.size, meta.dtype)
    out[_interleaved(rows, meta.shape[1], meta.itemsize)] = meta.reshape(-1)
    return values, out.view(f"i{meta.itemsize}").reshape(meta.shape)


def _interleaved(rows: int, cols: int, size: int) -> Index:
    """Return where the element of every row and column of a meta matrix goes, flat (CUTLASS, reorder_meta)."""
    group, weave = (32, 4) if size == 2 else (16, 2)
    row, column = np.indices((rows, cols))
    row = row // group * group + row % 8 * weave + row % group // 8
    swap = ((row % 2 == 0) & (column % 2 == 1)).astype(np.int64) - ((row % 2 == 1) & (column % 2 == 0))
    row, column = row + swap, column - swap
    found: Index = (column // 2 * rows * 2 + row * 2 + column % 2).reshape(-1)
    return found


def _indptr(rows: Index, count: int) -> Index:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(rows, minlength=count))))


def _blocks(x: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Cut a matrix into blocks, [rows / height, columns / width, height, width]."""
    return x.reshape(x.shape[0] // height, height, x.shape[1] // width, width).swapaxes(1, 2)
