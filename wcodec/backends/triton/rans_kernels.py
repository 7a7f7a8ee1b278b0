"""Windows of tokens on a GPU: what rows say of them, where blocks stand and which tables they take (spec/gpu.md, spec/entropy.md).

Every program takes NB blocks of one section. Where a section has fewer left, the spare rows of the tile repeat the program's first
block: they store what that row stores, so nothing needs a mask for them. A block is a tile of ``high`` rows and ``wide`` columns of a
matrix; in linear order it is one row. A *quad* is the next four symbols of every lane.
"""
# mypy: ignore-errors
# The compiler of kernels does without types.

import triton
import triton.language as tl

(
    PROGRAM, STATES, OFFSETS, WORDS, LUT, PRECISION, OUT, STATUS,
    BLOCKS, COUNT, COLS, HIGH, WIDE, HEIGHT, ACROSS, WHOLE,
    START, FIRST_ROW, MATRIX_COLS, CLASSES, ROWS, COLUMNS, MAP, TRELLIS, H0, H1,
    BASE, ZERO, PACKED_SIZE, CENTROIDS, ENTRIES, WIDTH,
    PLANE0, PLANE1, PLANE2, PLANE3, PLANE4, PLANE5, PLANE6, PLANE7,
    TOKENS, CHOSEN, TABLES, COUNTS, ROOM, BEFORE, CAPACITY,
    STEPS, SOME_STEPS, FACTORS, SOME_FACTORS, POINTS, MOST_POINTS,
    RAW, RAW_BITS, ZERO_TOKEN, SYMBOL_MASK, ESCAPE, OUTLIERS, ESCAPES_STATUS,
) = map(tl.constexpr, range(60))  # fmt: skip
"""What a row says of a section: addresses, sizes and settings."""
FIELDS = tl.constexpr(61)

NONE, CLASS, PARITY, PAIRS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
"""Kinds of context: ``none``, ``classes``, ``trellis`` without and with classes of rows."""


@triton.jit
def address(section, field, kind: tl.constexpr):
    """Return a field as a pointer."""
    return tl.load(section + field).to(tl.pointer_type(kind))


@triton.jit
def popcount(v):
    """Count the bits of uint32; compilers know this form and make one instruction of it."""
    v = v - ((v >> 1) & 0x55555555)
    v = (v & 0x33333333) + ((v >> 2) & 0x33333333)
    v = (v + (v >> 4)) & 0x0F0F0F0F
    return (v * 0x01010101) >> 24


@triton.jit
def side_by_side(a, b, c, d):
    """Put the four symbols of every lane next to each other: [NB, W, 4]."""
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), [a.shape[0], a.shape[1], 4])


@triton.jit
def tiles(section, block, W: tl.constexpr, TILED: tl.constexpr):
    """Return where blocks stand.

    First element, first row and column, columns and rows of every block; the quads in which no lane of any block rests; the most
    quads of any block; the quads of a row of a tile.
    """
    wide, count = tl.load(section + WIDE), tl.load(section + COUNT)
    if TILED:
        cols, high, across = tl.load(section + COLS), tl.load(section + HIGH), tl.load(section + ACROSS).to(tl.uint32)
        band = block.to(tl.uint32) // across
        top, left = band.to(tl.int64) * high, (block.to(tl.uint32) - band * across).to(tl.int64) * wide
        columns, height, per_row = tl.minimum(cols - left, wide), tl.minimum(high, tl.load(section + HEIGHT) - top), wide // (4 * W)
        first, whole, most = top * cols + left, tl.where(columns == wide, height, 0) * per_row, height * per_row
    else:
        first = block * wide
        top, left, columns, per_row = first * 0, first, tl.minimum(count - first, wide), wide
        height, whole, most = top + 1, columns // (4 * W), (columns + 4 * W - 1) // (4 * W)
    whole = tl.min(whole.to(tl.int32), 0) * tl.load(section + WHOLE).to(tl.int32)
    return first, top, left, columns.to(tl.int32), height.to(tl.int32), whole, tl.max(most.to(tl.int32), 0), per_row.to(tl.int32)


@triton.jit
def blocks_of(section, origin, NB: tl.constexpr):
    """Return the numbers of a program's blocks; spare rows repeat the first."""
    row = tl.arange(0, NB)
    return (origin + tl.where(origin + row < tl.load(section + BLOCKS).to(tl.int32), row, 0)).to(tl.int64)


