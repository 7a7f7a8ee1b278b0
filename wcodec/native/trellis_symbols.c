/* What tokens of a trellis stand for: raw bits and escapes joined while the tokens are in the first-level cache (rans.md). */
#include "trellis_symbols.h"

WK_SYMBOLS_OF(scalar)

void wk_open_alphabet(wk_alphabet *a, const wcodec_symbols *symbols, const wcodec_job *job) {
  const uint32_t bits = symbols->bits, shift = bits + 1;
  a->wire = symbols;
  a->cols = job->cols;
  a->packed = bits && symbols->raw_bytes == 0 && bits % 8;
  a->raw_bytes = bits == 0 ? 0 : bits > 8 || symbols->raw_bytes == 2 ? 2 : 1;
  a->base = (uint16_t)symbols->base;
  a->zero = symbols->zero ? 0xFFFF : 0;
  a->factor = (uint16_t)(1u << shift);
  a->mask = (uint16_t)((1u << bits) - 1);
  a->cut = symbols->bytes == 1 ? 0xFF : 0xFFFF;
}

/* Raw bits of n symbols from element `at` of the window on: where they are, or in room. */
static const uint8_t *raw_bits(const wk_alphabet *a, uint64_t at, uint64_t n, uint8_t *room) {
  const uint8_t *raw = (const uint8_t *)a->wire->raw;
  if (!a->packed) return raw + at * a->raw_bytes;
  const uint64_t lead = at % 8; /* eight numbers begin and end with bytes */
  wcodec_unpack_bits(raw + at / 8 * a->wire->bits, a->raw_bytes, n + lead, a->wire->bits, 0, room);
  return room + lead * a->raw_bytes;
}

/* Processors do not see which rows of a tile come next. */
static void fetch_raw(const wk_alphabet *a, uint64_t at, uint64_t n) {
  const uint64_t bits = a->packed ? a->wire->bits : 8 * a->raw_bytes;
  const uintptr_t from = (uintptr_t)a->wire->raw + at * bits / 8, to = (uintptr_t)a->wire->raw + (at + n) * bits / 8;
  for (uintptr_t p = from / WK_LINE * WK_LINE; p < to; p += WK_LINE) __builtin_prefetch((const void *)p);
}

/* Symbols of a piece's tokens, escaped ones aside. */
static void widen(const wk_alphabet *a, uint64_t at, const wk_piece *p, wk_u16 *out) {
  const wk_kernels *kernels = wk_current();
  _Alignas(WK_LINE) uint8_t room[2 * (WK_TURN + 8)];
  if (!a->raw_bytes) kernels->symbols(a, p->symbols, NULL, 0, p->rows * p->n, out);
  for (uint64_t r = 0; a->raw_bytes && r < p->rows; r++, at += a->cols) {
    kernels->symbols(a, p->symbols + r * p->n, raw_bits(a, at, p->n, room), a->raw_bytes, p->n, out + r * p->n);
    fetch_raw(a, at + p->rows * a->cols, p->n);
  }
}

/* Do so by join_lattice, unless the piece is not for it: rows begin within bytes of raw bits, or steps change within one. */
static int join(const wk_lattice *l, const wk_alphabet *a, uint64_t at, uint64_t row, uint64_t column, const wk_piece *p) {
  wk_raw raw = {.data = p->symbols};
  if (!l->joins || p->n % WK_LINE || (p->rows == 1 && column + p->n > l->cols && (l->each || l->columns))) return 0;
  if (a && a->wire->bits) {
    raw = (wk_raw){(const uint8_t *)a->wire->raw, a->cols, a->wire->bits, a->packed};
    if (raw.packed && (at % 8 || (p->rows > 1 && a->cols % 8))) return 0;
    raw.data += raw.packed ? at / 8 * raw.bits : at;
    raw.stride = raw.packed ? a->cols / 8 * raw.bits : a->cols;
    for (uint64_t r = 0; r < p->rows; r++) fetch_raw(a, at + (r + p->rows) * a->cols, p->n);
  }
  wk_current()->join_lattice(l, p, &raw, l->rows + (l->each ? row : 0), l->columns ? l->columns + column : NULL);
  return 1;
}

/* Put the values of escaped tokens in their places. They are rare. */
static void put_escaped(const wk_lattice *l, const wk_alphabet *a, wk_stream *s, uint64_t at, uint64_t row, uint64_t column,
                        const wk_piece *p) {
  for (uint64_t i = 0; i < p->rows * p->n; i++) {
    const uint8_t token = p->symbols[i];
    if ((token & 0xFE) != a->wire->escape) continue;
    const uint64_t r = i / p->n, c = i % p->n;
    uint8_t room[2 * 8];
    wk_u16 symbol;
    uint32_t value = 0;
    const uint8_t *raw = a->raw_bytes ? raw_bits(a, at + r * a->cols + c, 1, room) : NULL;
    wk_symbols_scalar(a, &token, raw, a->raw_bytes, 1, &symbol);
    if (s->escaped < s->escaped_end) value = *s->escaped++;
    else s->bad |= WCODEC_RANS3;
    symbol = (uint16_t)((value << (a->wire->bits + 1) | (symbol & (a->factor - 1u))) & a->cut);
    const wk_piece one = {(const uint8_t *)&symbol, p->z0 + i, 2, 1, 1, 0, 0, p->out + r * p->stride + c * wk_float_size(l->kind)};
    wk_dequantise(l, row + r + (column + c) / l->cols, (column + c) % l->cols, &one);
  }
}

void wk_dequantise_tokens(const wk_lattice *l, const wk_alphabet *a, wk_stream *s, uint64_t at, uint64_t row, uint64_t column,
                          const wk_piece *p) {
  const wk_kernels *kernels = wk_current();
  if (l->book.count) {
    kernels->look_up_lattice(&l->book, p);
  } else if (!join(l, a, at, row, column, p)) {
    wk_u16 wide[WK_TURN];
    wk_piece symbols = *p;
    if (a) {
      widen(a, at, p, wide);
      symbols.symbols = (const uint8_t *)wide, symbols.bytes = 2;
    }
    wk_dequantise(l, row, column, &symbols);
  }
  if (a && a->wire->escape < 256 && kernels->escapes(p->symbols, p->rows * p->n, (uint8_t)a->wire->escape))
    put_escaped(l, a, s, at, row, column, p);
}
