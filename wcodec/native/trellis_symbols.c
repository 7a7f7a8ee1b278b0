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

/* Put the escaped values of n symbols in their places. */
static void put_escaped(const wk_alphabet *a, wk_stream *s, const uint8_t *tokens, uint64_t n, wk_u16 *out) {
  const uint32_t shift = a->wire->bits + 1, below = (1u << shift) - 1;
  const uint8_t escape = (uint8_t)a->wire->escape;
  for (uint64_t i = 0; i < n; i += WK_LINE) {
    const uint64_t end = n - i < WK_LINE ? n : i + WK_LINE;
    uint8_t any = 0;
    for (uint64_t j = i; j < end; j++) any |= (tokens[j] & 0xFE) == escape; /* nearly never: no branches */
    for (uint64_t j = i; any && j < end; j++) {
      if ((tokens[j] & 0xFE) != escape) continue;
      uint32_t value = 0;
      if (s->escaped < s->escaped_end) value = *s->escaped++;
      else s->bad |= WCODEC_RANS3;
      (void)value;
      out[j] = (uint16_t)((value << shift | (out[j] & below)) & a->cut);
    }
  }
}

void wk_widen(const wk_alphabet *a, wk_stream *s, uint64_t at, const uint8_t *tokens, uint64_t rows, uint64_t n, wk_u16 *out) {
  const wk_kernels *kernels = wk_current();
  _Alignas(WK_LINE) uint8_t room[2 * (WK_TURN + 8)];
  for (uint64_t r = 0; r < rows; r++, at += a->cols) {
    const uint8_t *raw = a->raw_bytes ? raw_bits(a, at, n, room) : NULL;
    kernels->symbols(a, tokens + r * n, raw, a->raw_bytes, n, out + r * n);
  }
  if (a->wire->escape < 256) put_escaped(a, s, tokens, rows * n, out);
}
