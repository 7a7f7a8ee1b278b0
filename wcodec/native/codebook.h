/* Look-up in a codebook (codebook.md), in loops that compilers vectorise where they can: every codebook_*.c compiles them
 * for its instruction set. The size of an entry is a constant of each loop. */
#ifndef WCODEC_CODEBOOK_H
#define WCODEC_CODEBOOK_H

#include "internal.h"

WK_INLINE void copy_entries(const uint8_t *entries, const size_t bytes, const void *index, uint32_t index_bytes,
                            uint64_t n, uint8_t *out) {
  const uint8_t *narrow = index;
  const wk_u16 *wide = index;
  if (index_bytes == 1)
    for (uint64_t i = 0; i < n; i++) memcpy(out + i * bytes, entries + narrow[i] * bytes, bytes);
  else
    for (uint64_t i = 0; i < n; i++) memcpy(out + i * bytes, entries + wide[i] * bytes, bytes);
}

#define ENTRIES(size) \
  case size: copy_entries(book->entries, size, index, index_bytes, n, out); break;

/* Every index is below book->count. */
WK_INLINE void gather_any(const wk_book *book, const void *index, uint32_t index_bytes, uint64_t n, uint8_t *out) {
  switch (book->bytes) {
    ENTRIES(1) ENTRIES(2) ENTRIES(4) ENTRIES(8) ENTRIES(16) ENTRIES(32)
    default: copy_entries(book->entries, book->bytes, index, index_bytes, n, out);
  }
}

#endif
