/* What symbols of a trellis stand for, with AVX2 and F16C: 16 at a time. */
#include <immintrin.h>

#include "trellis_symbols.h"

WK_SYMBOLS_OF(avx2)

/* A float's upper half, rounded to nearest, ties to even, as a 32-bit number; no value is NaN. */
WK_INLINE __m256i upper(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF))), 16);
}

WK_INLINE void store(__m256i *p, __m256i x, const int past) {
  if (past) _mm256_stream_si256(p, x);
  else _mm256_storeu_si256(p, x);
}

WK_INLINE __m128i half(__m256 x) { return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

/* k of 8 symbols from element i of a piece on. */
WK_INLINE __m256i indices(const wk_lattice *l, const wk_piece *p, uint64_t i, const uint32_t bytes) {
  const __m256i u = bytes == 1 ? _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p->symbols + i)))
                               : _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p->symbols + 2 * i)));
  const __m256i z = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p->z0 + i)));
  const __m256i above = _mm256_sub_epi32(u, _mm256_set1_epi32((int)l->zero));
  return _mm256_add_epi32(_mm256_add_epi32(above, above), z);
}

WK_INLINE __m256 magnitudes(const wk_lattice *l, __m256i k, const int with_points) {
  const __m256 plain = _mm256_cvtepi32_ps(k);
  if (!with_points) return plain;
  const __m256i size = _mm256_abs_epi32(k), most = _mm256_set1_epi32(64), far = _mm256_cmpgt_epi32(size, most);
  const __m256 point = _mm256_i32gather_ps((const float *)(const void *)l->magnitude, _mm256_min_epi32(size, most), 4);
  const __m256 its = _mm256_or_ps(point, _mm256_and_ps(plain, _mm256_set1_ps(-0.0f)));
  return _mm256_blendv_ps(its, plain, _mm256_castsi256_ps(far));
}

WK_INLINE void run(const wk_lattice *l, const wk_piece *p, const wk_f32 *steps, const wk_f32 *columns, uint64_t n,
                   const int with_columns, const int with_points, const uint32_t bytes, const uint32_t kind) {
  const int past = p->past;
  for (uint64_t r = 0; r < p->rows; r++) {
    const __m256 all = _mm256_set1_ps(steps[l->each ? r : 0]);
    for (uint64_t i = 0; i < n; i += 16) {
      __m256 x[2];
      for (uint64_t h = 0; h < 2; h++) {
        const __m256 m = magnitudes(l, indices(l, p, r * p->n + i + 8 * h, bytes), with_points);
        const __m256 d = with_columns ? _mm256_mul_ps(all, _mm256_loadu_ps((const float *)(columns + i + 8 * h))) : all;
        x[h] = _mm256_mul_ps(d, m);
      }
      __m256i *const to = (__m256i *)(void *)(p->out + r * p->stride + (kind == WCODEC_F32 ? 4 : 2) * i);
      if (kind == WCODEC_F32) {
        store(to, _mm256_castps_si256(x[0]), past);
        store(to + 1, _mm256_castps_si256(x[1]), past);
      } else if (kind == WCODEC_F16) {
        store(to, _mm256_set_m128i(half(x[1]), half(x[0])), past);
      } else {
        store(to, _mm256_permute4x64_epi64(_mm256_packus_epi32(upper(x[0]), upper(x[1])), 0xD8), past);
      }
    }
  }
}

#include "trellis_kinds.h"

uint64_t wk_dequantise_avx2(const wk_lattice *l, const wk_piece *p, const wk_f32 *steps, const wk_f32 *columns) {
  if (l->kind == WCODEC_F64) return 0;
  const uint64_t n = p->n - p->n % 16;
  any_piece(l, p, steps, columns, n);
  return n;
}
