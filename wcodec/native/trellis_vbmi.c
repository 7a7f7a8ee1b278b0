/* What tokens of a trellis stand for, where processors permute bytes and round to BF16: 64 at a time, raw bits joined on the way. */
#include <immintrin.h>

#include "internal.h"

/* Symbol i of 32 next to symbol 16 + i, so that the halves of 32-bit numbers are two vectors in order, after bytes were interleaved with
 * others in quarters of the register. */
static const uint8_t order[64] = {0,  16, 1,  17, 2,  18, 3,  19, 32, 48, 33, 49, 34, 50, 35, 51, 4,  20, 5,  21, 6,  22,
                                  7,  23, 36, 52, 37, 53, 38, 54, 39, 55, 8,  24, 9,  25, 10, 26, 11, 27, 40, 56, 41, 57,
                                  42, 58, 43, 59, 12, 28, 13, 29, 14, 30, 15, 31, 44, 60, 45, 61, 46, 62, 47, 63};

/* 4 * raw bits of 64 symbols as bytes. Every eight lie in `bits` bytes, of which a multishift cuts bytes that begin two bits before. */
typedef struct {
  __m512i orders, shifts, mask;
  __mmask64 from;
} raw_plan;

WK_INLINE raw_plan plan_of(uint32_t bits) {
  const __m512i eighth = _mm512_set_epi64(0x0707070707070707, 0x0606060606060606, 0x0505050505050505, 0x0404040404040404,
                                          0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const __m512i place = _mm512_set1_epi64(0x0706050403020100), times = _mm512_set1_epi16((short)bits);
  const __m512i two = _mm512_set1_epi8(2);
  return (raw_plan){
      .orders = _mm512_add_epi8(_mm512_mullo_epi16(eighth, times), place), /* no product reaches a byte's neighbour */
      .shifts = _mm512_sub_epi8(_mm512_mullo_epi16(place, times), two),    /* modulo 64 */
      .mask = _mm512_set1_epi8((char)(((1 << bits) - 1) << 2)),
      .from = ~0ull >> (64 - 8 * bits),
  };
}

WK_INLINE __m512i raw_of(const raw_plan *plan, const uint8_t *raw, const int packed) {
  if (!packed) {
    const __m512i twice = _mm512_add_epi8(_mm512_loadu_si512(raw), _mm512_loadu_si512(raw));
    return _mm512_and_si512(_mm512_add_epi8(twice, twice), plan->mask);
  }
  const __m512i v = _mm512_permutexvar_epi8(plan->orders, _mm512_maskz_loadu_epi8(plan->from, raw));
  return _mm512_and_si512(_mm512_multishift_epi64_epi8(plan->shifts, v), plan->mask);
}

WK_INLINE void store(void *p, __m512i x, const int past) {
  if (past) _mm512_stream_si512((__m512i *)p, x);
  else _mm512_storeu_si512(p, x);
}

/* 32 values of k * 2^16, in two vectors, times a step * 2^-16. */
WK_INLINE void write_32(__m512i k, __m512 step, const wk_f32 *columns, const uint32_t kind, uint8_t *out, const int past) {
  const __m512 above = columns ? _mm512_mul_ps(step, _mm512_loadu_ps(columns + 16)) : step;
  if (columns) step = _mm512_mul_ps(step, _mm512_loadu_ps(columns));
  const __m512 low = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_slli_epi32(k, 16)), step);
  const __m512 high = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_and_si512(k, _mm512_set1_epi32((int)0xFFFF0000))), above);
  if (kind == WCODEC_BF16) {
    store(out, (__m512i)_mm512_cvtne2ps_pbh(high, low), past);
  } else if (kind == WCODEC_F16) {
    const __m256i first = _mm512_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256i second = _mm512_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    store(out, _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1), past);
  } else {
    store(out, _mm512_castps_si512(low), past);
    store(out + WK_LINE, _mm512_castps_si512(high), past);
  }
}

/* k = token * factor + (4 * raw + z0 + (odd token ? 0 : spare)) + offset, all in 16 bits. */
WK_INLINE void run(const wk_lattice *l, const wk_piece *p, const wk_raw *raw, const wk_f32 *steps, const wk_f32 *columns,
                   const int with_columns, const int packed, const uint32_t kind) {
  const uint32_t size = kind == WCODEC_F32 ? 4 : 2, bits = raw->bits;
  const __m512i orders = _mm512_loadu_si512(order), one = _mm512_set1_epi8(1);
  const __m512i factors = _mm512_set1_epi16((short)(1 << 8 | 2 << bits)), offset = _mm512_set1_epi16((short)l->offset);
  const __m512i spare = _mm512_set1_epi8((char)((2 << bits) - 2));
  const raw_plan plan = plan_of(bits ? bits : 1);
  const int past = p->past;
  for (uint64_t r = 0; r < p->rows; r++) {
    const __m512 step = _mm512_set1_ps(steps[l->each ? r : 0] * 0x1p-16f);
    const uint8_t *const tokens = p->symbols + r * p->n, *const z0 = p->z0 + r * p->n, *const rest = raw->data + r * raw->stride;
    uint8_t *const out = p->out + r * p->stride;
    for (uint64_t i = 0; i < p->n; i += 64) {
      const __m512i token = _mm512_loadu_si512(tokens + i);
      __m512i below = _mm512_loadu_si512(z0 + i);
      if (bits) {
        const __m512i even = _mm512_sub_epi8(_mm512_and_si512(token, one), one);
        below = _mm512_add_epi8(below, raw_of(&plan, rest + (packed ? i / 8 * bits : i), packed));
        below = _mm512_add_epi8(below, _mm512_and_si512(even, spare));
      }
      const __m512i t = _mm512_permutexvar_epi8(orders, token), b = _mm512_permutexvar_epi8(orders, below);
      const __m512i k0 = _mm512_add_epi16(_mm512_maddubs_epi16(_mm512_unpacklo_epi8(t, b), factors), offset);
      const __m512i k1 = _mm512_add_epi16(_mm512_maddubs_epi16(_mm512_unpackhi_epi8(t, b), factors), offset);
      write_32(k0, step, with_columns ? columns + i : NULL, kind, out + i * size, past);
      write_32(k1, step, with_columns ? columns + i + 32 : NULL, kind, out + (i + 32) * size, past);
    }
  }
}

WK_INLINE void any_kind(const wk_lattice *l, const wk_piece *p, const wk_raw *raw, const wk_f32 *steps, const wk_f32 *columns,
                        const int with_columns, const int packed) {
  if (l->kind == WCODEC_BF16) run(l, p, raw, steps, columns, with_columns, packed, WCODEC_BF16);
  else if (l->kind == WCODEC_F16) run(l, p, raw, steps, columns, with_columns, packed, WCODEC_F16);
  else run(l, p, raw, steps, columns, with_columns, packed, WCODEC_F32);
}

void wk_join_lattice_vbmi(const wk_lattice *l, const wk_piece *p, const wk_raw *raw, const wk_f32 *steps, const wk_f32 *columns) {
  if (columns && raw->packed) any_kind(l, p, raw, steps, columns, 1, 1);
  else if (columns) any_kind(l, p, raw, steps, columns, 1, 0);
  else if (raw->packed) any_kind(l, p, raw, steps, NULL, 0, 1);
  else any_kind(l, p, raw, steps, NULL, 0, 0);
}
