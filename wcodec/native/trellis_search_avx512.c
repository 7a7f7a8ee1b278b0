/* The Viterbi search with AVX-512. */
#include <immintrin.h>

#define LANES 16
typedef __mmask16 mask;
#define less(a, b) _mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_LT_OQ)
#define more_int(a, b) _mm512_cmpgt_epi32_mask((__m512i)(a), (__m512i)(b))
#define choose(m, a, b) ((floats)_mm512_mask_blend_ps(m, (__m512)(a), (__m512)(b)))
#define choose_int(m, a, b) ((ints)_mm512_mask_blend_epi32(m, (__m512i)(a), (__m512i)(b)))
#define mark(x, m, bit) ((words)_mm512_mask_or_epi32((__m512i)(x), m, (__m512i)(x), _mm512_set1_epi32((int)(bit))))
#define look_up(table, index) ((floats)_mm512_i32gather_ps((__m512i)(index), table, 4))
#define look_up_word(table, index) ((words)_mm512_i32gather_epi32((__m512i)(index), table, 4))

#include "trellis_search.h"

WK_SEARCH_OF(avx512)
