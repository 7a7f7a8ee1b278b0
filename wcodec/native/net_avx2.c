/* Running a net with AVX2. */
#include <immintrin.h>

#define LANES 8
#define SUMS 8
#define pairs_times(acc, x, w) ((ints)_mm256_add_epi32((__m256i)(acc), _mm256_madd_epi16((__m256i)(x), (__m256i)(w))))
#define quads_times(acc, x, w) \
  ((ints)_mm256_add_epi32((__m256i)(acc), \
                          _mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)(x), (__m256i)(w)), _mm256_set1_epi16(1))))
#define limited(x, low, high) ((ints)_mm256_min_epi32(_mm256_max_epi32((__m256i)(x), (__m256i)(low)), (__m256i)(high)))
#define narrowed(x, size, out, stride) narrow((const __m256i *)(x), size, out, stride)

#include "internal.h"

WK_INLINE void narrow(const __m256i *x, int size, uint8_t *out, uint64_t stride) {
  const __m256i a = _mm256_packs_epi32(x[0], x[1]), b = _mm256_packs_epi32(x[2], x[3]);
  if (size == 2) {
    _mm256_storeu_si256((__m256i *)(void *)out, _mm256_permute4x64_epi64(a, 0xD8));
    _mm256_storeu_si256((__m256i *)(void *)(out + stride), _mm256_permute4x64_epi64(b, 0xD8));
  } else {
    const __m256i both = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(both));
    _mm_storeu_si128((__m128i *)(void *)(out + stride), _mm256_extracti128_si256(both, 1));
  }
}

#include "net.h"

WK_NET_OF(avx2)
