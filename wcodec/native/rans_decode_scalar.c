/* Decoding step by step: any number of lanes, cut-off groups, and the last word on damaged blocks. */
#include "internal.h"

/* Decode a group of at most 4 * lanes symbols. roomy: it has words enough, whatever they are. */
WK_INLINE void group(wk_stream *s, uint32_t *x, const wk_model *m, const uint32_t lanes, const int context,
                     const int roomy, uint32_t n) {
  /* Copies: a token may be stored anywhere, so the compiler would load everything again after each. */
  const uint32_t precision = m->precision, mask = (1u << precision) - 1;
  const wk_u32 *const lut = (const wk_u32 *)m->lut + (context == WCODEC_TRELLIS ? s->first[0] : 0);
  const uint8_t *at = s->at;
  uint8_t *const token = s->token, *const table = s->table, *const trellis = s->trellis, h0 = m->h0, h1 = m->h1;
  int bad = 0;
  for (uint32_t j = 0; j < 4; j++)
    for (uint32_t lane = 0; lane < lanes; lane++) {
      const uint32_t position = 4 * lane + j;
      if (position >= n) break;
      uint32_t state = x[lane], slot = state & mask, z0 = 0;
      if (context == WCODEC_CLASSES) slot |= (uint32_t)table[position] << precision;
      if (context == WCODEC_TRELLIS) {
        table[position] = z0 = trellis[position] & 1;
        slot |= z0 << precision;
      }
      const uint32_t entry = lut[slot];
      if (context != WCODEC_NONE) bad |= entry == 0 ? WCODEC_E7 : 0;
      token[position] = (uint8_t)(entry >> 24);
      if (context == WCODEC_TRELLIS) {
        const uint32_t z1 = entry >> 24 & 1;
        trellis[position] = (uint8_t)((trellis[position] >> 1) ^ (h0 & -z0) ^ (h1 & -z1));
      }
      state = (entry & 0xFFF) * (state >> precision) + (entry >> 12 & 0xFFF);
      uint32_t take = state < WK_LOW;
      if (roomy) {
#if defined(__GNUC__)
        __asm__("" : "+r"(take)); /* gcc would make a branch of it, which is wrong every third time */
#endif
        const uint32_t longer = state << 16 | *(const wk_u16 *)at;
        state ^= (state ^ longer) & (0u - take);
        at += 2 * take;
      } else if (take) { /* words that are not there are 0, so that every machine says the same about a damaged block */
        uint32_t word = 0;
        if (at < s->end) {
          word = *(const wk_u16 *)at;
          at += 2;
        } else {
          bad |= WCODEC_E6;
        }
        state = state << 16 | word;
      }
      x[lane] = state;
    }
  s->at = at;
  s->bad |= bad;
}

WK_INLINE void run(wk_stream *s, const wk_model *m, const uint32_t lanes, const int context, uint64_t n) {
  const uint32_t size = 4 * lanes;
  uint8_t *const trellis = s->trellis;
  uint32_t x[WK_WIDE];
  memcpy(x, s->x, 4 * lanes);
  while (n) {
    const uint32_t here = n < size ? (uint32_t)n : size;
    if (here == size && s->end - s->at >= 2 * (ptrdiff_t)size) group(s, x, m, lanes, context, 1, size);
    else group(s, x, m, lanes, context, 0, here);
    s->token += here;
    if (context != WCODEC_NONE) s->table += here;
    if (context == WCODEC_TRELLIS) {
      s->trellis += here;
      if (s->trellis == trellis + s->width) s->trellis = trellis;
    }
    n -= here;
  }
  memcpy(s->x, x, 4 * lanes);
}

WK_INLINE void any_context(wk_stream *s, const wk_model *m, const uint32_t lanes, uint64_t n) {
  if (m->context == WCODEC_NONE) run(s, m, lanes, WCODEC_NONE, n);
  else if (m->context == WCODEC_CLASSES) run(s, m, lanes, WCODEC_CLASSES, n);
  else run(s, m, lanes, WCODEC_TRELLIS, n);
}

void wk_decode_scalar(wk_stream *s, const wk_model *m, uint32_t lanes, uint64_t n) {
  if (lanes == 32) any_context(s, m, 32, n);
  else if (lanes == 4) any_context(s, m, 4, n);
  else any_context(s, m, 1, n);
}
