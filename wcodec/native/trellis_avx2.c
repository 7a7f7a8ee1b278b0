/* What symbols of a trellis stand for, with AVX2 and F16C: 16 at a time. */
#include <immintrin.h>

#include "internal.h"

/* A float's upper half, rounded to nearest, ties to even, as a 32-bit number; no value is NaN. */
WK_INLINE __m256i upper(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
}

WK_INLINE __m128i half(__m256 x) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

WK_INLINE void run(const wk_lattice *l, const uint8_t *symbols, const uint8_t *z0, uint64_t n, float step,
                   const wk_f32 *columns, const int with_columns, const int with_points, const uint32_t kind, uint8_t *out) {
  const __m256i bias = _mm256_set1_epi16((short)(2 * l->zero));
  const __m256 all = _mm256_set1_ps(step);
  for (uint64_t i = 0; i < n; i += 16) {
    const __m256i u = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(symbols + i)));
    const __m256i z = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(z0 + i)));
    const __m256i at = _mm256_add_epi16(_mm256_add_epi16(u, u), z), k = with_points ? at : _mm256_sub_epi16(at, bias);
    __m256 x[2];
    for (int h = 0; h < 2; h++) {
      const __m256i its = _mm256_cvtepi16_epi32(h ? _mm256_extracti128_si256(k, 1) : _mm256_castsi256_si128(k));
      const __m256 m = with_points ? _mm256_i32gather_ps((const float *)(const void *)l->value, its, 4) : _mm256_cvtepi32_ps(its);
      x[h] = _mm256_mul_ps(with_columns ? _mm256_mul_ps(all, _mm256_loadu_ps((const float *)(columns + i + 8 * h))) : all, m);
    }
    __m256i *const to = (__m256i *)(void *)(out + (kind == WCODEC_F32 ? 4 : 2) * i);
    if (kind == WCODEC_F32) {
      _mm256_storeu_si256(to, _mm256_castps_si256(x[0]));
      _mm256_storeu_si256(to + 1, _mm256_castps_si256(x[1]));
    } else if (kind == WCODEC_F16) {
      _mm256_storeu_si256(to, _mm256_set_m128i(half(x[1]), half(x[0])));
    } else {
      _mm256_storeu_si256(to, _mm256_permute4x64_epi64(_mm256_packus_epi32(upper(x[0]), upper(x[1])), 0xD8));
    }
  }
}

#include "trellis_kinds.h"

uint64_t wk_dequantise_avx2(const wk_lattice *l, const uint8_t *symbols, const uint8_t *z0, uint64_t n, float step,
                            const wk_f32 *columns, void *out) {
  if (l->kind == WCODEC_F64) return 0;
  n -= n % 16;
  any_kind(l, symbols, z0, n, step, columns, (uint8_t *)out);
  return n;
}
