/* Splitting into tokens and rest planes in one pass with AVX-512 VBMI, where the layout is that of common floats: 16-bit
 * numbers, and 32-bit numbers with three rest planes. */
#include <immintrin.h>

#include "internal.h"

/* Element with the top bit moved (v), and its symbol. sign: wcodec_split. */
#define TAKE(bits)                                                                                                   \
  WK_INLINE __m512i take_##bits(const uint8_t *x, const int sign, __m128i rest, __m512i one, __m512i *symbol) {      \
    const __m512i a = _mm512_loadu_si512(x), turned = _mm512_shldi_epi##bits(a, a, 1);                               \
    const __m512i v = sign == 1 ? turned : a, upper = _mm512_srl_epi##bits(sign ? turned : a, rest);                 \
    /* sign == 2: its bit below the others, that is one ? turned : upper */                                          \
    *symbol = sign == 2 ? _mm512_ternarylogic_epi32(one, turned, upper, 0xCA) : upper;                               \
    return v;                                                                                                        \
  }

TAKE(16)
TAKE(32)

WK_INLINE uint64_t split_16(const wcodec_split *split, const uint8_t *x, uint64_t count, uint8_t *token,
                            uint8_t *const *plane, uint32_t *range, const int sign) {
  const __m512i one = _mm512_set1_epi16(1), base = _mm512_set1_epi16((short)split->base);
  const __m512i mask = _mm512_set1_epi16((short)((1u << split->rest) - 1));
  const __m512i lower = _mm512_set_epi64(0x7E7C7A7876747270, 0x6E6C6A6866646260, 0x5E5C5A5856545250, 0x4E4C4A4846444240,
                                         0x3E3C3A3836343230, 0x2E2C2A2826242220, 0x1E1C1A1816141210, 0x0E0C0A0806040200);
  const __m512i upper = _mm512_add_epi8(lower, _mm512_set1_epi8(1));
  const __m128i rest = _mm_cvtsi32_si128((int)split->rest);
  __m512i low = _mm512_set1_epi16(-1), high = _mm512_setzero_si512();
  uint64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    __m512i a, b;
    const __m512i v = take_16(x + 2 * i, sign, rest, one, &a), w = take_16(x + 2 * i + 64, sign, rest, one, &b);
    low = _mm512_min_epu16(low, _mm512_min_epu16(_mm512_sub_epi16(a, one), _mm512_sub_epi16(b, one)));
    high = _mm512_max_epu16(high, _mm512_max_epu16(a, b));
    const __m512i s = _mm512_subs_epu16(a, base), t = _mm512_subs_epu16(b, base);
    _mm512_storeu_si512(token + i, _mm512_permutex2var_epi8(s, lower, t));
    const __m512i c = _mm512_and_si512(v, mask), d = _mm512_and_si512(w, mask);
    _mm512_storeu_si512(plane[0] + i, _mm512_permutex2var_epi8(c, lower, d));
    if (split->rest > 8) _mm512_storeu_si512(plane[1] + i, _mm512_permutex2var_epi8(c, upper, d));
  }
  uint16_t lows[32], highs[32];
  _mm512_storeu_si512(lows, low);
  _mm512_storeu_si512(highs, high);
  for (int k = 0; k < 32; k++) {
    if (lows[k] + 1u < range[0]) range[0] = lows[k] + 1u;
    if (highs[k] > range[1]) range[1] = highs[k];
  }
  return i;
}

WK_INLINE uint64_t split_32(const wcodec_split *split, const uint8_t *x, uint64_t count, uint8_t *token,
                            uint8_t *const *plane, uint32_t *range, const int sign) {
  const __m512i one = _mm512_set1_epi32(1), base = _mm512_set1_epi32((int)split->base);
  const __m512i mask = _mm512_set1_epi32((int)((1u << split->rest) - 1));
  /* Byte k of all elements to quarter k of the vector. */
  const __m512i columns = _mm512_set_epi64(0x3F3B37332F2B2723, 0x1F1B17130F0B0703, 0x3E3A36322E2A2622, 0x1E1A16120E0A0602,
                                           0x3D3935312D292521, 0x1D1915110D090501, 0x3C3834302C282420, 0x1C1814100C080400);
  const __m128i rest = _mm_cvtsi32_si128((int)split->rest);
  __m512i low = _mm512_set1_epi32(-1), high = _mm512_setzero_si512();
  uint64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    __m512i q[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      __m512i symbol;
      const __m512i v = take_32(x + 4 * i + 64 * k, sign, rest, one, &symbol);
      low = _mm512_min_epu32(low, _mm512_sub_epi32(symbol, one));
      high = _mm512_max_epu32(high, symbol);
      const __m512i its = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_max_epu32(symbol, base), base), 24);
      q[k] = _mm512_permutexvar_epi8(columns, _mm512_ternarylogic_epi32(mask, v, its, 0xEA)); /* mask & v | its */
    }
    const __m512i a = _mm512_shuffle_i32x4(q[0], q[1], 0x44), b = _mm512_shuffle_i32x4(q[2], q[3], 0x44);
    const __m512i c = _mm512_shuffle_i32x4(q[0], q[1], 0xEE), d = _mm512_shuffle_i32x4(q[2], q[3], 0xEE);
    _mm512_storeu_si512(plane[0] + i, _mm512_shuffle_i32x4(a, b, 0x88));
    _mm512_storeu_si512(plane[1] + i, _mm512_shuffle_i32x4(a, b, 0xDD));
    _mm512_storeu_si512(plane[2] + i, _mm512_shuffle_i32x4(c, d, 0x88));
    _mm512_storeu_si512(token + i, _mm512_shuffle_i32x4(c, d, 0xDD));
  }
  const uint32_t lowest = _mm512_reduce_min_epu32(low), highest = _mm512_reduce_max_epu32(high);
  if (lowest < range[0] - 1) range[0] = lowest + 1;
  if (highest > range[1]) range[1] = highest;
  return i;
}

#define BY_SIGN(name)                                                                           \
  split->sign == 0   ? name(split, (const uint8_t *)x, count, token, plane, range, 0)           \
  : split->sign == 1 ? name(split, (const uint8_t *)x, count, token, plane, range, 1)           \
                     : name(split, (const uint8_t *)x, count, token, plane, range, 2)

uint64_t wk_take_apart_vbmi(const wcodec_split *split, const void *x, uint64_t count, uint8_t *token,
                            uint8_t *const *plane, uint32_t *range) {
  if (split->bytes == 2 && split->rest) return BY_SIGN(split_16);
  if (split->bytes == 4 && split->rest > 16 && split->rest <= 24) return BY_SIGN(split_32);
  return 0;
}

/* Flags of 64 tokens. */
WK_INLINE __m512i look_up(const uint8_t *flags, __m512i token) {
  const __m512i a = _mm512_loadu_si512(flags), b = _mm512_loadu_si512(flags + 64);
  const __m512i c = _mm512_loadu_si512(flags + 128), d = _mm512_loadu_si512(flags + 192);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(token), _mm512_permutex2var_epi8(a, token, b),
                                _mm512_permutex2var_epi8(c, token, d));
}

void wk_mark_vbmi(const uint8_t *token, uint64_t n, uint8_t *flags) {
  uint64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m512i t = _mm512_loadu_si512(token + i), found = look_up(flags, t);
    if (_mm512_test_epi8_mask(found, found) != ~(__mmask64)0) wk_mark_scalar(token + i, 64, flags);
  }
  wk_mark_scalar(token + i, n - i, flags);
}
