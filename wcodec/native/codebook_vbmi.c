/* Codebooks where the processor permutes bytes (AVX512-VBMI): up to 256 entries of up to 8 bytes are looked up in
 * registers, byte by byte of an entry for 64 indices at once, and the bytes interleaved. */
#include <immintrin.h>

#include "codebook.h"

#define BYTES 64

/* Unpacking works in quarters of the register. These are the orders of the indices from which entries of 2, 4 and 8 bytes
 * come out in their order: quadwords, doublewords and words. */
static const uint64_t order_2[8] = {0, 4, 1, 5, 2, 6, 3, 7};
static const uint32_t order_4[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
static const uint16_t order_8[32] = {0, 4, 8,  12, 16, 20, 24, 28, 1, 5, 9,  13, 17, 21, 25, 29,
                                     2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31};

WK_INLINE __m512i arrange(const int bytes, __m512i index) {
  if (bytes == 2) return _mm512_permutexvar_epi64(_mm512_loadu_si512(order_2), index);
  if (bytes == 4) return _mm512_permutexvar_epi32(_mm512_loadu_si512(order_4), index);
  if (bytes == 8) return _mm512_permutexvar_epi16(_mm512_loadu_si512(order_8), index);
  return index;
}

/* The first n bytes of a register. */
WK_INLINE __mmask64 first(uint64_t n) { return n < 64 ? ((__mmask64)1 << n) - 1 : ~(__mmask64)0; }

WK_INLINE void store(void *p, __m512i x, const int past) {
  if (past) _mm512_stream_si512((__m512i *)p, x);
  else _mm512_storeu_si512(p, x);
}

/* A byte of the entries at 64 indices, from a table of 64 * quarters bytes. */
WK_INLINE __m512i look_up(const __m512i *table, const int quarters, __m512i index) {
  if (quarters == 1) return _mm512_permutexvar_epi8(index, table[0]);
  const __m512i low = _mm512_permutex2var_epi8(table[0], index, table[1]);
  if (quarters == 2) return low;
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, _mm512_permutex2var_epi8(table[2], index, table[3]));
}

/* Entries of 64 indices from the registers of their bytes, in place: pairs of bytes, of words, of doublewords. */
WK_INLINE void interleave(__m512i *v, const int bytes) {
  __m512i u[8];
  if (bytes == 2) {
    u[0] = _mm512_unpacklo_epi8(v[0], v[1]), u[1] = _mm512_unpackhi_epi8(v[0], v[1]);
    memcpy(v, u, 2 * sizeof *v);
  }
  if (bytes >= 4) {
    for (int k = 0; k < bytes; k += 4) /* of planes 0 to 3, and 4 to 7: low bytes, high bytes */
      for (int j = 0; j < 4; j += 2) {
        u[k + j] = _mm512_unpacklo_epi8(v[k + j], v[k + j + 1]);
        u[k + j + 1] = _mm512_unpackhi_epi8(v[k + j], v[k + j + 1]);
      }
    for (int k = 0; k < bytes; k += 4)
      for (int j = 0; j < 2; j++) {
        v[k + 2 * j] = _mm512_unpacklo_epi16(u[k + j], u[k + j + 2]);
        v[k + 2 * j + 1] = _mm512_unpackhi_epi16(u[k + j], u[k + j + 2]);
      }
  }
  if (bytes == 8) {
    for (int j = 0; j < 4; j++) {
      u[2 * j] = _mm512_unpacklo_epi32(v[j], v[j + 4]);
      u[2 * j + 1] = _mm512_unpackhi_epi32(v[j], v[j + 4]);
    }
    memcpy(v, u, sizeof u);
  }
}

/* Index of an entry: index[i], or 2 * index[i] + z0[i]. */
WK_INLINE void permute(const wk_book *book, const int bytes, const int quarters, const wk_piece *p) {
  __m512i table[8][4], v[8];
  for (int k = 0; k < bytes; k++)
    for (int q = 0; q < quarters; q++) table[k][q] = _mm512_loadu_si512(book->plane[k] + 64 * q);
  for (uint64_t r = 0; r < p->rows; r++) {
    const uint8_t *index = p->symbols + r * p->n, *z0 = p->z0 ? p->z0 + r * p->n : NULL;
    uint8_t *out = p->out + r * p->stride;
    for (uint64_t i = 0; i < p->n; i += 64, out += 64 * bytes) {
      const uint64_t some = p->n - i < 64 ? p->n - i : 64;
      __m512i its = _mm512_maskz_loadu_epi8(first(some), index + i);
      if (z0) its = _mm512_add_epi8(_mm512_add_epi8(its, its), _mm512_maskz_loadu_epi8(first(some), z0 + i));
      const __m512i at = arrange(bytes, its);
      for (int k = 0; k < bytes; k++) v[k] = look_up(table[k], quarters, at);
      interleave(v, bytes);
      if (some == 64)
        for (int k = 0; k < bytes; k++) store(out + 64 * k, v[k], p->past);
      else
        for (uint64_t k = 0; 64 * k < some * (uint64_t)bytes; k++)
          _mm512_mask_storeu_epi8(out + 64 * k, first(some * (uint64_t)bytes - 64 * k), v[k]);
    }
  }
}

WK_INLINE void any_size(const wk_book *book, const int bytes, const wk_piece *p) {
  if (book->count <= 64) permute(book, bytes, 1, p);
  else if (book->count <= 128) permute(book, bytes, 2, p);
  else permute(book, bytes, 4, p);
}

void wk_gather_vbmi(const wk_book *book, const void *index, uint32_t index_bytes, uint64_t n, int past,
                    uint8_t *out) {
  const uint32_t bytes = index_bytes == 1 && book->count <= 256 ? book->bytes : 0;
  const wk_piece piece = {.symbols = index, .bytes = 1, .rows = 1, .n = n, .past = past, .out = out};
  if (bytes == 1) any_size(book, 1, &piece);
  else if (bytes == 2) any_size(book, 2, &piece);
  else if (bytes == 4) any_size(book, 4, &piece);
  else if (bytes == 8) any_size(book, 8, &piece);
  else gather_any(book, index, index_bytes, n, out);
}

void wk_look_up_lattice_vbmi(const wk_book *book, const wk_piece *p) {
  if (book->bytes == 2) any_size(book, 2, p);
  else if (book->bytes == 4) any_size(book, 4, p);
  else any_size(book, 8, p);
}
