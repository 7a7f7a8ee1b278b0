/* Running a net with the dot products of AVX-512 VNNI. */
#include <immintrin.h>

#define LANES 16
#define SUMS 16
#define pairs_times(acc, x, w) ((ints)_mm512_dpwssd_epi32((__m512i)(acc), (__m512i)(x), (__m512i)(w)))
#define quads_times(acc, x, w) ((ints)_mm512_dpbusd_epi32((__m512i)(acc), (__m512i)(x), (__m512i)(w)))
#define limited(x, low, high) ((ints)_mm512_min_epi32(_mm512_max_epi32((__m512i)(x), (__m512i)(low)), (__m512i)(high)))
#define narrowed(x, size, out, stride) narrow((const __m512i *)(x), size, out, stride)

#include "internal.h"
#include "net_narrow.h"
#include "net.h"

WK_NET_OF(vnni)
