/* Codebooks with AVX2: up to 16 entries of up to 4 bytes are looked up in registers, byte by byte of an entry, and the
 * bytes interleaved; larger ones by loads, which are no slower than gathers. */
#include <immintrin.h>

#include "codebook.h"

WK_INLINE void store(__m256i *p, __m256i x, const int past) {
  if (past) _mm256_stream_si256(p, x);
  else _mm256_storeu_si256(p, x);
}

WK_INLINE uint64_t shuffle(const wk_book *book, const int bytes, const uint8_t *index, uint64_t n, int past,
                           uint8_t *out) {
  __m256i table[4], v[4];
  for (int k = 0; k < bytes; k++)
    table[k] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)book->plane[k]));
  uint64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m256i at = _mm256_loadu_si256((const __m256i *)(const void *)(index + i));
    for (int k = 0; k < bytes; k++) v[k] = _mm256_shuffle_epi8(table[k], at);
    /* Every half of a register has entries of its own 16 indices, which are brought together at the end. */
    __m256i *to = (__m256i *)(void *)(out + i * (uint64_t)bytes);
    if (bytes == 1) store(to, v[0], past);
    if (bytes == 2) {
      const __m256i low = _mm256_unpacklo_epi8(v[0], v[1]), high = _mm256_unpackhi_epi8(v[0], v[1]);
      store(to, _mm256_permute2x128_si256(low, high, 0x20), past);
      store(to + 1, _mm256_permute2x128_si256(low, high, 0x31), past);
    }
    if (bytes == 4) {
      const __m256i a[2] = {_mm256_unpacklo_epi8(v[0], v[1]), _mm256_unpackhi_epi8(v[0], v[1])};
      const __m256i b[2] = {_mm256_unpacklo_epi8(v[2], v[3]), _mm256_unpackhi_epi8(v[2], v[3])};
      for (int h = 0; h < 2; h++) {
        const __m256i low = _mm256_unpacklo_epi16(a[h], b[h]), high = _mm256_unpackhi_epi16(a[h], b[h]);
        store(to + h, _mm256_permute2x128_si256(low, high, 0x20), past);
        store(to + 2 + h, _mm256_permute2x128_si256(low, high, 0x31), past);
      }
    }
  }
  return i;
}

void wk_gather_avx2(const wk_book *book, const void *index, uint32_t index_bytes, uint64_t n, int past,
                    uint8_t *out) {
  uint64_t done = 0;
  if (index_bytes == 1 && book->count <= 16) {
    if (book->bytes == 1) done = shuffle(book, 1, index, n, past, out);
    if (book->bytes == 2) done = shuffle(book, 2, index, n, past, out);
    if (book->bytes == 4) done = shuffle(book, 4, index, n, past, out);
  }
  gather_any(book, (const uint8_t *)index + done * index_bytes, index_bytes, n - done, out + done * book->bytes);
}
