"""rANS on a GPU: one warp decodes a block of 32 lanes (spec/gpu.md, spec/entropy.md).

Every program takes NB blocks of one section. Where a section has fewer left, the spare rows of the tile repeat the program's first
block: they store what that row stores, so nothing needs a mask for them. A block is a tile of ``high`` rows and ``wide`` columns of a
matrix; in linear order it is one row. A *quad* is the next four symbols of every lane.
"""
# mypy: ignore-errors
# The compiler of kernels does without types.

import triton
import triton.language as tl

from wcodec.backends.triton.floats import narrow
from wcodec.backends.triton.tile import flag, place

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
BYTES, JOIN, GATHER, GATHER_WIDE, VALUES = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3), tl.constexpr(4)
"""What becomes of tokens: they are stored, joined with rest planes, looked up in a codebook of width 1 or of more, dequantised."""
SYMBOLS = tl.constexpr(-1)
"""In place of bits of raw elements: tokens are the symbols."""
UNENDED, UNUSED, UNKNOWN, UNCOUNTED = flag("E-6"), flag("E-7"), flag("CODEBOOK-2"), flag("RANS-3")


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
def _next_element(row, col, cols):
    ends = col + 1 == cols
    return tl.where(ends, row + 1, row), tl.where(ends, 0, col + 1)


@triton.jit
def tables_of_quad(context, row, col, cols, state, valid, CONTEXT: tl.constexpr):
    """Return the tables of a quad's four symbols. row, col: of every lane's first; state: of its four trellises, a byte each."""
    if CONTEXT == CLASS:
        a = _class_of(context, row, col, (valid > 0).to(tl.int32))
        row, col = _next_element(row, col, cols)
        b = _class_of(context, row, col, (valid > 1).to(tl.int32))
        row, col = _next_element(row, col, cols)
        c = _class_of(context, row, col, (valid > 2).to(tl.int32))
        row, col = _next_element(row, col, cols)
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


@triton.jit
def _step(x, cursor, entry, words, end, precision, bit, below, valid):
    """Leave the symbol of an entry; lanes whose state falls below 2^16 take the next words, in order of lanes."""
    y = (entry & 0xFFF) * (x >> precision) + ((entry >> 12) & 0xFFF)
    take = (y < 65536) & valid
    ballot = tl.sum(tl.where(take, bit, 0), 1)  # every lane has a bit of its own
    at = cursor[:, None] + popcount(ballot[:, None] & below).to(tl.int32)
    word = tl.load(words + at, mask=take & (at < end[:, None]), other=0).to(tl.uint32)
    return tl.where(valid, tl.where(take, (y << 16) | word, y), x), cursor + popcount(ballot).to(tl.int32)


@triton.jit
def _decode_quad(x, cursor, bad, lut, words, end, precision, bit, below, tables, valid, CONTEXT: tl.constexpr):
    """Decode four symbols of every lane, of which it holds the first ``valid``."""
    slots = (1 << precision) - 1
    of_a, of_b, of_c, of_d = tables
    a = tl.load(lut + ((of_a << precision) | (x & slots)))
    x, cursor = _step(x, cursor, a, words, end, precision, bit, below, valid > 0)
    b = tl.load(lut + ((of_b << precision) | (x & slots)))
    x, cursor = _step(x, cursor, b, words, end, precision, bit, below, valid > 1)
    c = tl.load(lut + ((of_c << precision) | (x & slots)))
    x, cursor = _step(x, cursor, c, words, end, precision, bit, below, valid > 2)
    d = tl.load(lut + ((of_d << precision) | (x & slots)))
    x, cursor = _step(x, cursor, d, words, end, precision, bit, below, valid > 3)
    if CONTEXT != NONE:  # whether an only table is unused, the host sees
        bad |= ((a == 0) & (valid > 0)) | ((b == 0) & (valid > 1)) | ((c == 0) & (valid > 2)) | ((d == 0) & (valid > 3))
    return x, cursor, bad, a >> 24, b >> 24, c >> 24, d >> 24


