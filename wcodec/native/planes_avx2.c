/* Planes with AVX2; by hand where the layout is that of common floats: 8-bit symbols above whole rest bytes. */
#include <immintrin.h>

#include "planes.h"

WK_INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
WK_INLINE void store(void *p, __m256i x) { _mm256_storeu_si256((__m256i *)p, x); }

void wk_split_avx2(const wcodec_split *split, const void *x, uint64_t count, void *symbol, uint8_t *const *rest) {
  split_any(split, x, count, symbol, rest);
}

/* 16 bits: interleave symbols and rest bytes, then rotate. */
WK_INLINE uint64_t join_16(const uint8_t *symbol, const uint8_t *rest, uint8_t base, const int rotate, uint64_t count, uint8_t *out) {
  const __m256i bases = _mm256_set1_epi8((char)base);
  uint64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    /* Unpacking works in halves of the register: bring the quarters into the order that it needs. */
    const __m256i s = _mm256_permute4x64_epi64(_mm256_add_epi8(load(symbol + i), bases), 0xD8);
    const __m256i r = _mm256_permute4x64_epi64(load(rest + i), 0xD8);
    __m256i a = _mm256_unpacklo_epi8(r, s), b = _mm256_unpackhi_epi8(r, s);
    if (rotate) {
      a = _mm256_or_si256(_mm256_srli_epi16(a, 1), _mm256_slli_epi16(a, 15));
      b = _mm256_or_si256(_mm256_srli_epi16(b, 1), _mm256_slli_epi16(b, 15));
    }
    store(out + 2 * i, a);
    store(out + 2 * i + 32, b);
  }
  return i;
}

/* 32 bits: interleave bytes to pairs and pairs to numbers. */
WK_INLINE uint64_t join_32(const uint8_t *symbol, const uint8_t *const *rest, uint64_t at, uint8_t base, const int rotate, uint64_t count,
                           uint8_t *out) {
  const __m256i bases = _mm256_set1_epi8((char)base), order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  const uint8_t *r0 = rest[0] + at, *r1 = rest[1] + at, *r2 = rest[2] + at;
  uint64_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m256i s = _mm256_permutevar8x32_epi32(_mm256_add_epi8(load(symbol + i), bases), order);
    const __m256i a = _mm256_permutevar8x32_epi32(load(r0 + i), order), b = _mm256_permutevar8x32_epi32(load(r1 + i), order);
    const __m256i c = _mm256_permutevar8x32_epi32(load(r2 + i), order);
    const __m256i ab[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
    const __m256i cs[2] = {_mm256_unpacklo_epi8(c, s), _mm256_unpackhi_epi8(c, s)};
    for (int k = 0; k < 4; k++) {
      __m256i v = k & 1 ? _mm256_unpackhi_epi16(ab[k / 2], cs[k / 2]) : _mm256_unpacklo_epi16(ab[k / 2], cs[k / 2]);
      if (rotate) v = _mm256_or_si256(_mm256_srli_epi32(v, 1), _mm256_slli_epi32(v, 31));
      store(out + 4 * i + 32 * k, v);
    }
  }
  return i;
}

void wk_join_avx2(const wcodec_split *split, const void *symbol, uint32_t symbol_bytes, const uint8_t *const *rest, uint64_t at,
                  uint64_t count, void *out) {
  uint64_t done = 0;
  const uint8_t base = (uint8_t)split->base;
  if (symbol_bytes == 1 && split->bytes == 2 && split->rest == 8)
    done = split->rotate ? join_16(symbol, rest[0] + at, base, 1, count, out) : join_16(symbol, rest[0] + at, base, 0, count, out);
  if (symbol_bytes == 1 && split->bytes == 4 && split->rest == 24)
    done = split->rotate ? join_32(symbol, rest, at, base, 1, count, out) : join_32(symbol, rest, at, base, 0, count, out);
  if (done < count)
    join_any(split, (const uint8_t *)symbol + done * symbol_bytes, symbol_bytes, rest, at + done, count - done,
             (uint8_t *)out + done * split->bytes);
}
