/* Encoding of groups of 32 lanes with AVX-512 VBMI and VBMI2: one table, precision 11 or 12.
 *
 * Two vectors hold the states of the even and of the odd lanes, so that the halves of all 32 interleave to vectors of
 * 16-bit numbers in the order of the lanes. What the table says of a token stands in byte planes, which byte
 * permutations look up. */
#include <immintrin.h>

#include "internal.h"

enum { ODD = (int)0xAAAAAAAA, TRUNCATE = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC };

/* Even 16-bit numbers of a, odd ones of b. */
WK_INLINE __m512i blend(__m512i a, __m512i b) { return _mm512_mask_blend_epi16((__mmask32)ODD, a, b); }

/* A byte of every token's entry; tokens that are used differ modulo `modulus`. */
WK_INLINE __m512i look_up(const uint8_t *plane, __m512i token, const int modulus) {
  const __m512i a = _mm512_loadu_si512(plane);
  if (modulus == 64) return _mm512_permutexvar_epi8(token, a);
  const __m512i low = _mm512_permutex2var_epi8(a, token, _mm512_loadu_si512(plane + 64));
  if (modulus == 128) return low;
  const __m512i high =
      _mm512_permutex2var_epi8(_mm512_loadu_si512(plane + 128), token, _mm512_loadu_si512(plane + 192));
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(token), low, high);
}

/* 1 / f, never too large, less than 2^-22 of it too small. */
WK_INLINE __m512 inverse(__m512i f) {
  const __m512 g = _mm512_cvtepi32_ps(f), r = _mm512_rcp14_ps(g);
  const __m512 e = _mm512_fnmadd_round_ps(g, r, _mm512_set1_ps(2.0f), TRUNCATE);
  return _mm512_mul_round_ps(r, e, TRUNCATE);
}

WK_INLINE __m512i quotient(__m512i y, __m512 inverse_f) {
  return _mm512_cvttps_epu32(_mm512_mul_round_ps(_mm512_cvt_roundepu32_ps(y, TRUNCATE), inverse_f, TRUNCATE));
}

/* Frequencies and starts of the 128 tokens of a group: step j of all lanes in f[j] and s[j]. */
WK_INLINE void entries(const wk_coder *c, const uint8_t *token, const int modulus, __m512i *f, __m512i *s) {
  const __m512i by_step = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 8, 12, 9, 13, 16, 20, 17, 21, 24, 28, 25, 29);
  const __m512i a = _mm512_shuffle_epi8(_mm512_loadu_si512(token), by_step);
  const __m512i b = _mm512_shuffle_epi8(_mm512_loadu_si512(token + 64), by_step);
#pragma GCC unroll 2
  for (int half = 0; half < 2; half++) {
    const __m512i t = _mm512_permutex2var_epi32(a, _mm512_add_epi32(order, _mm512_set1_epi32(2 * half)), b);
    const __m512i f0 = look_up(c->planes[0], t, modulus), f1 = look_up(c->planes[1], t, modulus);
    const __m512i s0 = look_up(c->planes[2], t, modulus), s1 = look_up(c->planes[3], t, modulus);
    f[2 * half] = _mm512_unpacklo_epi8(f0, f1);
    f[2 * half + 1] = _mm512_unpackhi_epi8(f0, f1);
    s[2 * half] = _mm512_unpacklo_epi8(s0, s1);
    s[2 * half + 1] = _mm512_unpackhi_epi8(s0, s1);
  }
}

WK_INLINE void encode(wk_writer *w, const int k, const int modulus, const wk_coder *c, uint64_t groups) {
  const __m512i low = _mm512_set1_epi32(0xFFFF), size = _mm512_set1_epi16((short)(1 << c->precision));
  const __m128i shift = _mm_cvtsi32_si128((int)c->precision), back = _mm_cvtsi32_si128(16 - (int)c->precision);
  const __m512i evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
  __m512i even[2], odd[2];
  uint8_t *at[2];
  for (int i = 0; i < k; i++) {
    const __m512i a = _mm512_loadu_si512(w[i].x), b = _mm512_loadu_si512(w[i].x + 16);
    even[i] = _mm512_permutex2var_epi32(a, evens, b);
    odd[i] = _mm512_permutex2var_epi32(a, odds, b);
    at[i] = w[i].at;
  }
  for (uint64_t g = groups; g-- > 0;) {
    __m512i f[2][4], s[2][4];
    for (int i = 0; i < k; i++) entries(c, w[i].token + g * WK_GROUP, modulus, f[i], s[i]);
#pragma GCC unroll 4
    for (int j = 3; j >= 0; j--)
#pragma GCC unroll 2
      for (int i = 0; i < k; i++) {
        const __m512i its = f[i][j];
        const __m512i upper = blend(_mm512_srli_epi32(even[i], 16), odd[i]);
        const __m512i lower = blend(even[i], _mm512_slli_epi32(odd[i], 16));
        const __mmask32 emit = _mm512_cmpge_epu16_mask(_mm512_srl_epi16(upper, back), its);
        const unsigned n = (unsigned)__builtin_popcount(emit);
        at[i] -= 2 * n;
        _mm512_mask_storeu_epi16(at[i], (__mmask32)((1ull << n) - 1), _mm512_maskz_compress_epi16(emit, lower));
        /* y, the state after it gave a word: its lower and upper halves */
        const __m512i y = _mm512_mask_blend_epi16(emit, lower, upper);
        const __m512i above = _mm512_maskz_mov_epi16(_knot_mask32(emit), upper);
        /* y / f < 2^21: roundings of less than 2^-21 altogether leave the quotient right or 1 too small. */
        const __m512i q0 = quotient(blend(y, _mm512_slli_epi32(above, 16)), inverse(_mm512_and_si512(its, low)));
        const __m512i q1 = quotient(blend(_mm512_srli_epi32(y, 16), above), inverse(_mm512_srli_epi32(its, 16)));
        const __m512i r = _mm512_sub_epi16(y, _mm512_mullo_epi16(blend(q0, _mm512_slli_epi32(q1, 16)), its));
        const __m512i z = _mm512_add_epi16(r, s[i][j]);
        const __m512i slot = _mm512_mask_add_epi16(z, _mm512_cmpge_epu16_mask(r, its), z, _mm512_sub_epi16(size, its));
        even[i] = _mm512_add_epi32(_mm512_sll_epi32(q0, shift), _mm512_and_si512(slot, low));
        odd[i] = _mm512_add_epi32(_mm512_sll_epi32(q1, shift), _mm512_srli_epi32(slot, 16));
      }
  }
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  for (int i = 0; i < k; i++) {
    _mm512_storeu_si512(w[i].x, _mm512_permutex2var_epi32(even[i], first, odd[i]));
    _mm512_storeu_si512(w[i].x + 16, _mm512_permutex2var_epi32(even[i], second, odd[i]));
    w[i].at = at[i];
  }
}

#define BY_BLOCKS(modulus)                        \
  if (k == 2) encode(w, 2, modulus, c, groups);   \
  else encode(w, 1, modulus, c, groups);

void wk_encode_vbmi(wk_writer *w, int k, const wk_coder *c, uint64_t groups) {
  if (w->table || c->precision < 11) {
    wk_encode_avx512(w, k, c, groups);
    return;
  }
  if (c->modulus == 64) { BY_BLOCKS(64) }
  else if (c->modulus == 128) { BY_BLOCKS(128) }
  else { BY_BLOCKS(256) }
}
