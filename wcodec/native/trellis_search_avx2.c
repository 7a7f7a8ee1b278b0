/* The Viterbi search with AVX2. */
#include <immintrin.h>

#define LANES 8
typedef __m256i mask;
#define less(a, b) _mm256_castps_si256(_mm256_cmp_ps((__m256)(a), (__m256)(b), _CMP_LT_OQ))
#define more_int(a, b) _mm256_cmpgt_epi32((__m256i)(a), (__m256i)(b))
#define choose(m, a, b) ((floats)_mm256_blendv_ps((__m256)(a), (__m256)(b), _mm256_castsi256_ps(m)))
#define choose_int(m, a, b) ((ints)_mm256_blendv_epi8((__m256i)(a), (__m256i)(b), m))
#define mark(x, m, bit) ((words)((__m256i)(x) | ((m) & _mm256_set1_epi32((int)(bit)))))
#define look_up(table, index) ((floats)_mm256_i32gather_ps(table, (__m256i)(index), 4))
#define look_up_word(table, index) ((words)_mm256_i32gather_epi32((const int *)(table), (__m256i)(index), 4))

#include "trellis_search.h"

WK_SEARCH_OF(avx2)
