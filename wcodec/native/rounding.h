/* Float32 numbers rounded to narrower types, ties to even, in a form that compilers vectorise. */
#ifndef WCODEC_ROUNDING_H
#define WCODEC_ROUNDING_H

#include "internal.h"

WK_INLINE uint32_t wk_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

WK_INLINE float wk_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

WK_INLINE uint16_t wk_to_bf16(float x) {
  const uint32_t u = wk_bits(x), rounded = (u + 0x7FFF + (u >> 16 & 1)) >> 16;
  return (uint16_t)((u & 0x7FFFFFFF) > 0x7F800000 ? u >> 16 | 0x40 : rounded);
}

/* `a` where the condition holds, else b: without a branch, which an addition of floats would call for. */
WK_INLINE uint32_t wk_either(int condition, uint32_t a, uint32_t b) { return b ^ ((a ^ b) & -(uint32_t)condition); }

/* Subnormal halves come from the rounding of an addition, the others from that of their integer. */
WK_INLINE uint16_t wk_to_f16(float x) {
  const uint32_t u = wk_bits(x), size = u & 0x7FFFFFFF, sign = u >> 16 & 0x8000;
  const uint32_t tiny = wk_bits(wk_float(size) + 0.5f) - 0x3F000000, odd = size >> 13 & 1;
  const uint32_t normal = (size - (112u << 23) + 0xFFF + odd) >> 13;
  const uint32_t huge = wk_either((int32_t)size > 0x7F800000, 0x7E00 | (size >> 13 & 0x1FF), 0x7C00);
  const uint32_t finite = wk_either((int32_t)size < 113 << 23, tiny, normal);
  return (uint16_t)(sign | wk_either((int32_t)size >= 143 << 23, huge, finite));
}

#endif