@triton.jit
def held_symbols(columns, height, piece, down, lane, W: tl.constexpr):
    """Return how many of its four symbols every lane holds in a quad."""
    return tl.where((down < height)[:, None], tl.minimum(tl.maximum(columns[:, None] - (piece * W + lane) * 4, 0), 4), 0)


@triton.jit
def next_quad(ahead, piece, down, row_skip, per_row, step: tl.constexpr, TILED: tl.constexpr):
    """Go on by one quad. ahead: elements since the block's first, or fours of them; piece: quads before it in the row; down: rows above."""
    ahead, piece = ahead + step, piece + 1
    if TILED:
        ends = piece == per_row
        ahead, down = ahead + tl.where(ends, row_skip, 0), down + tl.where(ends, 1, 0)
        piece = tl.where(ends, 0, piece)
    return ahead, piece, down


@triton.jit
def context_of(section, CONTEXT: tl.constexpr):
    """Read what choosing tables needs."""
    if CONTEXT == CLASS:
        rows, columns = address(section, ROWS, tl.uint8), address(section, COLUMNS, tl.uint8)
        some_rows, some_columns = (tl.load(section + ROWS) != 0).to(tl.int32), (tl.load(section + COLUMNS) != 0).to(tl.int32)
        return rows, some_rows, columns, some_columns, address(section, MAP, tl.uint8), tl.load(section + CLASSES).to(tl.int32)
    else:
        h0, h1 = tl.load(section + H0).to(tl.uint32), tl.load(section + H1).to(tl.uint32)
        some_rows = (tl.load(section + ROWS) != 0).to(tl.int32)
        return h0, h1, address(section, ROWS, tl.uint8), some_rows, address(section, MAP, tl.uint8)


@triton.jit
def _class_of(context, row, col, held):
    rows, some_rows, columns, some_columns, tables, classes = context
    of_row = tl.load(rows + row, mask=held * some_rows > 0, other=0).to(tl.int32)
    of_column = tl.load(columns + col, mask=held * some_columns > 0, other=0).to(tl.int32)
    return tl.load(tables + (of_row * classes + of_column), mask=held > 0, other=0).to(tl.uint32)


@triton.jit
def next_element(row, col, cols):
    ends = col + 1 == cols
    return tl.where(ends, row + 1, row), tl.where(ends, 0, col + 1)


@triton.jit
def tables_of_quad(context, row, col, cols, state, valid, CONTEXT: tl.constexpr):
    """Return the tables of a quad's four symbols. row, col: of every lane's first; state: of its four trellises, a byte each."""
    if CONTEXT == CLASS:
        a = _class_of(context, row, col, (valid > 0).to(tl.int32))
        row, col = next_element(row, col, cols)
        b = _class_of(context, row, col, (valid > 1).to(tl.int32))
        row, col = next_element(row, col, cols)
        c = _class_of(context, row, col, (valid > 2).to(tl.int32))
        row, col = next_element(row, col, cols)
        return a, b, c, _class_of(context, row, col, (valid > 3).to(tl.int32))
    elif CONTEXT >= PARITY:
        pair = tl.zeros_like(state)
        if CONTEXT == PAIRS:
            _, _, rows, some_rows, tables = context
            held = (valid > 0).to(tl.int32)
            pair = tl.load(tables + tl.load(rows + row, mask=held * some_rows > 0, other=0).to(tl.int32), mask=held > 0, other=0)
            pair = pair.to(tl.uint32) << 1
        return pair | (state & 1), pair | ((state >> 8) & 1), pair | ((state >> 16) & 1), pair | ((state >> 24) & 1)
    else:
        return tl.zeros_like(state), tl.zeros_like(state), tl.zeros_like(state), tl.zeros_like(state)


@triton.jit
def next_states(context, state, a, b, c, d, valid):
    """Step four trellises, a byte each, by the parities of four tokens, of which a lane holds the first ``valid``."""
    h0, h1, _, _, _ = context
    parities = (a & 1) | ((b & 1) << 8) | ((c & 1) << 16) | ((d & 1) << 24)
    after = ((state >> 1) & 0x7F7F7F7F) ^ ((state & 0x01010101) * h0) ^ (parities * h1)
    rest = tl.where(valid > 3, 0, tl.full(state.shape, 0xFFFFFFFF, tl.uint32) << (8 * valid).to(tl.uint32))
    return (after & ~rest) | (state & rest)
