/* Planes with AVX-512; by hand where the layout is that of common floats: 8-bit symbols above whole rest bytes. */
#include <immintrin.h>

#include "planes.h"

void wk_split_avx512(const wcodec_split *split, const void *x, uint64_t count, void *symbol, uint8_t *const *rest) {
  split_any(split, x, count, symbol, rest);
}

/* 16 bits: interleave symbols and rest bytes, then rotate. */
WK_INLINE uint64_t join_16(const uint8_t *symbol, const uint8_t *rest, uint8_t base, const int rotate, uint64_t count, uint8_t *out) {
  const __m512i bases = _mm512_set1_epi8((char)base), order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  uint64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    /* Unpacking works in quarters of the register: bring the eighths into the order that it needs. */
    const __m512i s = _mm512_permutexvar_epi64(order, _mm512_add_epi8(_mm512_loadu_si512(symbol + i), bases));
    const __m512i r = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(rest + i));
    __m512i a = _mm512_unpacklo_epi8(r, s), b = _mm512_unpackhi_epi8(r, s);
    if (rotate) {
      a = _mm512_or_si512(_mm512_srli_epi16(a, 1), _mm512_slli_epi16(a, 15));
      b = _mm512_or_si512(_mm512_srli_epi16(b, 1), _mm512_slli_epi16(b, 15));
    }
    _mm512_storeu_si512(out + 2 * i, a);
    _mm512_storeu_si512(out + 2 * i + 64, b);
  }
  return i;
}

/* 32 bits: interleave bytes to pairs and pairs to numbers. */
WK_INLINE uint64_t join_32(const uint8_t *symbol, const uint8_t *const *rest, uint64_t at, uint8_t base, const int rotate, uint64_t count,
                           uint8_t *out) {
  const __m512i bases = _mm512_set1_epi8((char)base), order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const uint8_t *r0 = rest[0] + at, *r1 = rest[1] + at, *r2 = rest[2] + at;
  uint64_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const __m512i s = _mm512_permutexvar_epi32(order, _mm512_add_epi8(_mm512_loadu_si512(symbol + i), bases));
    const __m512i a = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(r0 + i));
    const __m512i b = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(r1 + i));
    const __m512i c = _mm512_permutexvar_epi32(order, _mm512_loadu_si512(r2 + i));
    const __m512i ab[2] = {_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)};
    const __m512i cs[2] = {_mm512_unpacklo_epi8(c, s), _mm512_unpackhi_epi8(c, s)};
    for (int k = 0; k < 4; k++) {
      const __m512i v = k & 1 ? _mm512_unpackhi_epi16(ab[k / 2], cs[k / 2]) : _mm512_unpacklo_epi16(ab[k / 2], cs[k / 2]);
      _mm512_storeu_si512(out + 4 * i + 64 * k, rotate ? _mm512_ror_epi32(v, 1) : v);
    }
  }
  return i;
}

void wk_join_avx512(const wcodec_split *split, const void *symbol, uint32_t symbol_bytes, const uint8_t *const *rest, uint64_t at,
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
