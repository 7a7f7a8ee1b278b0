/* Philox with AVX2: four counters, each of their four words in the low half of 64 bits; the high halves are noise. */
#include <immintrin.h>

#include "internal.h"

static void words(const wk_philox *p, uint64_t counter, uint64_t n, uint32_t *out) {
  const __m256i m0 = _mm256_set1_epi64x(WK_PHILOX_0), m1 = _mm256_set1_epi64x(WK_PHILOX_1);
  const __m256i id = _mm256_set1_epi64x(p->id), stream = _mm256_set1_epi64x(p->stream);
  for (uint64_t i = 0; i < n; i += 4, out += 16) {
    __m256i x0 = _mm256_add_epi64(_mm256_set1_epi64x((int64_t)(counter + i)), _mm256_setr_epi64x(0, 1, 2, 3));
    __m256i x1 = _mm256_srli_epi64(x0, 32), x2 = id, x3 = stream;
    for (int round = 0; round < 10; round++) {
      const __m256i a = _mm256_mul_epu32(m0, x0), b = _mm256_mul_epu32(m1, x2);
      const __m256i k0 = _mm256_set1_epi32((int)p->keys[round][0]), k1 = _mm256_set1_epi32((int)p->keys[round][1]);
      x0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_shuffle_epi32(b, 0xF5), x1), k0);
      x1 = b;
      x2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_shuffle_epi32(a, 0xF5), x3), k1);
      x3 = a;
    }
    const __m256i low = _mm256_blend_epi32(x0, _mm256_slli_epi64(x1, 32), 0xAA);
    const __m256i high = _mm256_blend_epi32(x2, _mm256_slli_epi64(x3, 32), 0xAA);
    const __m256i even = _mm256_unpacklo_epi64(low, high), odd = _mm256_unpackhi_epi64(low, high);
    _mm256_storeu_si256((__m256i *)(void *)out, _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256((__m256i *)(void *)(out + 8), _mm256_permute2x128_si256(even, odd, 0x31));
  }
}

#include "philox.h"

uint64_t wk_philox_avx2(const wk_philox *p, uint64_t start, uint64_t count, void *out) {
  return wk_run(p, start, count, out);
}
