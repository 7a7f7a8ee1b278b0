/* Running a net with AVX-512: all but the products. */
#include <immintrin.h>

#include "internal.h"

#define LANES 16
#define SUMS 16
#define limited(x, low, high) ((ints)_mm512_min_epi32(_mm512_max_epi32((__m512i)(x), (__m512i)(low)), (__m512i)(high)))
#define narrowed(x, size, out, stride) narrow((const __m512i *)(x), size, out, stride)

WK_INLINE void narrow(const __m512i *x, int size, uint8_t *out, uint64_t stride) {
  for (int c = 0; c < 2; c++)
    if (size == 2)
      _mm256_storeu_si256((__m256i *)(void *)(out + c * stride), _mm512_cvtepi32_epi16(x[c]));
    else
      _mm_storeu_si128((__m128i *)(void *)(out + c * stride), _mm512_cvtepi32_epi8(x[c]));
}
