/* Planes with AVX-512; joining by hand where the layout is that of common floats: tokens above one rest plane of 16-bit
 * numbers, or three of 32-bit numbers. */
#include <immintrin.h>

#include "planes.h"

WK_INLINE __m512i widen(const uint8_t *p) {
  return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

void wk_split_avx512(const wcodec_split *split, const void *x, uint64_t count, void *symbol, uint8_t *const *rest) {
  split_any(split, x, count, symbol, rest);
}

void wk_tokens_avx512(const void *symbol, uint32_t symbol_bytes, uint64_t count, uint32_t base, uint8_t *token,
                      uint32_t *range) {
  tokens_any(symbol, symbol_bytes, count, base, token, range);
}

WK_INLINE void store(void *p, __m512i x, const int past) {
  if (past) _mm512_stream_si512((__m512i *)p, x);
  else _mm512_storeu_si512(p, x);
}

WK_INLINE uint64_t join_16(const wcodec_split *split, const uint8_t *token, const uint8_t *rest, const int sign,
                           uint64_t count, const int past, uint8_t *out) {
  const __m512i base = _mm512_set1_epi16((short)split->base), mask = _mm512_set1_epi16((short)((1 << split->rest) - 1));
  const __mmask32 kept = split->zero ? 0 : ~(__mmask32)0;
  const __m512i shift = _mm512_set1_epi16((short)split->rest);
  uint64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m512i t = widen(token + i);
    const __m512i symbol = _mm512_maskz_add_epi16(_mm512_test_epi16_mask(t, t) | kept, t, base);
    /* a | (b & c) */
    __m512i v = _mm512_ternarylogic_epi32(_mm512_sllv_epi16(sign == 2 ? _mm512_srli_epi16(symbol, 1) : symbol, shift), widen(rest + i), mask, 0xF8);
    if (sign == 1) v = _mm512_or_si512(_mm512_srli_epi16(v, 1), _mm512_slli_epi16(v, 15));
    if (sign == 2) v = _mm512_or_si512(v, _mm512_slli_epi16(symbol, 15));
    store(out + 2 * i, v, past);
  }
  return i;
}

/* Interleaves bytes to pairs and pairs to numbers. */
WK_INLINE uint64_t join_32(const wcodec_split *split, const uint8_t *token, const uint8_t *const *rest,
                           const int sign, uint64_t count, const int past, uint8_t *out) {
  const __m512i base = _mm512_set1_epi32((int)split->base), mask = _mm512_set1_epi8((char)(255 >> (24 - split->rest)));
  const __m512i none = _mm512_setzero_si512();
  /* Unpacking works in quarters of the register: bring the words into the order that it needs. */
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __mmask16 kept = split->zero ? 0 : 0xFFFF;
  const __m512i shift = _mm512_set1_epi32((int)split->rest);
  uint64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const __m512i t = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(token + i));
    const __m512i a = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(rest[0] + i));
    const __m512i b = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(rest[1] + i));
    const __m512i c = _mm512_and_si512(_mm512_permutexvar_epi32(order, _mm512_loadu_si512(rest[2] + i)), mask);
    const __m512i ab[2] = {_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)};
    const __m512i cn[2] = {_mm512_unpacklo_epi8(c, none), _mm512_unpackhi_epi8(c, none)};
    const __m512i tn[2] = {_mm512_unpacklo_epi8(t, none), _mm512_unpackhi_epi8(t, none)};
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      const __m512i low =
          k & 1 ? _mm512_unpackhi_epi16(ab[k / 2], cn[k / 2]) : _mm512_unpacklo_epi16(ab[k / 2], cn[k / 2]);
      const __m512i high = k & 1 ? _mm512_unpackhi_epi16(tn[k / 2], none) : _mm512_unpacklo_epi16(tn[k / 2], none);
      const __m512i symbol = _mm512_maskz_add_epi32(_mm512_test_epi32_mask(high, high) | kept, high, base);
      __m512i v = _mm512_or_si512(_mm512_sllv_epi32(sign == 2 ? _mm512_srli_epi32(symbol, 1) : symbol, shift), low);
      if (sign == 1) v = _mm512_ror_epi32(v, 1);
      if (sign == 2) v = _mm512_or_si512(v, _mm512_slli_epi32(symbol, 31));
      store(out + 4 * i + 64 * k, v, past);
    }
  }
  return i;
}

/* A call compiled for each place of the sign. */
#define SIGNED(value, call) \
  ({                        \
    const int sign = value; \
    call;                   \
  })
#define BY_SIGN(call) (split->sign == 0 ? SIGNED(0, call) : split->sign == 1 ? SIGNED(1, call) : SIGNED(2, call))

void wk_join_avx512(const wcodec_split *split, const void *symbol, uint32_t symbol_bytes, const uint8_t *const *rest,
                    uint64_t count, int past, void *out) {
  const int planes = (int)(split->rest + 7) / 8;
  uint64_t done = 0;
  if (symbol_bytes == 1 && split->bytes == 2 && planes == 1)
    done = BY_SIGN(join_16(split, symbol, rest[0], sign, count, past, out));
  if (symbol_bytes == 1 && split->bytes == 4 && planes == 3)
    done = BY_SIGN(join_32(split, symbol, rest, sign, count, past, out));
  join_from(done, split, symbol, symbol_bytes, rest, count, out);
}
