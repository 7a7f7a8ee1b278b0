/* Running a net with AVX-512. */
#include "net_avx512.h"

#define pairs_times(acc, x, w) ((ints)_mm512_add_epi32((__m512i)(acc), _mm512_madd_epi16((__m512i)(x), (__m512i)(w))))
#define quads_times(acc, x, w) \
  ((ints)_mm512_add_epi32((__m512i)(acc), \
                          _mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)(x), (__m512i)(w)), _mm512_set1_epi16(1))))

#include "net.h"

WK_NET_OF(avx512)
