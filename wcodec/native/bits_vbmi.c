/* Unpacking of bytes of 1 to 7 bits with AVX-512 VBMI. */
#include <immintrin.h>

#include "internal.h"

void wk_unpack_vbmi(const uint8_t *data, uint32_t width, uint64_t n, uint8_t *out) {
  /* Every eight values lie in `width` bytes: a shuffle gives them 64 bits, of which a multishift cuts bytes that begin where
   * the values do. */
  const __m512i eighth = _mm512_set_epi64(0x0707070707070707, 0x0606060606060606, 0x0505050505050505, 0x0404040404040404,
                                          0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const __m512i place = _mm512_set1_epi64(0x0706050403020100), times = _mm512_set1_epi16((short)width);
  const __m512i orders = _mm512_add_epi8(_mm512_mullo_epi16(eighth, times), place); /* no product reaches a byte's neighbour */
  const __m512i shifts = _mm512_mullo_epi16(place, times);
  const __m512i mask = _mm512_set1_epi8((char)((1 << width) - 1));
  for (uint64_t i = 0; i < n; i += 64, data += 8 * width) {
    const uint64_t left = n - i < 64 ? n - i : 64;
    const __mmask64 from = ~0ull >> (64 - (left * width + 7) / 8), to = ~0ull >> (64 - left);
    const __m512i v = _mm512_permutexvar_epi8(orders, _mm512_maskz_loadu_epi8(from, data));
    _mm512_mask_storeu_epi8(out + i, to, _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, v), mask));
  }
}
