/* What symbols of a trellis stand for, with AVX-512: 32 at a time. */
#include <immintrin.h>

#include "trellis_symbols.h"

WK_SYMBOLS_OF(avx512)

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

WK_INLINE __m256i half(__m512 x) { return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

WK_INLINE void store(void *p, __m512i x, const int past) {
  if (past) _mm512_stream_si512((__m512i *)p, x);
  else _mm512_storeu_si512(p, x);
}

/* k of 16 symbols from element i of a piece on. */
WK_INLINE __m512i indices(const wk_lattice *l, const wk_piece *p, uint64_t i, const uint32_t bytes) {
  const __m512i u = bytes == 1 ? _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p->symbols + i)))
                               : _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(p->symbols + 2 * i)));
  const __m512i z = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p->z0 + i)));
  const __m512i above = _mm512_sub_epi32(u, _mm512_set1_epi32((int)l->zero));
  return _mm512_add_epi32(_mm512_add_epi32(above, above), z);
}

WK_INLINE void run(const wk_lattice *l, const wk_piece *p, const wk_f32 *steps, const wk_f32 *columns, uint64_t n,
                   const int with_columns, const int with_points, const uint32_t bytes, const uint32_t kind) {
  static const uint16_t upper[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                     33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  const __m512i pick = _mm512_loadu_si512(upper);
  const __m512 low = _mm512_loadu_ps(l->magnitude), high = _mm512_loadu_ps(l->magnitude + 16);
  const int past = p->past;
  for (uint64_t r = 0; r < p->rows; r++) {
    const __m512 all = _mm512_set1_ps(steps[l->each ? r : 0]);
    uint8_t *const out = p->out + r * p->stride;
    for (uint64_t i = 0; i < n; i += 32) {
      __m512 x[2];
      for (uint64_t h = 0; h < 2; h++) {
        const __m512i k = indices(l, p, r * p->n + i + 16 * h, bytes);
        const __m512 d = with_columns ? _mm512_mul_ps(all, _mm512_loadu_ps(columns + i + 16 * h)) : all;
        x[h] = _mm512_mul_ps(d, magnitudes(k, with_points, low, high));
      }
      if (kind == WCODEC_BF16)
        store(out + 2 * i, _mm512_permutex2var_epi16(round_up(x[0]), pick, round_up(x[1])), past);
      else if (kind == WCODEC_F16)
        store(out + 2 * i, _mm512_inserti64x4(_mm512_castsi256_si512(half(x[0])), half(x[1]), 1), past);
      else
        for (int h = 0; h < 2; h++) store(out + 4 * i + 64 * h, _mm512_castps_si512(x[h]), past);
    }
  }
}

#include "trellis_kinds.h"

uint64_t wk_dequantise_avx512(const wk_lattice *l, const wk_piece *p, const wk_f32 *steps, const wk_f32 *columns) {
  if (l->kind == WCODEC_F64 || l->n_points > 31) return 0;
  const uint64_t n = p->n - p->n % 32;
  any_piece(l, p, steps, columns, n);
  return n;
}
