/* Philox words of one instruction set, and what becomes of them (rng.md). Before including this, define
 * `words(const wk_philox *p, uint64_t counter, uint64_t n, uint32_t *out)`: the 4 n words of n counters; n is a multiple
 * of WK_COUNTERS. */
#include "rounding.h"

enum {
  WK_COUNTERS = 8,  /* counters of two AVX2 vectors, or one of AVX-512 */
  WK_WORDS = 2048,  /* words that wait in the first-level cache */
};

/* fl(decay * fl(scale * number)) of n words, rounded while in registers. */
WK_INLINE void wk_uniform(const wk_philox *p, const uint32_t *w, uint64_t n, void *out) {
  const float scale = p->scale, decay = p->decay;
#define WK_NUMBER ((float)((int32_t)(w[i] >> 9 << 1 | 1) - (1 << 23)) * scale * decay)
  if (p->type == WCODEC_F32)
    for (uint64_t i = 0; i < n; i++) ((wk_f32 *)out)[i] = WK_NUMBER;
  else if (p->type == WCODEC_F64)
    for (uint64_t i = 0; i < n; i++) ((wk_f64 *)out)[i] = WK_NUMBER;
  else if (p->type == WCODEC_F16)
    for (uint64_t i = 0; i < n; i++) ((wk_u16 *)out)[i] = wk_to_f16(WK_NUMBER);
  else
    for (uint64_t i = 0; i < n; i++) ((wk_u16 *)out)[i] = wk_to_bf16(WK_NUMBER);
#undef WK_NUMBER
}

/* Finished magnitudes, and a sign. */
WK_INLINE void wk_normal(const wk_philox *p, const uint32_t *w, uint64_t n, void *restrict out) {
  const uint32_t *normal = p->normal;
  if (p->type == WCODEC_F32)
    for (uint64_t i = 0; i < n; i++) ((wk_u32 *)out)[i] = normal[w[i] >> 20] | (w[i] >> 19 & 1) << 31;
  else if (p->type == WCODEC_F64)
    for (uint64_t i = 0; i < n; i++) ((wk_f64 *)out)[i] = wk_float(normal[w[i] >> 20] | (w[i] >> 19 & 1) << 31);
  else
    for (uint64_t i = 0; i < n; i++) ((wk_u16 *)out)[i] = (uint16_t)(normal[w[i] >> 20] | (w[i] >> 19 & 1) << 15);
}

/* The elements that `n` words stand for; w[i] belongs to out[i]. Returns how many a draw keeps. */
WK_INLINE uint64_t wk_use(const wk_philox *p, const uint32_t *w, uint64_t n, void *out) {
  if (p->kind == WK_UNIFORM) wk_uniform(p, w, n, out);
  if (p->kind == WK_NORMAL) wk_normal(p, w, n, out);
  if (p->kind != WK_DRAW) return 0;
  uint8_t *mask = (uint8_t *)out;
  const uint32_t threshold = p->threshold;
  uint32_t kept = 0;
  for (uint64_t i = 0; i < n; i++) mask[i] = w[i] < threshold;
  for (uint64_t i = 0; i < n; i++) kept += mask[i];
  return kept;
}

WK_INLINE uint64_t wk_run(const wk_philox *p, uint64_t start, uint64_t count, void *out) {
  uint32_t w[WK_WORDS + 4 * WK_COUNTERS];
  const uint64_t size = p->kind == WK_DRAW ? 1 : p->type == WCODEC_F32 ? 4 : p->type == WCODEC_F64 ? 8 : 2;
  uint64_t kept = 0;
  while (count) {
    const uint64_t skip = start % 4, n = count < WK_WORDS ? count : WK_WORDS;
    const uint64_t counters = (skip + n + 3) / 4;
    words(p, start / 4, (counters + WK_COUNTERS - 1) / WK_COUNTERS * WK_COUNTERS, w);
    kept += wk_use(p, w + skip, n, out);
    out = (uint8_t *)out + n * size;
    start += n;
    count -= n;
  }
  return kept;
}
