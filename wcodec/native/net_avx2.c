/* Running a net with AVX2. */
#include <immintrin.h>

#define LANES 8
#define VECTORS 4
#define ROWS 2
#define pairs_times(acc, x, w) ((ints)_mm256_add_epi32((__m256i)(acc), _mm256_madd_epi16((__m256i)(x), (__m256i)(w))))
#define quads_times(acc, x, w) \
  ((ints)_mm256_add_epi32((__m256i)(acc), \
                          _mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)(x), (__m256i)(w)), _mm256_set1_epi16(1))))
#define limited(x, low, high) ((ints)_mm256_min_epi32(_mm256_max_epi32((__m256i)(x), (__m256i)(low)), (__m256i)(high)))

#include "net.h"

WK_NET_OF(avx2)
