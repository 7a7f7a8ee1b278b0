"""What kernels begin with: the row of fields of a section, and the tile of its elements that a program works on."""

from __future__ import annotations

import triton
import triton.language as tl

from wcodec.backends.torch.calls import RULES

TILE = tl.constexpr(1024)
"""Elements of a program; a multiple of 8, so that the bits of a tile begin at a byte."""


@triton.jit
def place(rows, sections, FIELDS: tl.constexpr):
    """Return the section's row of fields, and the program's number in the section in 64 bits."""
    program = tl.program_id(0)
    row = rows + tl.load(sections + program).to(tl.int64) * FIELDS
    return row, program - tl.load(row)


@triton.jit
def pointer(row, AT: tl.constexpr, ELEMENT: tl.constexpr, ALIGN: tl.constexpr):
    """Return a field as a pointer to elements that is a multiple of ALIGN bytes."""
    return tl.multiple_of(tl.load(row + AT).to(tl.pointer_type(ELEMENT)), ALIGN)


@triton.jit
def left(count, first):
    """Return how many elements a tile has from ``first`` on, in 32 bits."""
    return tl.minimum(tl.maximum(count - first, 0), 1 << 30).to(tl.int32)


@triton.jit
def report(status, bad, FLAG: tl.constexpr):
    """Set a flag of the status where any element is bad."""
    if tl.max(bad.to(tl.int32), axis=0) > 0:
        tl.atomic_or(status, FLAG)


@triton.jit
def tile(rows, sections, FIELDS: tl.constexpr, COUNT: tl.constexpr):
    """Return the section's row, the first element of the program's tile, and how many it has of those that field COUNT counts."""
    row, block = place(rows, sections, FIELDS)
    first = block * TILE
    return row, first, left(tl.load(row + COUNT), first)


def flag(rule: str) -> tl.constexpr:
    """Return the bit of a status word that names a rule."""
    return tl.constexpr(RULES[rule][0])
