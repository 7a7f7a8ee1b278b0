/* Codebooks for any processor, and the check of indices. */
#include "codebook.h"

void wk_gather_scalar(const wk_book *book, const void *index, uint32_t index_bytes, uint64_t n, int past,
                      uint8_t *out) {
  (void)past;
  gather_any(book, index, index_bytes, n, out);
}

void wk_open_book(wk_book *book, const void *centroids, uint32_t count, uint32_t bytes) {
  book->entries = centroids;
  book->count = count;
  book->bytes = bytes;
  if (count > 256 || bytes > 8) return;
  memset(book->plane, 0, sizeof book->plane);
  for (uint32_t i = 0; i < count; i++)
    for (uint32_t k = 0; k < bytes; k++) book->plane[k][i] = book->entries[i * bytes + k];
}

WK_INLINE uint32_t highest(const void *index, uint32_t index_bytes, uint64_t n) {
  const uint8_t *narrow = index;
  const wk_u16 *wide = index;
  uint8_t of_narrow = 0;
  uint16_t of_wide = 0;
  if (index_bytes == 1)
    for (uint64_t i = 0; i < n; i++) of_narrow = narrow[i] > of_narrow ? narrow[i] : of_narrow;
  else
    for (uint64_t i = 0; i < n; i++) of_wide = wide[i] > of_wide ? wide[i] : of_wide;
  return of_narrow | of_wide;
}

int wcodec_gather(const void *centroids, uint32_t count, uint32_t bytes, const void *index, uint32_t index_bytes,
                  uint64_t n, void *out) {
  const wk_kernels *kernels = wk_current();
  wk_book book;
  wk_open_book(&book, centroids, count, bytes);
  for (uint64_t at = 0; at < n; at += WK_CHUNK) { /* checked, then looked up while in the first-level cache */
    const uint8_t *first = (const uint8_t *)index + at * index_bytes;
    const uint64_t some = n - at < WK_CHUNK ? n - at : WK_CHUNK;
    if (highest(first, index_bytes, some) >= count) return 0;
    kernels->gather(&book, first, index_bytes, some, 0, (uint8_t *)out + at * bytes);
  }
  return 1;
}
