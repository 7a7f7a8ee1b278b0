/* Running a net with the dot products of AVX-512 VNNI. */
#include "net_avx512.h"

#define pairs_times(acc, x, w) ((ints)_mm512_dpwssd_epi32((__m512i)(acc), (__m512i)(x), (__m512i)(w)))
#define quads_times(acc, x, w) ((ints)_mm512_dpbusd_epi32((__m512i)(acc), (__m512i)(x), (__m512i)(w)))

#include "net.h"

WK_NET_OF(vnni)
