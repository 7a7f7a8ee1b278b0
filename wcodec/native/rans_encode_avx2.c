/* Encoding of groups of 32 lanes with AVX2. */
#include <immintrin.h>

#include "internal.h"
#include "spread.h"

/* Frequency and start of two symbols, four places apart, in the lower half of a vector. */
WK_INLINE __m128i two(const wk_u32 *packed, const uint8_t *token, const uint8_t *table) {
  const uint32_t a = token[0] | (table ? (uint32_t)table[0] << 8 : 0),
                 b = token[4] | (table ? (uint32_t)table[4] << 8 : 0);
  return _mm_insert_epi32(_mm_cvtsi32_si128((int)packed[a]), (int)packed[b], 1);
}

WK_INLINE __m256i eight(const wk_u32 *packed, const uint8_t *token, const uint8_t *table) {
  const __m128i a = two(packed, token, table), b = two(packed, token + 8, table ? table + 8 : NULL);
  const __m128i c = two(packed, token + 16, table ? table + 16 : NULL),
                d = two(packed, token + 24, table ? table + 24 : NULL);
  return _mm256_set_m128i(_mm_unpacklo_epi64(c, d), _mm_unpacklo_epi64(a, b));
}

/* Unsigned numbers to floats: AVX2 converts signed ones only; the halves are exact, so there is one rounding. */
WK_INLINE __m256 to_float(__m256i y) {
  const __m256 high = _mm256_cvtepi32_ps(_mm256_srli_epi32(y, 16)),
               low = _mm256_cvtepi32_ps(_mm256_and_si256(y, _mm256_set1_epi32(0xFFFF)));
  return _mm256_add_ps(_mm256_mul_ps(high, _mm256_set1_ps(65536.0f)), low);
}

WK_INLINE void encode(wk_writer *w, const int k, const int tables, const wk_coder *c, uint64_t groups) {
  const wk_u32 *packed = (const wk_u32 *)c->packed;
  const __m256i size = _mm256_set1_epi32(1 << c->precision), shift = _mm256_set1_epi32((int)c->precision);
  const __m256i shift_back = _mm256_set1_epi32(32 - (int)c->precision), sixteen_bits = _mm256_set1_epi32(0xFFFF);
  const __m256i zero = _mm256_setzero_si256();
  __m256i x[2][4];
  uint8_t *at[2];
  for (int i = 0; i < k; i++) {
    at[i] = w[i].at;
    for (int v = 0; v < 4; v++) x[i][v] = _mm256_loadu_si256((const __m256i *)(const void *)(w[i].x + 8 * v));
  }
  for (uint64_t g = groups; g-- > 0;)
#pragma GCC unroll 4
    for (int j = 3; j >= 0; j--)
#pragma GCC unroll 4
      for (int v = 3; v >= 0; v--)
#pragma GCC unroll 2
        for (int i = 0; i < k; i++) {
          const uint64_t place = g * WK_GROUP + 32 * (unsigned)v + (unsigned)j;
          const __m256i entry = eight(packed, w[i].token + place, tables ? w[i].table + place : NULL);
          const __m256i f = _mm256_and_si256(entry, sixteen_bits), start = _mm256_srli_epi32(entry, 16);
          const __m256i keep = _mm256_cmpgt_epi32(f, _mm256_srlv_epi32(x[i][v], shift_back));
          const unsigned emit = ~(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(keep)) & 0xFF;
          const __m256i halves = _mm256_packus_epi32(_mm256_and_si256(x[i][v], sixteen_bits), zero);
          const __m128i words = _mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0x08));
          const __m128i order = _mm_load_si128((const __m128i *)(const void *)wk_pack[emit]);
          /* The words end at `at`; what is written below them is overwritten later or not used. */
          _mm_storeu_si128((__m128i *)(void *)(at[i] - 16), _mm_shuffle_epi8(words, order));
          at[i] -= 2 * (size_t)__builtin_popcount(emit);
          const __m256i y = _mm256_blendv_epi8(_mm256_srli_epi32(x[i][v], 16), x[i][v], keep);
          /* y / f < 2^22 for precision 10 and above: two roundings to 24 bits change the quotient by less than 1. */
          const __m256i q = _mm256_cvttps_epi32(_mm256_div_ps(to_float(y), _mm256_cvtepi32_ps(f)));
          const __m256i r = _mm256_sub_epi32(y, _mm256_mullo_epi32(q, f)), step = _mm256_sub_epi32(size, f);
          const __m256i low = _mm256_srai_epi32(r, 31), fits = _mm256_cmpgt_epi32(f, r);
          const __m256i z = _mm256_add_epi32(_mm256_add_epi32(_mm256_sllv_epi32(q, shift), r), start);
          x[i][v] = _mm256_add_epi32(_mm256_sub_epi32(z, _mm256_and_si256(low, step)), _mm256_andnot_si256(fits, step));
        }
  for (int i = 0; i < k; i++) {
    w[i].at = at[i];
    for (int v = 0; v < 4; v++) _mm256_storeu_si256((__m256i *)(void *)(w[i].x + 8 * v), x[i][v]);
  }
}

void wk_encode_avx2(wk_writer *w, int k, const wk_coder *c, uint64_t groups) {
  if (w->table) {
    if (k == 2) encode(w, 2, 1, c, groups);
    else encode(w, 1, 1, c, groups);
  } else {
    if (k == 2) encode(w, 2, 0, c, groups);
    else encode(w, 1, 0, c, groups);
  }
}
