/* Tokens of a trellis as symbols of two bytes, for the compiler to vectorise: included once per instruction set. */
#include "internal.h"

WK_INLINE void symbols_run(const wk_alphabet *a, const uint8_t *tokens, const void *raw, const uint32_t raw_bytes, uint64_t n,
                           wk_u16 *out) {
  const uint16_t base = a->base, zero = a->zero, factor = a->factor, mask = a->mask, cut = a->cut;
  for (uint64_t i = 0; i < n; i++) {
    const uint16_t token = tokens[i], h = (uint16_t)((token >> 1) + base) & (uint16_t)~(token < 2 ? zero : 0);
    const uint16_t rest = raw_bytes == 2 ? ((const wk_u16 *)raw)[i] : raw_bytes == 1 ? ((const uint8_t *)raw)[i] : 0;
    const uint16_t below = (uint16_t)((rest & mask) << 1 | (token & 1));
    out[i] = (uint16_t)(((uint16_t)((uint32_t)h * factor) | below) & cut);
  }
}

WK_INLINE int escapes_run(const uint8_t *tokens, uint64_t n, uint8_t escape) {
  uint8_t least = 1;
  for (uint64_t i = 0; i < n; i++) {
    const uint8_t off = (tokens[i] & 0xFE) ^ escape;
    least = off < least ? off : least;
  }
  return !least;
}

#define WK_SYMBOLS_OF(isa)                                                                                              \
  int wk_escapes_##isa(const uint8_t *tokens, uint64_t n, uint8_t escape) { return escapes_run(tokens, n, escape); }     \
  void wk_symbols_##isa(const wk_alphabet *a, const uint8_t *tokens, const void *raw, uint32_t raw_bytes, uint64_t n,   \
                        wk_u16 *out) {                                                                                  \
    if (raw_bytes == 2) symbols_run(a, tokens, raw, 2, n, out);                                                         \
    else if (raw_bytes) symbols_run(a, tokens, raw, 1, n, out);                                                         \
    else symbols_run(a, tokens, raw, 0, n, out);                                                                        \
  }
