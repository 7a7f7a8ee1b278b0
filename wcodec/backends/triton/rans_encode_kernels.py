"""Counting and encoding tokens on a GPU (spec/gpu.md, spec/entropy.md section 6); blocks, lanes and quads as in ``rans_kernels``."""
# mypy: ignore-errors
# The compiler of kernels does without types.

import triton
import triton.language as tl

from wcodec.backends.triton import rans_kernels as rans
from wcodec.backends.triton.tile import place

CHUNK = tl.constexpr(4096)
"""Tokens that a program counts."""
COPIED = tl.constexpr(1024)
"""Words that a program copies at a time."""


@triton.jit
def apart(x):
    """Take four neighbours apart: [NB, W, 4] into four [NB, W]."""
    even, odd = tl.split(tl.reshape(x, [x.shape[0], x.shape[1], 2, 2]))
    a, c = tl.split(even)
    b, d = tl.split(odd)
    return a, b, c, d


@triton.jit
def choose_kernel(
    rows, sections,
    CONTEXT: tl.constexpr, TILED: tl.constexpr, HELD: tl.constexpr, W: tl.constexpr, NB: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Write the table of every token of NB blocks to OUT."""
    section, number = place(rows, sections, rans.FIELDS)
    origin = number.to(tl.int32) * NB
    block, lane = rans.blocks_of(section, origin, NB), tl.arange(0, W)[None, :]
    tokens, out = rans.address(section, rans.TOKENS, tl.uint8), rans.address(section, rans.OUT, tl.uint8)
    context, cols, start = rans.context_of(section, CONTEXT), tl.load(section + rans.MATRIX_COLS), tl.load(section + rans.START)
    first, _, _, columns, height, _, most, per_row = rans.tiles(section, block, W, TILED)
    row_skip = tl.load(section + rans.COLS) - per_row * 4 * W
    kept = rans.address(section, rans.TRELLIS, tl.uint32) + ((origin + tl.arange(0, NB))[:, None] * per_row).to(tl.int64) * W + lane
    state, j, piece, down, ahead = tl.zeros([NB, W], tl.uint32), tl.arange(0, 4)[None, None, :], 0, 0, tl.zeros([], tl.int64)
    for _ in range(most):
        valid = rans.held_symbols(columns, height, piece, down, lane, W)
        mask = j < valid[:, :, None]
        element = (first + ahead)[:, None, None] + (4 * lane[:, :, None] + j)
        a, b, c, d = apart(tl.load(tokens + element, mask=mask, other=0).to(tl.uint32))
        if CONTEXT >= rans.PARITY and not HELD:
            state = tl.load(kept + piece * W, mask=(tl.zeros([NB, W], tl.int32) + down) > 0, other=0)
        flat = start + (first + ahead)[:, None] + 4 * lane
        chosen = rans.tables_of_quad(context, flat // cols, flat % cols, cols, state, valid, CONTEXT)
        tl.store(out + element, rans.side_by_side(chosen[0], chosen[1], chosen[2], chosen[3]).to(tl.uint8), mask=mask)
        if CONTEXT >= rans.PARITY:
            state = rans.next_states(context, state, a, b, c, d, valid)
            if not HELD:
                tl.store(kept + piece * W, state)
                tl.debug_barrier()
        ahead, piece, down = rans.next_quad(ahead, piece, down, row_skip, per_row, 4 * W, TILED)


@triton.jit
def count_kernel(rows, sections, SEVERAL: tl.constexpr, BINS: tl.constexpr, ALIGN: tl.constexpr):
    """Count the tokens of a chunk in BINS neighbouring bins of a section's [tables, 256]. SEVERAL: CHOSEN says which table each takes."""
    section, number = place(rows, sections, rans.FIELDS)
    groups = (tl.load(section + rans.TABLES) * 256 + BINS - 1) // BINS
    low, first = (number % groups).to(tl.int32) * BINS, number // groups * CHUNK
    at = first + tl.arange(0, CHUNK)
    inside = at < tl.load(section + rans.COUNT)
    key = tl.load(rans.address(section, rans.TOKENS, tl.uint8) + at, mask=inside, other=0).to(tl.int32) - low
    if SEVERAL:
        key += tl.load(rans.address(section, rans.CHOSEN, tl.uint8) + at, mask=inside, other=0).to(tl.int32) * 256
    inside = inside & (key >= 0) & (key < BINS)
    counts = tl.histogram(tl.where(inside, key, 0), BINS, mask=inside)
    bins = tl.arange(0, BINS)
    tl.atomic_add(rans.address(section, rans.COUNTS, tl.int64) + low + bins, counts.to(tl.int64), mask=counts > 0)


@triton.jit
def _encode_step(x, cursor, entries, key, words, precision, bit, below, valid):
    """Put a symbol in front of a state; lanes whose state would grow beyond 32 bits give their low words away, in order of lanes."""
    entry, reciprocal = tl.load(entries + 2 * key), tl.load(entries + 2 * key + 1)
    f, start = entry & 0xFFFF, entry >> 16
    give = ((x >> (32 - precision)) >= f) & valid
    ballot = tl.sum(tl.where(give, bit, 0), 1)
    cursor -= rans.popcount(ballot).to(tl.int32)
    tl.store(words + cursor[:, None] + rans.popcount(ballot[:, None] & below).to(tl.int32), x.to(tl.uint16), mask=give)
    y = tl.where(give, x >> 16, x)
    quotient = tl.umulhi(y, reciprocal)  # too small by 1 at most
    rest = y - quotient * f
    more = rest >= f
    quotient, rest = tl.where(more, quotient + 1, quotient), tl.where(more, rest - f, rest)
    return tl.where(valid, (quotient << precision) + rest + start, x), cursor


@triton.jit
def rans_encode_kernel(
    rows, sections, SEVERAL: tl.constexpr, TILED: tl.constexpr, W: tl.constexpr, NB: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Encode NB blocks from their ends, each into the end of its own room of ROOM words. SEVERAL: CHOSEN says which table each takes.

    LUT: frequency | start « 16 and ⌊2^32 / frequency⌋ of every token, [tables, 256, 2].
    """
    section, number = place(rows, sections, rans.FIELDS)
    block, lane = rans.blocks_of(section, number.to(tl.int32) * NB, NB), tl.arange(0, W)[None, :]
    tokens, chosen = (
        tl.multiple_of(rans.address(section, rans.TOKENS, tl.uint8), ALIGN),
        tl.multiple_of(rans.address(section, rans.CHOSEN, tl.uint8), ALIGN),
    )
    entries, precision = rans.address(section, rans.LUT, tl.uint32), tl.load(section + rans.PRECISION).to(tl.uint32)
    room = tl.load(section + rans.ROOM)
    words = (rans.address(section, rans.WORDS, tl.uint16) + block * room)[:, None]
    cursor = tl.zeros([NB], tl.int32) + room.to(tl.int32)
    bit = tl.full([NB, W], 1, tl.uint32) << lane.to(tl.uint32)
    below = bit - 1
    first, _, _, columns, height, whole, most, per_row = rans.tiles(section, block, W, TILED)
    cols, x, j = tl.load(section + rans.COLS), tl.full([NB, W], 65536, tl.uint32), tl.arange(0, 4)[None, None, :]
    for every in tl.static_range(1, 5, 3):  # from the end: quads in which lanes rest, counting one by one; then the others, in fours
        base = first // every
        for back in range(most - whole if every == 1 else whole):
            quad = (most if every == 1 else whole) - 1 - back
            if TILED:
                piece, down = quad % per_row, quad // per_row
            else:
                piece, down = quad, 0
            if every == 4:
                valid, mask = tl.full([NB, W], 4, tl.int32), tl.full([NB, W, 4], 1, tl.int1)
            else:
                valid = rans.held_symbols(columns, height, piece, down, lane, W)
                mask = j < valid[:, :, None]
            ahead = (cols // every) * down + piece * (4 * W // every)
            element = every * (base + ahead)[:, None, None] + (4 * lane[:, :, None] + j)
            key = tl.load(tokens + element, mask=mask, other=0).to(tl.uint32)
            if SEVERAL:
                key += tl.load(chosen + element, mask=mask, other=0).to(tl.uint32) << 8
            a, b, c, d = apart(key)
            x, cursor = _encode_step(x, cursor, entries, d, words, precision, bit, below, valid > 3)
            x, cursor = _encode_step(x, cursor, entries, c, words, precision, bit, below, valid > 2)
            x, cursor = _encode_step(x, cursor, entries, b, words, precision, bit, below, valid > 1)
            x, cursor = _encode_step(x, cursor, entries, a, words, precision, bit, below, valid > 0)
    tl.store(rans.address(section, rans.STATES, tl.uint32) + block[:, None] * W + lane, x)
    tl.store(rans.address(section, rans.COUNTS, tl.int32) + block, room.to(tl.int32) - cursor)


@triton.jit
def gather_words_kernel(rows, sections, ALIGN: tl.constexpr):
    """Copy the words of a block from the end of its room to where they belong. BEFORE: words of all blocks before each, int64."""
    section, block = place(rows, sections, rans.FIELDS)
    count, room = tl.load(rans.address(section, rans.COUNTS, tl.int32) + block), tl.load(section + rans.ROOM)
    source = rans.address(section, rans.WORDS, tl.uint16) + (block + 1) * room - count
    before = rans.address(section, rans.BEFORE, tl.int64)
    start = tl.load(before + block) - tl.load(before)
    out, capacity = rans.address(section, rans.OUT, tl.uint16) + start, tl.load(section + rans.CAPACITY) - start
    for at in range(0, count, COPIED):
        i = at + tl.arange(0, COPIED)
        tl.store(out + i, tl.load(source + i, mask=i < count, other=0), mask=(i < count) & (i < capacity))
