/* Philox with AVX-512: eight counters, each of their four words in the low half of 64 bits; the high halves are noise. */
#include <immintrin.h>

#include "internal.h"

static void words(const wk_philox *p, uint64_t counter, uint64_t n, uint32_t *out) {
  const __m512i m0 = _mm512_set1_epi64(WK_PHILOX_0), m1 = _mm512_set1_epi64(WK_PHILOX_1);
  const __m512i id = _mm512_set1_epi64(p->id), stream = _mm512_set1_epi64(p->stream);
  const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), last = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  for (uint64_t i = 0; i < n; i += 8, out += 32) {
    __m512i x0 = _mm512_add_epi64(_mm512_set1_epi64((int64_t)(counter + i)), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    __m512i x1 = _mm512_srli_epi64(x0, 32), x2 = id, x3 = stream;
    for (int round = 0; round < 10; round++) {
      const __m512i a = _mm512_mul_epu32(m0, x0), b = _mm512_mul_epu32(m1, x2);
      const __m512i k0 = _mm512_set1_epi32((int)p->keys[round][0]), k1 = _mm512_set1_epi32((int)p->keys[round][1]);
      x0 = _mm512_ternarylogic_epi32(_mm512_shuffle_epi32(b, 0xF5), x1, k0, 0x96);
      x1 = b;
      x2 = _mm512_ternarylogic_epi32(_mm512_shuffle_epi32(a, 0xF5), x3, k1, 0x96);
      x3 = a;
    }
    const __m512i low = _mm512_mask_shuffle_epi32(x0, 0xAAAA, x1, 0xA0), high = _mm512_mask_shuffle_epi32(x2, 0xAAAA, x3, 0xA0);
    _mm512_storeu_si512(out, _mm512_permutex2var_epi64(low, first, high));
    _mm512_storeu_si512(out + 16, _mm512_permutex2var_epi64(low, last, high));
  }
}

#include "philox.h"

uint64_t wk_philox_avx512(const wk_philox *p, uint64_t start, uint64_t count, void *out) {
  return wk_run(p, start, count, out);
}
