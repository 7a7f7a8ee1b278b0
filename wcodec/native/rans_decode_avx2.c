/* Groups of 32 lanes with AVX2: four vectors of 8 states per block. */
#include <immintrin.h>

#include "internal.h"
#include "spread.h"

/* Table entries of four slots. Scalar loads: see rans_decode_avx512.c. */
WK_INLINE __m128i look_up_4(const wk_u32 *lut, const uint32_t *slot) {
  const __m128i low = _mm_insert_epi32(_mm_cvtsi32_si128((int)lut[slot[0]]), (int)lut[slot[1]], 1);
  const __m128i high = _mm_insert_epi32(_mm_cvtsi32_si128((int)lut[slot[2]]), (int)lut[slot[3]], 1);
  return _mm_unpacklo_epi64(low, high);
}

/* Slots go through memory, which keeps the ports for shuffles free. */
WK_INLINE __m256i look_up_8(const wk_u32 *lut, __m256i slots) {
  _Alignas(32) uint32_t slot[8];
  _mm256_store_si256((__m256i *)(void *)slot, slots);
  __asm__("" : "+m"(slot)); /* or the compiler sees through it and shuffles */
  return _mm256_set_m128i(look_up_4(lut, slot + 4), look_up_4(lut, slot));
}

WK_INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

WK_INLINE void decode(wk_stream *s, const int k, const int context, const wk_model *m, uint64_t groups) {
  const wk_u32 *lut = (const wk_u32 *)m->lut;
  const __m256i twelve = _mm256_set1_epi32(0xFFF), top = _mm256_set1_epi32((int)0xFF000000),
                zero = _mm256_setzero_si256();
  const __m256i slots = _mm256_set1_epi32((1 << m->precision) - 1), shift = _mm256_set1_epi32((int)m->precision);
  const __m256i h0 = _mm256_set1_epi8((char)m->h0), h1 = _mm256_set1_epi8((char)m->h1);
  const __m256i one = _mm256_set1_epi8(1), seven = _mm256_set1_epi8(0x7F), byte = _mm256_set1_epi32(0xFF);
  __m256i x[2][4], token[2][4], table[2][4], seen = top;
  const uint8_t *at[2];
  const wk_u32 *tables[2];
  uint32_t column = 0;
  for (int i = 0; i < k; i++) {
    at[i] = s[i].at;
    for (int v = 0; v < 4; v++) x[i][v] = load(s[i].x + 8 * v);
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
        for (int v = 0; v < 4; v++) table[i][v] = load(s[i].table + g * WK_GROUP + 32 * v);
    for (int i = 0; i < k; i++) tables[i] = lut + (context == WCODEC_TRELLIS ? s[i].first[g] : 0);
    if (context == WCODEC_TRELLIS)
      for (int i = 0; i < k; i++)
        for (int v = 0; v < 4; v++) {
          table[i][v] = _mm256_and_si256(load(s[i].trellis + column + 32 * v), one);
          _mm256_storeu_si256((__m256i *)(void *)(s[i].table + g * WK_GROUP + 32 * v), table[i][v]);
        }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++)
#pragma GCC unroll 2
      for (int i = 0; i < k; i++)
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
          __m256i slot = _mm256_and_si256(x[i][v], slots);
          if (context != WCODEC_NONE) {
            __m256i t = _mm256_and_si256(_mm256_srli_epi32(table[i][v], 8 * j), byte);
            slot = _mm256_or_si256(slot, _mm256_sllv_epi32(t, shift));
          }
          const __m256i entry = look_up_8(tables[i], slot);
          if (context != WCODEC_NONE) seen = _mm256_min_epu32(seen, entry);
          const __m256i bias = _mm256_and_si256(_mm256_srli_epi32(entry, 12), twelve);
          const __m256i y = _mm256_add_epi32(
              _mm256_mullo_epi32(_mm256_and_si256(entry, twelve), _mm256_srlv_epi32(x[i][v], shift)), bias);
          const __m256i take = _mm256_cmpeq_epi32(_mm256_srli_epi32(y, 16), zero);
          const unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(take));
          const __m128i words = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)at[i]),
                                                 _mm_load_si128((const __m128i *)(const void *)wk_spread[mask]));
          const __m256i longer = _mm256_or_si256(_mm256_slli_epi32(y, 16), _mm256_cvtepu16_epi32(words));
          x[i][v] = _mm256_blendv_epi8(y, longer, take);
          at[i] += 2 * (size_t)__builtin_popcount(mask);
          const __m256i here = _mm256_and_si256(entry, top);
          token[i][v] = j == 0 ? here : _mm256_or_si256(_mm256_srli_epi32(token[i][v], 8), here);
        }
    for (int i = 0; i < k; i++)
      for (int v = 0; v < 4; v++) {
        _mm256_storeu_si256((__m256i *)(void *)(s[i].token + g * WK_GROUP + 32 * v), token[i][v]);
        if (context == WCODEC_TRELLIS) { /* shift 128 registers, a byte each */
          uint8_t *state = s[i].trellis + column + 32 * v;
          const __m256i half = _mm256_and_si256(_mm256_srli_epi32(load(state), 1), seven);
          const __m256i m0 = _mm256_sub_epi8(zero, table[i][v]),
                        m1 = _mm256_sub_epi8(zero, _mm256_and_si256(token[i][v], one));
          const __m256i added = _mm256_xor_si256(_mm256_and_si256(m0, h0), _mm256_and_si256(m1, h1));
          _mm256_storeu_si256((__m256i *)(void *)state, _mm256_xor_si256(half, added));
        }
      }
    column += WK_GROUP; /* all have the same width */
    if (context == WCODEC_TRELLIS && column == s[0].width) column = 0;
  }
  const int unused = context != WCODEC_NONE && _mm256_movemask_epi8(_mm256_cmpeq_epi32(seen, zero)) != 0;
  for (int i = 0; i < k; i++) {
    s[i].at = at[i];
    s[i].token += groups * WK_GROUP;
    if (context != WCODEC_NONE) s[i].table += groups * WK_GROUP;
    if (context == WCODEC_TRELLIS) s[i].trellis += column;
    if (unused) s[i].bad |= WCODEC_E7;
    for (int v = 0; v < 4; v++) _mm256_storeu_si256((__m256i *)(void *)(s[i].x + 8 * v), x[i][v]);
  }
}

WK_INLINE void any_context(wk_stream *s, const int k, const wk_model *m, uint64_t groups) {
  if (m->context == WCODEC_NONE) decode(s, k, WCODEC_NONE, m, groups);
  else if (m->context == WCODEC_CLASSES) decode(s, k, WCODEC_CLASSES, m, groups);
  else decode(s, k, WCODEC_TRELLIS, m, groups);
}

void wk_decode_avx2(wk_stream *s, int k, const wk_model *m, uint64_t groups) {
  if (k == 2) any_context(s, 2, m, groups);
  else any_context(s, 1, m, groups);
}

void wk_look_up_avx2(const uint8_t *map, uint32_t entries, const uint8_t *class, uint64_t n, uint8_t *table) {
  uint8_t copy[16] = {0};
  memcpy(copy, map, entries);
  const __m256i maps = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)copy));
  uint64_t i = 0;
  for (; i + 32 <= n; i += 32)
    _mm256_storeu_si256((__m256i *)(void *)(table + i), _mm256_shuffle_epi8(maps, load(class + i)));
  for (; i < n; i++) table[i] = copy[class[i] & 15];
}
