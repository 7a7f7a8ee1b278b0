/* What symbols of a trellis stand for, with AVX-512: 32 at a time. */
#include <immintrin.h>

#include "internal.h"

/* m of 16 values k; near: magnitudes of |k| up to 31. */
WK_INLINE __m512 magnitudes(__m512i k, const int with_points, __m512 low, __m512 high) {
  const __m512 plain = _mm512_cvtepi32_ps(k);
  if (!with_points) return plain;
  const __m512i size = _mm512_abs_epi32(k), sign = _mm512_set1_epi32((int)0x80000000);
  const __mmask16 near = _mm512_cmplt_epu32_mask(size, _mm512_set1_epi32(32));
  const __m512i point = _mm512_castps_si512(_mm512_permutex2var_ps(low, size, high));
  /* point | (k & sign) */
  const __m512i found = _mm512_ternarylogic_epi32(point, k, sign, 0xF8);
  return _mm512_mask_mov_ps(plain, near, _mm512_castsi512_ps(found));
}

/* A float's bits plus what rounds its upper half to nearest, ties to even; no value is NaN. */
WK_INLINE __m512i round_up(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
}

WK_INLINE void run(const wk_lattice *l, const uint8_t *symbols, const uint8_t *z0, uint64_t n, float step,
                   const wk_f32 *columns, const int with_columns, const int with_points, const uint32_t kind, uint8_t *out) {
  const __m512i bias = _mm512_set1_epi16((short)(2 * l->zero));
  static const uint16_t upper[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                     33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  const __m512i pick = _mm512_loadu_si512(upper);
  const __m512 low = _mm512_loadu_ps(l->magnitude), high = _mm512_loadu_ps(l->magnitude + 16), all = _mm512_set1_ps(step);
  for (uint64_t i = 0; i < n; i += 32) {
    const __m512i u = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(symbols + i)));
    const __m512i z = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(z0 + i)));
    const __m512i k = _mm512_sub_epi16(_mm512_add_epi16(_mm512_add_epi16(u, u), z), bias);
    __m512 x[2];
    for (int h = 0; h < 2; h++) {
      const __m512i its = _mm512_cvtepi16_epi32(h ? _mm512_extracti64x4_epi64(k, 1) : _mm512_castsi512_si256(k));
      const __m512 d = with_columns ? _mm512_mul_ps(all, _mm512_loadu_ps(columns + i + 16 * h)) : all;
      x[h] = _mm512_mul_ps(d, magnitudes(its, with_points, low, high));
    }
    if (kind == WCODEC_BF16)
      _mm512_storeu_si512(out + 2 * i, _mm512_permutex2var_epi16(round_up(x[0]), pick, round_up(x[1])));
    else
      for (int h = 0; h < 2; h++) {
        if (kind == WCODEC_F32) _mm512_storeu_ps(out + 4 * i + 64 * h, x[h]);
        else
          _mm256_storeu_si256((__m256i *)(void *)(out + 2 * i + 32 * h),
                              _mm512_cvtps_ph(x[h], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
      }
  }
}

#include "trellis_kinds.h"

uint64_t wk_dequantise_avx512(const wk_lattice *l, const uint8_t *symbols, const uint8_t *z0, uint64_t n, float step,
                              const wk_f32 *columns, void *out) {
  if (l->kind == WCODEC_F64 || l->n_points > 31) return 0;
  n -= n % 32;
  any_kind(l, symbols, z0, n, step, columns, (uint8_t *)out);
  return n;
}
