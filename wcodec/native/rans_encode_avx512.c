/* Encoding of groups of 32 lanes with AVX-512. */
#include <immintrin.h>

#include "internal.h"

/* Frequency and start of two symbols, four places apart, in the lower half of a vector. */
WK_INLINE __m128i two(const wk_u32 *packed, const uint8_t *token, const uint8_t *table) {
  const uint32_t a = token[0] | (table ? (uint32_t)table[0] << 8 : 0),
                 b = token[4] | (table ? (uint32_t)table[4] << 8 : 0);
  return _mm_insert_epi32(_mm_cvtsi32_si128((int)packed[a]), (int)packed[b], 1);
}

WK_INLINE __m128i four(const wk_u32 *packed, const uint8_t *token, const uint8_t *table) {
  return _mm_unpacklo_epi64(two(packed, token, table), two(packed, token + 8, table ? table + 8 : NULL));
}

WK_INLINE __m512i sixteen(const wk_u32 *packed, const uint8_t *token, const uint8_t *table) {
  const __m128i a = four(packed, token, table), b = four(packed, token + 16, table ? table + 16 : NULL);
  const __m128i c = four(packed, token + 32, table ? table + 32 : NULL),
                d = four(packed, token + 48, table ? table + 48 : NULL);
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_set_m128i(b, a)), _mm256_set_m128i(d, c), 1);
}

WK_INLINE void encode(wk_writer *w, const int k, const int tables, const wk_coder *c, uint64_t groups) {
  const wk_u32 *packed = (const wk_u32 *)c->packed;
  const __m512i size = _mm512_set1_epi32(1 << c->precision), shift = _mm512_set1_epi32((int)c->precision);
  const __m512i shift_back = _mm512_set1_epi32(32 - (int)c->precision), sixteen_bits = _mm512_set1_epi32(0xFFFF);
  __m512i x[2][2];
  uint8_t *at[2];
  for (int i = 0; i < k; i++) {
    at[i] = w[i].at;
    for (int v = 0; v < 2; v++) x[i][v] = _mm512_loadu_si512(w[i].x + 16 * v);
  }
  for (uint64_t g = groups; g-- > 0;)
#pragma GCC unroll 4
    for (int j = 3; j >= 0; j--)
#pragma GCC unroll 2
      for (int v = 1; v >= 0; v--)
#pragma GCC unroll 2
        for (int i = 0; i < k; i++) {
          const uint64_t place = g * WK_GROUP + 64 * (unsigned)v + (unsigned)j;
          const __m512i entry = sixteen(packed, w[i].token + place, tables ? w[i].table + place : NULL);
          const __m512i f = _mm512_and_si512(entry, sixteen_bits), start = _mm512_srli_epi32(entry, 16);
          const __mmask16 emit = _mm512_cmpge_epu32_mask(_mm512_srlv_epi32(x[i][v], shift_back), f);
          const unsigned n = (unsigned)__builtin_popcount(emit);
          at[i] -= 2 * n;
          _mm256_mask_storeu_epi16(at[i], (__mmask16)((1u << n) - 1),
                                   _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(emit, x[i][v])));
          const __m512i y = _mm512_mask_srli_epi32(x[i][v], emit, x[i][v], 16);
          /* y / f < 2^22 for precision 10 and above: two roundings to 24 bits change the quotient by less than 1. */
          const __m512i q = _mm512_cvttps_epu32(_mm512_div_ps(_mm512_cvtepu32_ps(y), _mm512_cvtepi32_ps(f)));
          const __m512i r = _mm512_sub_epi32(y, _mm512_mullo_epi32(q, f)), step = _mm512_sub_epi32(size, f);
          const __mmask16 low = _mm512_movepi32_mask(r), high = _mm512_cmpge_epi32_mask(r, f);
          __m512i z = _mm512_add_epi32(_mm512_add_epi32(_mm512_sllv_epi32(q, shift), r), start);
          z = _mm512_mask_sub_epi32(z, low, z, step);
          x[i][v] = _mm512_mask_add_epi32(z, high, z, step);
        }
  for (int i = 0; i < k; i++) {
    w[i].at = at[i];
    for (int v = 0; v < 2; v++) _mm512_storeu_si512(w[i].x + 16 * v, x[i][v]);
  }
}

void wk_encode_avx512(wk_writer *w, int k, const wk_coder *c, uint64_t groups) {
  if (w->table) {
    if (k == 2) encode(w, 2, 1, c, groups);
    else encode(w, 1, 1, c, groups);
  } else {
    if (k == 2) encode(w, 2, 0, c, groups);
    else encode(w, 1, 0, c, groups);
  }
}
