/* Planes for any processor. */
#include "planes.h"

void wk_split_scalar(const wcodec_split *split, const void *x, uint64_t count, void *symbol, uint8_t *const *rest) {
  split_any(split, x, count, symbol, rest);
}

void wk_join_scalar(const wcodec_split *split, const void *symbol, uint32_t symbol_bytes, const uint8_t *const *rest, uint64_t at,
                    uint64_t count, void *out) {
  join_any(split, symbol, symbol_bytes, rest, at, count, out);
}
