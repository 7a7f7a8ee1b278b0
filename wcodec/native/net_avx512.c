/* Running a net with AVX-512. */
#include <immintrin.h>

#define LANES 16
#define SUMS 16
#define pairs_times(acc, x, w) ((ints)_mm512_add_epi32((__m512i)(acc), _mm512_madd_epi16((__m512i)(x), (__m512i)(w))))
#define quads_times(acc, x, w) \
  ((ints)_mm512_add_epi32((__m512i)(acc), \
                          _mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)(x), (__m512i)(w)), _mm512_set1_epi16(1))))
#define limited(x, low, high) ((ints)_mm512_min_epi32(_mm512_max_epi32((__m512i)(x), (__m512i)(low)), (__m512i)(high)))
#define narrowed(x, size, out, stride) narrow((const __m512i *)(x), size, out, stride)

#include "internal.h"
#include "net_narrow.h"
#include "net.h"

WK_NET_OF(avx512)
