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

typedef uint8_t sixteen __attribute__((vector_size(16)));

/* Mark the escapes of a line of tokens by bytes of ones. Returns 0 when there are none. */
WK_INLINE uint64_t find_escapes(const uint8_t *tokens, uint8_t escape, uint64_t *marks) {
  sixteen its[4];
  uint64_t any = 0;
  memcpy(its, tokens, WK_LINE);
  for (int k = 0; k < 4; k++) its[k] = (sixteen)((its[k] & 0xFE) == escape);
  memcpy(marks, its, WK_LINE);
  its[0] = (its[0] | its[1]) | (its[2] | its[3]);
  for (int k = 0; k < 2; k++) any |= ((const uint64_t *)its)[k];
  return any;
}

/* Put the escaped values of n symbols in their places. They are rare: a line of tokens without one is left at once. */
static void put_escaped(const wk_alphabet *a, wk_stream *s, const uint8_t *tokens, uint64_t n, wk_u16 *out) {
  const uint32_t shift = a->wire->bits + 1, below = (1u << shift) - 1;
  for (uint64_t i = 0; i < n; i += WK_LINE) {
    uint8_t last[WK_LINE] = {0};
    uint64_t marks[WK_LINE / 8];
    const int whole = n - i >= WK_LINE;
    if (!whole) memcpy(last, tokens + i, n - i);
    if (!find_escapes(whole ? tokens + i : last, (uint8_t)a->wire->escape, marks)) continue;
    for (int k = 0; k < WK_LINE / 8; k++)
      for (uint32_t bit; marks[k]; marks[k] &= ~(0xFFull << bit)) {
        bit = (uint32_t)__builtin_ctzll(marks[k]);
        const uint64_t at = i + 8 * (uint64_t)k + bit / 8;
        if (at >= n) break;
        uint32_t value = 0;
        if (s->escaped < s->escaped_end) value = *s->escaped++;
        else s->bad |= WCODEC_RANS3;
        out[at] = (uint16_t)((value << shift | (out[at] & below)) & a->cut);
      }
  }
}

void wk_widen(const wk_alphabet *a, wk_stream *s, uint64_t at, const uint8_t *tokens, uint64_t rows, uint64_t n, wk_u16 *out) {
  const wk_kernels *kernels = wk_current();
  _Alignas(WK_LINE) uint8_t room[2 * (WK_TURN + 8)];
  if (!a->raw_bytes) kernels->symbols(a, tokens, NULL, 0, rows * n, out);
  for (uint64_t r = 0; a->raw_bytes && r < rows; r++, at += a->cols) {
    kernels->symbols(a, tokens + r * n, raw_bits(a, at, n, room), a->raw_bytes, n, out + r * n);
    fetch_raw(a, at + rows * a->cols, n);
  }
  if (a->wire->escape < 256) put_escaped(a, s, tokens, rows * n, out);
}
