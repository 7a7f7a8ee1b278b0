/* Unpacking of bytes of 1 to 7 bits with AVX-512 VBMI. */
#include <immintrin.h>

#include "internal.h"

void wk_unpack_vbmi(const uint8_t *data, uint32_t width, uint64_t n, uint8_t *out) {
  /* Every eight values lie in `width` bytes: a shuffle gives them 64 bits, of which a multishift cuts bytes that begin where
   * the values do. */
  _Alignas(64) uint8_t order[64], shift[64];
  for (uint32_t i = 0; i < 64; i++) {
    order[i] = (uint8_t)(i / 8 * width + i % 8);
    shift[i] = (uint8_t)(i % 8 * width);
  }
  const __m512i orders = _mm512_load_si512(order), shifts = _mm512_load_si512(shift);
  const __m512i mask = _mm512_set1_epi8((char)((1 << width) - 1));
  for (uint64_t i = 0; i < n; i += 64, data += 8 * width) {
    const uint64_t left = n - i < 64 ? n - i : 64;
    const __mmask64 from = ~0ull >> (64 - (left * width + 7) / 8), to = ~0ull >> (64 - left);
    const __m512i v = _mm512_permutexvar_epi8(orders, _mm512_maskz_loadu_epi8(from, data));
    _mm512_mask_storeu_epi8(out + i, to, _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, v), mask));
  }
}
