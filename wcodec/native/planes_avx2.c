/* Planes with AVX2; joining by hand where the layout is that of common floats: tokens above one rest plane of 16-bit
 * numbers, or three of 32-bit numbers. */
#include <immintrin.h>

#include "planes.h"

WK_INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

WK_INLINE void store(void *p, __m256i x, const int past) {
  if (past) _mm256_stream_si256((__m256i *)p, x);
  else _mm256_storeu_si256((__m256i *)p, x);
}

WK_INLINE __m256i widen(const uint8_t *p) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

void wk_split_avx2(const wcodec_split *split, const void *x, uint64_t count, void *symbol, uint8_t *const *rest) {
  split_any(split, x, count, symbol, rest);
}

void wk_tokens_avx2(const void *symbol, uint32_t symbol_bytes, uint64_t count, uint32_t base, uint8_t *token,
                    uint32_t *range) {
  tokens_any(symbol, symbol_bytes, count, base, token, range);
}

WK_INLINE uint64_t join_16(const wcodec_split *split, const uint8_t *token, const uint8_t *rest, const int sign,
                           uint64_t count, const int past, uint8_t *out) {
  const __m256i base = _mm256_set1_epi16((short)split->base), mask = _mm256_set1_epi16((short)((1 << split->rest) - 1));
  const __m256i none = _mm256_setzero_si256(), zero = _mm256_set1_epi16(split->zero ? -1 : 0);
  const __m128i shift = _mm_cvtsi32_si128((int)split->rest);
  uint64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i t = widen(token + i), low = _mm256_and_si256(widen(rest + i), mask);
    const __m256i symbol =
        _mm256_andnot_si256(_mm256_and_si256(_mm256_cmpeq_epi16(t, none), zero), _mm256_add_epi16(t, base));
    __m256i v = _mm256_or_si256(_mm256_sll_epi16(sign == 2 ? _mm256_srli_epi16(symbol, 1) : symbol, shift), low);
    if (sign == 1) v = _mm256_or_si256(_mm256_srli_epi16(v, 1), _mm256_slli_epi16(v, 15));
    if (sign == 2) v = _mm256_or_si256(v, _mm256_slli_epi16(symbol, 15));
    store(out + 2 * i, v, past);
  }
  return i;
}

/* Interleaves bytes to pairs and pairs to numbers. */
WK_INLINE uint64_t join_32(const wcodec_split *split, const uint8_t *token, const uint8_t *const *rest,
                           const int sign, uint64_t count, const int past, uint8_t *out) {
  const __m256i base = _mm256_set1_epi32((int)split->base), mask = _mm256_set1_epi8((char)(255 >> (24 - split->rest)));
  const __m256i none = _mm256_setzero_si256(), zero = _mm256_set1_epi32(split->zero ? -1 : 0);
  /* Unpacking works in halves of the register: bring the words into the order that it needs. */
  const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  const __m128i shift = _mm_cvtsi32_si128((int)split->rest);
  uint64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m256i t = _mm256_permutevar8x32_epi32(load(token + i), order),
                  a = _mm256_permutevar8x32_epi32(load(rest[0] + i), order);
    const __m256i b = _mm256_permutevar8x32_epi32(load(rest[1] + i), order);
    const __m256i c = _mm256_and_si256(_mm256_permutevar8x32_epi32(load(rest[2] + i), order), mask);
    const __m256i ab[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
    const __m256i cn[2] = {_mm256_unpacklo_epi8(c, none), _mm256_unpackhi_epi8(c, none)};
    const __m256i tn[2] = {_mm256_unpacklo_epi8(t, none), _mm256_unpackhi_epi8(t, none)};
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
      const __m256i low =
          k & 1 ? _mm256_unpackhi_epi16(ab[k / 2], cn[k / 2]) : _mm256_unpacklo_epi16(ab[k / 2], cn[k / 2]);
      const __m256i high = k & 1 ? _mm256_unpackhi_epi16(tn[k / 2], none) : _mm256_unpacklo_epi16(tn[k / 2], none);
      const __m256i gone = _mm256_and_si256(_mm256_cmpeq_epi32(high, none), zero);
      const __m256i symbol = _mm256_andnot_si256(gone, _mm256_add_epi32(high, base));
      __m256i v = _mm256_or_si256(_mm256_sll_epi32(sign == 2 ? _mm256_srli_epi32(symbol, 1) : symbol, shift), low);
      if (sign == 1) v = _mm256_or_si256(_mm256_srli_epi32(v, 1), _mm256_slli_epi32(v, 31));
      if (sign == 2) v = _mm256_or_si256(v, _mm256_slli_epi32(symbol, 31));
      store(out + 4 * i + 32 * k, v, past);
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

void wk_join_avx2(const wcodec_split *split, const void *symbol, uint32_t symbol_bytes, const uint8_t *const *rest,
                  uint64_t count, int past, void *out) {
  const int planes = (int)(split->rest + 7) / 8;
  uint64_t done = 0;
  if (symbol_bytes == 1 && split->bytes == 2 && planes == 1)
    done = BY_SIGN(join_16(split, symbol, rest[0], sign, count, past, out));
  if (symbol_bytes == 1 && split->bytes == 4 && planes == 3)
    done = BY_SIGN(join_32(split, symbol, rest, sign, count, past, out));
  join_from(done, split, symbol, symbol_bytes, rest, count, out);
}
