/* Philox words of one instruction set, and what becomes of them (rng.md). Before including this, define
 * `words(const wk_philox *p, uint64_t counter, uint64_t n, uint32_t *out)`: the 4 n words of n counters; n is a multiple
 * of WK_COUNTERS. */
#include "internal.h"

enum {
  WK_COUNTERS = 8,  /* counters of two AVX2 vectors, or one of AVX-512 */
  WK_WORDS = 2048,  /* words that wait in the first-level cache */
};

/* The elements that `n` words stand for; w[i] belongs to out[i]. Returns how many a draw keeps. */
WK_INLINE uint64_t wk_use(const wk_philox *p, const uint32_t *w, uint64_t n, void *out) {
  if (p->kind == WK_DRAW) {
    uint8_t *mask = (uint8_t *)out;
    const uint32_t threshold = p->threshold;
    uint32_t kept = 0;
    for (uint64_t i = 0; i < n; i++) mask[i] = w[i] < threshold;
    for (uint64_t i = 0; i < n; i++) kept += mask[i];
    return kept;
  }
  if (p->kind == WK_UNIFORM) {
    wk_f32 *x = (wk_f32 *)out;
    const float scale = p->scale, decay = p->decay;
    for (uint64_t i = 0; i < n; i++) {
      const float r = (float)((int32_t)(w[i] >> 9 << 1 | 1) - (1 << 23));
      x[i] = r * scale * decay;
    }
    return 0;
  }
  wk_u32 *x = (wk_u32 *)out;
  for (uint64_t i = 0; i < n; i++) x[i] = p->normal[w[i] >> 20] | (w[i] >> 19 & 1) << 31;
  return 0;
}

WK_INLINE uint64_t wk_run(const wk_philox *p, uint64_t start, uint64_t count, void *out) {
  uint32_t w[WK_WORDS + 4 * WK_COUNTERS];
  const uint64_t size = p->kind == WK_DRAW ? 1 : 4;
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
