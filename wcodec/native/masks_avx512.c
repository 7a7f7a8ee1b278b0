/* Masks as positions with AVX-512: four groups of 16 numbers per word of 64 elements, compressed to those kept. */
#include <immintrin.h>

#include "internal.h"

/* Stores whole registers; what they write beyond the kept ones is written again, or kept out by `room`. */
WK_INLINE uint64_t put_word(uint64_t word, uint32_t base, uint32_t *out, uint64_t n) {
  const __m512i iota = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (uint32_t k = 0; k < 64; k += 16) {
    const __mmask16 kept = (__mmask16)(word >> k);
    const __m512i number = _mm512_add_epi32(iota, _mm512_set1_epi32((int)(base + k)));
    _mm512_storeu_si512((void *)(out + n), _mm512_maskz_compress_epi32(kept, number));
    n += (uint64_t)__builtin_popcount(kept);
  }
  return n;
}

/* A word writes at most 64 positions and 15 more lanes; what follows the last of them may not be ours. */
#define POSITIONS(name, tail, step, load)                                              \
  void name(const uint8_t *mask, uint64_t count, uint32_t *out, uint64_t room) {       \
    uint64_t n = 0, i = 0;                                                             \
    for (; i + 64 <= count && n + 80 <= room; i += 64) n = put_word(load, (uint32_t)i, out, n); \
    tail(mask, i, count, out + n);                                                     \
  }

POSITIONS(wk_bits_avx512, wk_bits_scalar, 8, *(const wk_u64 *)(mask + i / 8))
POSITIONS(wk_bytes_avx512, wk_bytes_scalar, 1, _mm512_test_epi8_mask(_mm512_loadu_si512((const void *)(mask + i)), _mm512_loadu_si512((const void *)(mask + i))))

uint64_t wk_count_bits_avx512(const uint8_t *bits, uint64_t count) {
  uint64_t n = 0, i = 0;
  for (; i + 64 <= count; i += 64) n += (uint64_t)__builtin_popcountll(*(const wk_u64 *)(bits + i / 8));
  for (; i < count; i++) n += bits[i / 8] >> i % 8 & 1;
  return n;
}
