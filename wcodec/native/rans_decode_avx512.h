/* Groups of 32 lanes with AVX-512: two vectors of 16 states per block. Included once for processors with GFNI, and once for the others. */
#include <immintrin.h>

#include "internal.h"

/* Table entries of four slots. Scalar loads: gathers are slower on many processors, and much slower on those with
 * microcode against data sampling. */
WK_INLINE __m128i look_up_4(const wk_u32 *lut, const uint32_t *slot) {
  const __m128i low = _mm_insert_epi32(_mm_cvtsi32_si128((int)lut[slot[0]]), (int)lut[slot[1]], 1);
  const __m128i high = _mm_insert_epi32(_mm_cvtsi32_si128((int)lut[slot[2]]), (int)lut[slot[3]], 1);
  return _mm_unpacklo_epi64(low, high);
}

/* Slots go through memory, which keeps the ports for shuffles free; in halves, as processors pass single slots of a
 * 64-byte store to loads too slowly. */
WK_INLINE __m512i look_up_16(const wk_u32 *lut, __m512i slots) {
  _Alignas(64) uint32_t slot[16];
  _mm256_store_si256((__m256i *)(void *)slot, _mm512_castsi512_si256(slots));
  _mm256_store_si256((__m256i *)(void *)(slot + 8), _mm512_extracti64x4_epi64(slots, 1));
  __asm__("" : "+m"(slot)); /* or the compiler sees through it and shuffles */
  const __m256i low = _mm256_set_m128i(look_up_4(lut, slot + 4), look_up_4(lut, slot));
  const __m256i high = _mm256_set_m128i(look_up_4(lut, slot + 12), look_up_4(lut, slot + 8));
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* 64 shift registers, a byte each, after another symbol's parity. */
#ifdef __GFNI__
typedef struct {
  __m512i state, parity; /* matrices over bits: row i, byte 7 - i, makes bit i */
} shift_plan;

WK_INLINE shift_plan plan_of(const wk_model *m) {
  uint64_t state = 0, parity = 0;
  for (int i = 0; i < 8; i++) {
    state |= (uint64_t)((i < 7 ? 2u << i : 0) | (m->h0 >> i & 1)) << 8 * (7 - i);
    parity |= (uint64_t)(m->h1 >> i & 1) << 8 * (7 - i);
  }
  return (shift_plan){_mm512_set1_epi64((long long)state), _mm512_set1_epi64((long long)parity)};
}

WK_INLINE __m512i shifted(const shift_plan *plan, __m512i state, __m512i token) {
  const __m512i next = _mm512_gf2p8affine_epi64_epi8(state, plan->state, 0);
  return _mm512_xor_si512(next, _mm512_gf2p8affine_epi64_epi8(token, plan->parity, 0));
}
#else
typedef struct {
  __m512i h0, h1;
} shift_plan;

WK_INLINE shift_plan plan_of(const wk_model *m) {
  return (shift_plan){_mm512_set1_epi8((char)m->h0), _mm512_set1_epi8((char)m->h1)};
}

WK_INLINE __m512i shifted(const shift_plan *plan, __m512i state, __m512i token) { /* a ^ (b & c) */
  const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi8(1);
  const __m512i half = _mm512_and_si512(_mm512_srli_epi32(state, 1), _mm512_set1_epi8(0x7F));
  const __m512i m0 = _mm512_sub_epi8(zero, _mm512_and_si512(state, one)), m1 = _mm512_sub_epi8(zero, _mm512_and_si512(token, one));
  return _mm512_ternarylogic_epi32(_mm512_ternarylogic_epi32(half, m0, plan->h0, 0x78), m1, plan->h1, 0x78);
}
#endif

/* watch: look out for unused tables. */
WK_INLINE void decode(wk_stream *s, const int k, const int context, const int gather, const int watch, const wk_model *m,
                      uint64_t groups) {
  const wk_u32 *lut = (const wk_u32 *)m->lut;
  const __m512i twelve = _mm512_set1_epi32(0xFFF), top = _mm512_set1_epi32((int)0xFF000000),
                low = _mm512_set1_epi32(WK_LOW);
  const __m512i slots = _mm512_set1_epi32((1 << m->precision) - 1), shift = _mm512_set1_epi32((int)m->precision);
  const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi8(1), byte = _mm512_set1_epi32(0xFF);
  const __m512i size = _mm512_set1_epi32(1 << m->precision);
  __m512i turn[4];
  for (int j = 0; j < 4; j++) turn[j] = _mm512_set1_epi32((int)(m->precision - 8 * (unsigned)j) & 31);
  __m512i x[WK_FLIGHT][2], token[WK_FLIGHT][2], table[WK_FLIGHT][2], seen = top;
  const uint8_t *at[WK_FLIGHT];
  const wk_u32 *tables[WK_FLIGHT];
  const shift_plan shifts = plan_of(m);
  uint32_t column = 0;
  for (int i = 0; i < k; i++) {
    at[i] = s[i].at;
    for (int v = 0; v < 2; v++) x[i][v] = _mm512_loadu_si512(s[i].x + 16 * v);
  }
  for (uint64_t g = 0; g < groups; g++) {
    for (int i = 0; i < k; i++)
      if (__builtin_expect(at[i] > s[i].limit, 0)) {
        s[i].at = at[i];
        wk_refill(&s[i]);
        at[i] = s[i].at;
      }
    if (context == WCODEC_CLASSES)
      for (int i = 0; i < k; i++)
        for (int v = 0; v < 2; v++) table[i][v] = _mm512_loadu_si512(s[i].table + g * WK_GROUP + 64 * v);
    for (int i = 0; i < k; i++) tables[i] = lut + (context == WCODEC_TRELLIS ? s[i].first[g] : 0);
    if (context == WCODEC_TRELLIS)
      for (int i = 0; i < k; i++)
        for (int v = 0; v < 2; v++) {
          table[i][v] = _mm512_and_si512(_mm512_loadu_si512(s[i].trellis + column + 64 * v), one);
          _mm512_storeu_si512(s[i].table + g * WK_GROUP + 64 * v, table[i][v]);
        }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
#pragma GCC unroll 4
      for (int i = 0; i < k; i++)
#pragma GCC unroll 2
        for (int v = 0; v < 2; v++) {
          __m512i slot = _mm512_and_si512(x[i][v], slots);
          if (context == WCODEC_TRELLIS) /* bit 8 j of the table goes to the place above the slot: (a & b) | c */
            slot = _mm512_ternarylogic_epi32(_mm512_rolv_epi32(table[i][v], turn[j]), size, slot, 0xEA);
          if (context == WCODEC_CLASSES) {
            __m512i t = _mm512_and_si512(_mm512_srli_epi32(table[i][v], (unsigned)(8 * j)), byte);
            slot = _mm512_or_si512(slot, _mm512_sllv_epi32(t, shift));
          }
          const __m512i entry = gather ? _mm512_i32gather_epi32(slot, (const int *)(const void *)tables[i], 4) : look_up_16(tables[i], slot);
          if (watch) seen = _mm512_min_epu32(seen, entry);
          const __m512i bias = _mm512_and_si512(_mm512_srli_epi32(entry, 12), twelve);
          const __m512i y = _mm512_add_epi32(
              _mm512_mullo_epi32(_mm512_and_si512(entry, twelve), _mm512_srlv_epi32(x[i][v], shift)), bias);
          const __mmask16 take = _mm512_cmplt_epu32_mask(y, low);
          const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)at[i]));
          x[i][v] = _mm512_or_si512(_mm512_mask_slli_epi32(y, take, y, 16), _mm512_maskz_expand_epi32(take, words));
          at[i] += 2 * (size_t)__builtin_popcount(take);
          /* Four tokens of a lane stand side by side: a | (b & c). */
          token[i][v] = j == 0 ? _mm512_and_si512(entry, top)
                               : _mm512_ternarylogic_epi32(_mm512_srli_epi32(token[i][v], 8), entry, top, 0xF8);
        }
    for (int i = 0; i < k; i++)
      for (int v = 0; v < 2; v++) {
        _mm512_storeu_si512(s[i].token + g * WK_GROUP + 64 * v, token[i][v]);
        if (context == WCODEC_TRELLIS) {
          uint8_t *state = s[i].trellis + column + 64 * v;
          _mm512_storeu_si512(state, shifted(&shifts, _mm512_loadu_si512(state), token[i][v]));
        }
      }
    column += WK_GROUP; /* all have the same width */
    if (context == WCODEC_TRELLIS && column == s[0].width) column = 0;
  }
  const int unused = watch && _mm512_cmpeq_epi32_mask(seen, zero) != 0;
  for (int i = 0; i < k; i++) {
    s[i].at = at[i];
    s[i].token += groups * WK_GROUP;
    if (context != WCODEC_NONE) s[i].table += groups * WK_GROUP;
    if (context == WCODEC_TRELLIS) s[i].trellis += column;
    if (unused) s[i].bad |= WCODEC_E7;
    for (int v = 0; v < 2; v++) _mm512_storeu_si512(s[i].x + 16 * v, x[i][v]);
  }
}

WK_INLINE void any_context(wk_stream *s, const int k, const int gather, const wk_model *m, uint64_t groups) {
  if (m->context == WCODEC_NONE) decode(s, k, WCODEC_NONE, gather, 0, m, groups);
  else if (m->context == WCODEC_CLASSES) decode(s, k, WCODEC_CLASSES, gather, 1, m, groups);
  else if (m->used) decode(s, k, WCODEC_TRELLIS, gather, 0, m, groups);
  else decode(s, k, WCODEC_TRELLIS, gather, 1, m, groups);
}
