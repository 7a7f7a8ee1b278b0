/* Decoding step by step: any number of lanes, cut-off groups, and the last word on damaged blocks. */
#include "internal.h"

/* Decode a group of at most 4 * lanes symbols. roomy: it has words enough, whatever they are. */
WK_INLINE void group(wk_stream *s, const wk_model *m, const uint32_t lanes, const int context, const int roomy, uint32_t n) {
  const uint32_t mask = (1u << m->precision) - 1;
  const uint8_t *at = s->at;
  for (uint32_t j = 0; j < 4; j++)
    for (uint32_t lane = 0; lane < lanes; lane++) {
      const uint32_t position = 4 * lane + j;
      if (position >= n) break;
      uint32_t x = s->x[lane], slot = x & mask, z0 = 0;
      if (context == WCODEC_CLASSES) slot |= (uint32_t)s->table[position] << m->precision;
      if (context == WCODEC_TRELLIS) {
        z0 = s->trellis[position] & 1;
        slot |= z0 << m->precision;
      }
      const uint32_t entry = ((const wk_u32 *)m->lut)[slot];
      if (context != WCODEC_NONE && entry == 0) s->bad |= WCODEC_E7;
      s->token[position] = (uint8_t)(entry >> 24);
      if (context == WCODEC_TRELLIS) {
        const uint32_t z1 = entry >> 24 & 1;
        s->trellis[position] = (uint8_t)((s->trellis[position] >> 1) ^ (m->h0 & -z0) ^ (m->h1 & -z1));
      }
      x = (entry & 0xFFF) * (x >> m->precision) + (entry >> 12 & 0xFFF);
      uint32_t take = x < WK_LOW;
      if (roomy) {
#if defined(__GNUC__)
        __asm__("" : "+r"(take)); /* gcc would make a branch of it, which is wrong every third time */
#endif
        const uint32_t longer = x << 16 | *(const wk_u16 *)at;
        x ^= (x ^ longer) & (0u - take);
        at += 2 * take;
      } else if (take) { /* words that are not there are 0, so that every machine says the same about a damaged block */
        uint32_t word = 0;
        if (at < s->end) {
          word = *(const wk_u16 *)at;
          at += 2;
        } else {
          s->bad |= WCODEC_E6;
        }
        x = x << 16 | word;
      }
      s->x[lane] = x;
    }
  s->at = at;
}

WK_INLINE void run(wk_stream *s, const wk_model *m, const uint32_t lanes, const int context, uint64_t n) {
  const uint32_t size = 4 * lanes;
  while (n) {
    const uint32_t here = n < size ? (uint32_t)n : size;
    if (here == size && s->end - s->at >= 2 * (ptrdiff_t)size)
      group(s, m, lanes, context, 1, size);
    else
      group(s, m, lanes, context, 0, here);
    s->token += here;
    s->table += here;
    if (context == WCODEC_TRELLIS) s->trellis += m->step ? here : 0;
    n -= here;
  }
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