@triton.jit
def coding_of(section, block, RAW_KIND: tl.constexpr, ESCAPES: tl.constexpr, ALIGN: tl.constexpr):
    """Read what turns tokens into symbols (spec/codecs/rans.md), and where the escaped ones of every block stand."""
    mapping = ()
    if RAW_KIND != SYMBOLS:
        raw_bits, base = tl.load(section + RAW_BITS).to(tl.uint32), tl.load(section + BASE).to(tl.uint32)
        mapping = (raw_bits, base, tl.load(section + ZERO_TOKEN) != 0, tl.load(section + SYMBOL_MASK).to(tl.uint32))
        if RAW_KIND > 0:
            raw_kind: tl.constexpr = tl.uint16 if RAW_KIND == 16 else tl.uint8
            mapping += (tl.multiple_of(address(section, RAW, raw_kind), ALIGN),)
        if ESCAPES:
            before = address(section, BEFORE, tl.int64) + block
            begin = tl.load(before)
            stated = tl.minimum(tl.load(before + 1) - begin, 1 << 30).to(tl.int32)
            mapping += (tl.load(section + ESCAPE).to(tl.uint32), address(section, OUTLIERS, tl.uint32) + begin, stated)
    return mapping


@triton.jit
def epilogue_of(section, kind: tl.constexpr, EPILOGUE: tl.constexpr, REST_BITS: tl.constexpr, ALIGN: tl.constexpr):
    """Read what storing tokens needs."""
    if EPILOGUE == JOIN:
        planes = ()
        for i in tl.static_range((REST_BITS + 7) // 8):
            planes += (tl.multiple_of(address(section, PLANE0 + i, tl.uint8), ALIGN),)
        return tl.load(section + BASE).to(tl.uint32), tl.load(section + ZERO) != 0, tl.load(section + PACKED_SIZE), planes
    elif EPILOGUE == VALUES:
        steps, factors = address(section, STEPS, tl.float32), address(section, FACTORS, tl.float32)
        points = address(section, POINTS, tl.float32)
        some_steps, some_factors = tl.load(section + SOME_STEPS), tl.load(section + SOME_FACTORS)
        zero, most_points = tl.load(section + ZERO).to(tl.int32), tl.load(section + MOST_POINTS).to(tl.int32)
        return steps, some_steps, factors, some_factors, points, most_points, zero
    else:
        entries = tl.load(section + ENTRIES)
        return address(section, CENTROIDS, kind), tl.minimum(entries, 256).to(tl.uint32), tl.load(section + WIDTH)


@triton.jit
def _joined(epilogue, token, element, mask, BITS: tl.constexpr, REST_BITS: tl.constexpr, SIGN: tl.constexpr, IS_PACKED: tl.constexpr):
    """Join symbols with rest planes (spec/codecs/planes.md)."""
    base, zero, packed_size, planes = epilogue
    kind: tl.constexpr = tl.uint64 if BITS == 64 else tl.uint32
    symbol = token.to(kind)
    if BITS - REST_BITS > 8:  # narrower ones stand in the look-up in place of tokens
        symbol = tl.where((token == 0) & zero, 0, (token + base) & 0xFFFF).to(kind)
    low = tl.zeros_like(symbol)
    whole: tl.constexpr = REST_BITS // 8 if IS_PACKED else (REST_BITS + 7) // 8
    for i in tl.static_range(whole):
        low |= tl.load(planes[i] + element, mask=mask, other=0).to(kind) << (8 * i)
    if IS_PACKED:
        width: tl.constexpr = REST_BITS % 8
        bit = element * width
        at = bit >> 3
        pair = tl.load(planes[whole] + at, mask=mask & (at < packed_size), other=0).to(tl.uint32)
        pair |= tl.load(planes[whole] + at + 1, mask=mask & (at + 1 < packed_size), other=0).to(tl.uint32) << 8
        low |= ((pair >> (bit & 7).to(tl.uint32)) & ((1 << width) - 1)).to(kind) << (8 * whole)
    if REST_BITS > 0:
        low &= (1 << REST_BITS) - 1
    if SIGN == 2:
        return ((symbol >> 1) << REST_BITS) | low | ((symbol & 1) << (BITS - 1))
    v = (symbol << REST_BITS) | low
    if SIGN == 1:
        v = ((v >> 1) & ((1 << (BITS - 1)) - 1)) | ((v & 1) << (BITS - 1))
    return v


@triton.jit
def _places_of_quad(row, col, cols, j, TILED: tl.constexpr):
    """Return rows and columns of all symbols of a quad, from those of every lane's first."""
    if TILED:
        return row[:, :, None], col[:, :, None] + j
    else:
        row_b, col_b = _next_element(row, col, cols)
        row_c, col_c = _next_element(row_b, col_b, cols)
        row_d, col_d = _next_element(row_c, col_c, cols)
        return side_by_side(row, row_b, row_c, row_d), side_by_side(col, col_b, col_c, col_d)


@triton.jit
def _escaped(coding, a, b, c, d, valid, seen, bit, below):
    """Return which symbols of a quad are escaped, what they are, and the escapes seen: blocks hold them in the order of positions."""
    escape, outliers, stated = coding[-3], coding[-2], coding[-1]
    of_a, of_b = ((a >> 1) == escape) & (valid > 0), ((b >> 1) == escape) & (valid > 1)
    of_c, of_d = ((c >> 1) == escape) & (valid > 2), ((d >> 1) == escape) & (valid > 3)
    in_a, in_b = tl.sum(tl.where(of_a, bit, 0), 1), tl.sum(tl.where(of_b, bit, 0), 1)
    in_c, in_d = tl.sum(tl.where(of_c, bit, 0), 1), tl.sum(tl.where(of_d, bit, 0), 1)
    left = popcount(in_a[:, None] & below) + popcount(in_b[:, None] & below)
    left += popcount(in_c[:, None] & below) + popcount(in_d[:, None] & below)
    rank = seen[:, None] + left.to(tl.int32)
    rank_b = rank + of_a.to(tl.int32)
    rank_c = rank_b + of_b.to(tl.int32)
    ranks = side_by_side(rank, rank_b, rank_c, rank_c + of_c.to(tl.int32))
    escaped = side_by_side(of_a.to(tl.int32), of_b.to(tl.int32), of_c.to(tl.int32), of_d.to(tl.int32)) != 0
    value = tl.load(outliers[:, None, None] + ranks, mask=escaped & (ranks < stated[:, None, None]), other=0)
    return escaped, value, seen + (popcount(in_a) + popcount(in_b) + popcount(in_c) + popcount(in_d)).to(tl.int32)


@triton.jit
def _symbols(
    coding, a, b, c, d, valid, seen, bit, below, element, mask, RAW_KIND: tl.constexpr, ESCAPES: tl.constexpr,
):  # fmt: skip
    """Turn the tokens of a quad into symbols: base, escapes, raw bits. Returns the escapes seen as well."""
    symbol = side_by_side(a, b, c, d)
    if RAW_KIND != SYMBOLS:
        raw_bits, base, zero_token, symbol_mask = coding[0], coding[1], coding[2], coding[3]
        k, parity = symbol >> 1, symbol & 1
        h = tl.where((k == 0) & zero_token, 0, k + base)
        if ESCAPES:
            escaped, value, seen = _escaped(coding, a, b, c, d, valid, seen, bit, below)
            h = tl.where(escaped, value, h)
        symbol = (h << (raw_bits + 1)) | parity
        if RAW_KIND > 0:
            raw = tl.load(coding[4] + element, mask=mask, other=0).to(tl.uint32)
            symbol |= (raw & ((tl.full([], 1, tl.uint32) << raw_bits) - 1)) << 1
        symbol &= symbol_mask
    return symbol, seen


@triton.jit
def _values(epilogue, symbol, z0, row, column, mask, FORMAT: tl.constexpr):
    """Dequantise symbols (spec/codecs/trellis.md). row: in the window."""
    steps, some_steps, factors, some_factors, points, most_points, zero = epilogue
    k = 2 * (symbol.to(tl.int32) - zero) + z0.to(tl.int32)
    size = tl.abs(k)
    magnitude = tl.where(size <= most_points, tl.load(points + size, mask=mask & (size <= most_points), other=0), size.to(tl.float32))
    step = tl.load(steps + row * some_steps, mask=mask, other=0) * tl.load(factors + column * some_factors, mask=mask, other=0)
    return narrow(step * tl.where(k < 0, magnitude * -1.0, magnitude), FORMAT)  # what a minus sign makes of 0 is +0


@triton.jit
def _store(
    epilogue, coding, out, a, b, c, d, element, valid, mask, missing, seen, bit, below, tables, row, col, cols, j,
    EPILOGUE: tl.constexpr, BITS: tl.constexpr, REST_BITS: tl.constexpr, SIGN: tl.constexpr, IS_PACKED: tl.constexpr,
    FORMAT: tl.constexpr, RAW_KIND: tl.constexpr, ESCAPES: tl.constexpr, TILED: tl.constexpr,
):  # fmt: skip
    """Store a quad. element: of every symbol, [NB, W, 4].

    Returns ``missing``, with lanes added whose token numbers no centroid, and ``seen``, the escapes of every block so far.
    """
    kind: tl.constexpr = out.dtype.element_ty
    if EPILOGUE == BYTES:
        tl.store(out + element, side_by_side(a, b, c, d).to(kind), mask=mask)
    elif EPILOGUE == JOIN:
        value = _joined(epilogue, side_by_side(a, b, c, d), element, mask, BITS, REST_BITS, SIGN, IS_PACKED)
        tl.store(out + element, value.to(kind), mask=mask)
    elif EPILOGUE == VALUES:
        z0 = side_by_side(tables[0] & 1, tables[1] & 1, tables[2] & 1, tables[3] & 1)
        its_row, its_column = _places_of_quad(row, col, cols, j, TILED)
        symbol, seen = _symbols(coding, a, b, c, d, valid, seen, bit, below, element, mask, RAW_KIND, ESCAPES)
        tl.store(out + element, _values(epilogue, symbol, z0, its_row, its_column, mask, FORMAT), mask=mask)
    else:
        centroids, entries, width = epilogue
        missing |= ((a >= entries) & (valid > 0)) | ((b >= entries) & (valid > 1))
        missing |= ((c >= entries) & (valid > 2)) | ((d >= entries) & (valid > 3))
        if EPILOGUE == GATHER:
            a, b = tl.load(centroids + a, mask=a < entries, other=0), tl.load(centroids + b, mask=b < entries, other=0)
            c, d = tl.load(centroids + c, mask=c < entries, other=0), tl.load(centroids + d, mask=d < entries, other=0)
            tl.store(out + element, side_by_side(a, b, c, d), mask=mask)
        else:
            token = side_by_side(a, b, c, d)
            for k in range(width):
                value = tl.load(centroids + token.to(tl.int64) * width + k, mask=token < entries, other=0)
                tl.store(out + element * width + k, value, mask=mask)
    return missing, seen


@triton.jit
def rans_decode_kernel(
    rows, sections,
    CONTEXT: tl.constexpr, TILED: tl.constexpr, HELD: tl.constexpr, W: tl.constexpr, NB: tl.constexpr,
    EPILOGUE: tl.constexpr, BITS: tl.constexpr, REST_BITS: tl.constexpr, SIGN: tl.constexpr, IS_PACKED: tl.constexpr, FORMAT: tl.constexpr,
    RAW_KIND: tl.constexpr, ESCAPES: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    """Decode NB blocks of a section.

    HELD: every lane has four trellises, which stay in registers; else they stand in memory from one row to the next.
    RAW_KIND: bits of an element of raw bits, 0 without, SYMBOLS where nothing stands between tokens and values.
    """
    section, number = place(rows, sections, FIELDS)
    origin = number.to(tl.int32) * NB
    block, lane = blocks_of(section, origin, NB), tl.arange(0, W)[None, :]
    kind: tl.constexpr = tl.uint64 if BITS == 64 else tl.uint32 if BITS == 32 else tl.uint16 if BITS == 16 else tl.uint8
    out = tl.multiple_of(address(section, OUT, kind), ALIGN)
    lut, precision = address(section, LUT, tl.uint32), tl.load(section + PRECISION).to(tl.uint32)
    context, epilogue = context_of(section, CONTEXT), epilogue_of(section, kind, EPILOGUE, REST_BITS, ALIGN)
    coding, seen = coding_of(section, block, RAW_KIND, ESCAPES, ALIGN), tl.zeros([NB], tl.int32)

    x = tl.load(address(section, STATES, tl.uint32) + block[:, None] * W + lane)
    offsets = address(section, OFFSETS, tl.uint32) + block
    begin = tl.load(offsets)
    end = (tl.load(offsets + 1) - begin).to(tl.int32)  # at most as many words as symbols, 2^17
    words, cursor = (address(section, WORDS, tl.uint16) + begin.to(tl.int64))[:, None], tl.zeros([NB], tl.int32)
    bit = tl.full([NB, W], 1, tl.uint32) << lane.to(tl.uint32)
    below = bit - 1

    first, top, left, columns, height, whole, most, per_row = tiles(section, block, W, TILED)
    cols, start = tl.load(section + MATRIX_COLS), tl.load(section + START)
    LOCATED: tl.constexpr = not TILED and (CONTEXT == CLASS or EPILOGUE == VALUES)  # rows and columns go along
    first_row = tl.load(section + FIRST_ROW)
    if TILED:
        row, col = (first_row + top)[:, None], left[:, None] + 4 * lane
    elif LOCATED:
        row, col = (start + first[:, None] + 4 * lane) // cols, (start + first[:, None] + 4 * lane) % cols
        row_step, col_step = 4 * W // cols, 4 * W % cols
    else:
        row, col = first[:, None], first[:, None]
    kept = address(section, TRELLIS, tl.uint32) + ((origin + tl.arange(0, NB))[:, None] * per_row).to(tl.int64) * W + lane
    state, bad, missing = tl.zeros([NB, W], tl.uint32), tl.zeros([NB, W], tl.int1), tl.zeros([NB, W], tl.int1)
    j, piece, down, ahead = tl.arange(0, 4)[None, None, :], 0, 0, tl.zeros([], tl.int64)
    for every in tl.static_range(4, 0, -3):  # quads in which no lane rests, counting elements in fours; then the others, one by one
        row_skip = (tl.load(section + COLS) - tl.load(section + WIDE)) // every
        base = first // every
        for _ in range(0 if every == 4 else whole, whole if every == 4 else most):
            if every == 4:
                valid, mask = tl.full([NB, W], 4, tl.int32), tl.full([NB, W, 4], 1, tl.int1)
            else:
                valid = held_symbols(columns, height, piece, down, lane, W)
                mask = j < valid[:, :, None]
            if CONTEXT >= PARITY and not HELD:
                state = tl.load(kept + piece * W, mask=(tl.zeros([NB, W], tl.int32) + down) > 0, other=0)
            if TILED:
                its_row, its_col = row + down, col + 4 * W * piece
            else:
                its_row, its_col = row, col
            tables = tables_of_quad(context, its_row, its_col, cols, state, valid, CONTEXT)
            x, cursor, bad, a, b, c, d = _decode_quad(x, cursor, bad, lut, words, end, precision, bit, below, tables, valid, CONTEXT)
            element = every * (base + ahead)[:, None, None] + (4 * lane[:, :, None] + j)
            missing, seen = _store(
                epilogue, coding, out, a, b, c, d, element, valid, mask, missing, seen, bit, below, tables,
                its_row - first_row, its_col, cols, j,
                EPILOGUE, BITS, REST_BITS, SIGN, IS_PACKED, FORMAT, RAW_KIND, ESCAPES, TILED,
            )  # fmt: skip
            if CONTEXT >= PARITY:
                state = next_states(context, state, a, b, c, d, valid)
                if not HELD:
                    tl.store(kept + piece * W, state)
                    tl.debug_barrier()
            if LOCATED:
                row, col = row + row_step, col + col_step
                row, col = tl.where(col >= cols, row + 1, row), tl.where(col >= cols, col - cols, col)
            ahead, piece, down = next_quad(ahead, piece, down, row_skip, per_row, 4 * W // every, TILED)
        ahead *= every
    wrong = tl.where((x == 65536) & (cursor == end)[:, None], 0, UNENDED) | tl.where(bad, UNUSED, 0) | tl.where(missing, UNKNOWN, 0)
    status = address(section, STATUS, tl.int32)
    tl.atomic_or(status + tl.zeros([NB, W], tl.int32), wrong, mask=wrong != 0)
    if ESCAPES:
        uncounted = address(section, ESCAPES_STATUS, tl.int32) + tl.zeros([NB], tl.int32)
        tl.atomic_or(uncounted, tl.full([NB], UNCOUNTED, tl.int32), mask=seen != coding[-1])
