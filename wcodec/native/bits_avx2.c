/* Packing of bytes of 1 to 7 bits with AVX2, and back. */
#include <immintrin.h>

#include "internal.h"

void wk_unpack_avx2(const uint8_t *data, uint32_t width, uint64_t n, uint8_t *out) {
  /* Sixteen values lie in 2 * width bytes. Every value gets a 16-bit field with the two bytes that hold it; a product
   * moves it up to bit 8, and a shift back down. */
  _Alignas(32) uint8_t order[32];
  _Alignas(32) uint16_t factor[16];
  for (uint32_t i = 0; i < 16; i++) {
    order[2 * i] = (uint8_t)(i * width / 8);
    order[2 * i + 1] = (uint8_t)(i * width / 8 + 1);
    factor[i] = (uint16_t)(1u << (8 - i * width % 8));
  }
  const __m256i orders = _mm256_load_si256((const __m256i *)(const void *)order);
  const __m256i factors = _mm256_load_si256((const __m256i *)(const void *)factor);
  const __m256i mask = _mm256_set1_epi16((short)((1 << width) - 1));
  const uint64_t size = (n * width + 7) / 8;
  uint8_t tail[48] = {0}; /* 32 of the last values, at most 28 bytes, where loads may go on */
  uint64_t i = 0, at = 0;
  for (; i + 32 <= n; i += 32, at += 4 * width) {
    const int inside = at + 2 * width + 16 <= size;
    if (!inside) memcpy(tail, data + at, 4 * width);
    const uint8_t *from = inside ? data + at : tail;
    const __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
    const __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(from + 2 * width));
    __m256i low = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(a), orders);
    __m256i high = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(b), orders);
    low = _mm256_and_si256(_mm256_srli_epi16(_mm256_mullo_epi16(low, factors), 8), mask);
    high = _mm256_and_si256(_mm256_srli_epi16(_mm256_mullo_epi16(high, factors), 8), mask);
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packus_epi16(low, high), 0xD8);
    _mm256_storeu_si256((__m256i *)(void *)(out + i), bytes);
  }
  for (; i < n; i++) { /* the second byte only when the value reaches into it: there may be none */
    const uint64_t bit = i * width;
    uint32_t value = (uint32_t)data[bit >> 3] >> (bit & 7);
    if ((bit & 7) + width > 8) value |= (uint32_t)data[(bit >> 3) + 1] << (8 - (bit & 7));
    out[i] = (uint8_t)(value & ((1u << width) - 1));
  }
}

void wk_pack_avx2(const uint8_t *x, uint32_t width, uint64_t n, uint8_t *out) {
  /* Neighbours move together, then pairs of them, then fours: every eight values become `width` bytes of 64 bits. */
  const __m256i mask = _mm256_set1_epi8((char)((1 << width) - 1)), low_8 = _mm256_set1_epi16(0x00FF);
  const __m256i low_16 = _mm256_set1_epi32(0x0000FFFF), low_32 = _mm256_set1_epi64x(0xFFFFFFFF);
  const __m128i by_1 = _mm_cvtsi32_si128((int)(8 - width)), by_2 = _mm_cvtsi32_si128((int)(16 - 2 * width));
  const __m128i by_4 = _mm_cvtsi32_si128((int)(32 - 4 * width));
  _Alignas(16) uint8_t order[16];
  for (uint32_t i = 0; i < 16; i++) order[i] = (uint8_t)(i < width ? i : i < 2 * width ? 8 + i - width : 0x80);
  const __m256i orders = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)order));
  const uint64_t size = (n * width + 7) / 8;
  uint64_t i = 0, at = 0;
  for (; i + 32 <= n && at + 2 * width + 16 <= size; i += 32, at += 4 * width) {
    __m256i v = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(const void *)(x + i)), mask);
    v = _mm256_or_si256(_mm256_and_si256(v, low_8), _mm256_srl_epi16(_mm256_andnot_si256(low_8, v), by_1));
    v = _mm256_or_si256(_mm256_and_si256(v, low_16), _mm256_srl_epi32(_mm256_andnot_si256(low_16, v), by_2));
    v = _mm256_or_si256(_mm256_and_si256(v, low_32), _mm256_srl_epi64(_mm256_andnot_si256(low_32, v), by_4));
    v = _mm256_shuffle_epi8(v, orders);
    /* Stores reach beyond the bytes that they are for; the next one, or the end below, writes those again. */
    _mm_storeu_si128((__m128i *)(void *)(out + at), _mm256_castsi256_si128(v));
    _mm_storeu_si128((__m128i *)(void *)(out + at + 2 * width), _mm256_extracti128_si256(v, 1));
  }
  if (i < n) wk_pack_scalar(x + i, width, n - i, out + at);
}
