/* Splitting and joining elements (planes.md), in loops that compilers vectorise: every planes_*.c compiles them for its
 * instruction set. Number of planes and types are constants of each loop, shifts are not. A symbol has at most 16 bits,
 * so 64-bit elements have 6 to 8 planes. */
#ifndef WCODEC_PLANES_H
#define WCODEC_PLANES_H

#include "internal.h"

/* Rotation by 0 or 1 without a branch: with a shift by 0 both halves are the same number. Arithmetic is done in `wide`,
 * as C would do it in int, whose shifts overflow. */
#define JOIN(name, type, wide, bits, symbols)                                                                       \
  WK_INLINE void name(const wcodec_split *split, const symbols *symbol, const uint8_t *const *rest, uint64_t count, \
                      type *out, const int planes) {                                                                \
    const uint32_t r = split->rest, right = split->sign == 1, left = right * (bits - 1), half = split->sign == 2;     \
    const wide base = (wide)split->base, mask = (wide)(((uint64_t)1 << r) - 1), kept = split->zero ? 0 : ~(wide)0;  \
    const uint8_t *p[8];                                                                                            \
    for (int k = 0; k < planes; k++) p[k] = rest[k];                                                                \
    for (uint64_t i = 0; i < count; i++) {                                                                          \
      const wide s = (wide)symbol[i], moved = (s + base) & (s ? ~(wide)0 : kept);                                   \
      wide low = 0;                                                                                                 \
      for (int k = 0; k < planes; k++) low |= (wide)p[k][i] << (8 * k);                                             \
      const type v = (type)((moved >> half << r) | (low & mask));                                                   \
      out[i] = (type)((wide)v >> right | (wide)v << left | (moved & half) << (bits - 1));                           \
    }                                                                                                               \
  }

JOIN(join_8_8, uint8_t, uint32_t, 8, uint8_t)
JOIN(join_8_16, uint8_t, uint32_t, 8, wk_u16)
JOIN(join_16_8, wk_u16, uint32_t, 16, uint8_t)
JOIN(join_16_16, wk_u16, uint32_t, 16, wk_u16)
JOIN(join_32_8, wk_u32, uint32_t, 32, uint8_t)
JOIN(join_32_16, wk_u32, uint32_t, 32, wk_u16)
JOIN(join_64_8, wk_u64, uint64_t, 64, uint8_t)
JOIN(join_64_16, wk_u64, uint64_t, 64, wk_u16)

#define JOIN_CASE(name, type, symbols, n) \
  case n: name(split, (const symbols *)symbol, rest, count, (type *)out, n); break;
#define JOIN_UP_TO_2(name, type, symbols) \
  JOIN_CASE(name, type, symbols, 0) JOIN_CASE(name, type, symbols, 1) JOIN_CASE(name, type, symbols, 2)
#define JOIN_UP_TO_4(name, type, symbols) \
  JOIN_UP_TO_2(name, type, symbols) JOIN_CASE(name, type, symbols, 3) JOIN_CASE(name, type, symbols, 4)
#define JOIN_UP_TO_8(name, type, symbols) \
  JOIN_CASE(name, type, symbols, 6)       \
  JOIN_CASE(name, type, symbols, 7) default : name(split, (const symbols *)symbol, rest, count, (type *)out, 8);

WK_INLINE void join_any(const wcodec_split *split, const void *symbol, uint32_t symbol_bytes,
                        const uint8_t *const *rest, uint64_t count, void *out) {
  const uint32_t planes = (split->rest + 7) / 8;
  switch (split->bytes * 2 + symbol_bytes - 1) {
    case 2:
      switch (planes) { JOIN_UP_TO_2(join_8_8, uint8_t, uint8_t) }
      break;
    case 3:
      switch (planes) { JOIN_UP_TO_2(join_8_16, uint8_t, wk_u16) }
      break;
    case 4:
      switch (planes) { JOIN_UP_TO_2(join_16_8, wk_u16, uint8_t) }
      break;
    case 5:
      switch (planes) { JOIN_UP_TO_2(join_16_16, wk_u16, wk_u16) }
      break;
    case 8:
      switch (planes) { JOIN_UP_TO_4(join_32_8, wk_u32, uint8_t) }
      break;
    case 9:
      switch (planes) { JOIN_UP_TO_4(join_32_16, wk_u32, wk_u16) }
      break;
    case 16:
      switch (planes) { JOIN_UP_TO_8(join_64_8, wk_u64, uint8_t) }
      break;
    default:
      switch (planes) { JOIN_UP_TO_8(join_64_16, wk_u64, wk_u16) }
      break;
  }
}

#define SPLIT(name, type, wide, bits, symbols)                                                                         \
  WK_INLINE void name(const wcodec_split *split, const type *x, uint64_t count, symbols *symbol, uint8_t *const *rest, \
                      const int planes) {                                                                              \
    const uint32_t r = split->rest, left = split->sign == 1, right = left * (bits - 1), half = split->sign == 2;       \
    const wide top = (wide)half << (bits - 1);                                                                         \
    const uint8_t last = (uint8_t)(r % 8 ? (1u << r % 8) - 1 : 255);                                                   \
    uint8_t *p[8];                                                                                                     \
    for (int k = 0; k < planes; k++) p[k] = rest[k];                                                                   \
    for (uint64_t i = 0; i < count; i++) {                                                                             \
      const type v = (type)((wide)x[i] << left | (wide)x[i] >> right);                                                 \
      symbol[i] = (symbols)(((wide)v & ~top) >> r << half | ((wide)v >> (bits - 1) & half));                           \
      for (int k = 0; k < planes; k++) p[k][i] = (uint8_t)((wide)v >> (8 * k) & (k == planes - 1 ? last : 255));       \
    }                                                                                                                  \
  }

SPLIT(split_8_8, uint8_t, uint32_t, 8, uint8_t)
SPLIT(split_16_8, wk_u16, uint32_t, 16, uint8_t)
SPLIT(split_16_16, wk_u16, uint32_t, 16, wk_u16)
SPLIT(split_32_8, wk_u32, uint32_t, 32, uint8_t)
SPLIT(split_32_16, wk_u32, uint32_t, 32, wk_u16)
SPLIT(split_64_8, wk_u64, uint64_t, 64, uint8_t)
SPLIT(split_64_16, wk_u64, uint64_t, 64, wk_u16)

#define SPLIT_CASE(name, type, symbols, n) \
  case n: name(split, (const type *)x, count, (symbols *)symbol, rest, n); break;
#define SPLIT_UP_TO_2(name, type, symbols) \
  SPLIT_CASE(name, type, symbols, 0) SPLIT_CASE(name, type, symbols, 1) SPLIT_CASE(name, type, symbols, 2)
#define SPLIT_UP_TO_4(name, type, symbols) \
  SPLIT_UP_TO_2(name, type, symbols) SPLIT_CASE(name, type, symbols, 3) SPLIT_CASE(name, type, symbols, 4)
#define SPLIT_UP_TO_8(name, type, symbols) \
  SPLIT_CASE(name, type, symbols, 6)       \
  SPLIT_CASE(name, type, symbols, 7) default : name(split, (const type *)x, count, (symbols *)symbol, rest, 8);

WK_INLINE void split_any(const wcodec_split *split, const void *x, uint64_t count, void *symbol, uint8_t *const *rest) {
  const uint32_t planes = (split->rest + 7) / 8, wide = 8 * split->bytes - split->rest > 8;
  switch (split->bytes * 2 + wide) {
    case 2:
      switch (planes) { SPLIT_UP_TO_2(split_8_8, uint8_t, uint8_t) }
      break;
    case 4:
      switch (planes) { SPLIT_UP_TO_2(split_16_8, wk_u16, uint8_t) }
      break;
    case 5:
      switch (planes) { SPLIT_UP_TO_2(split_16_16, wk_u16, wk_u16) }
      break;
    case 8:
      switch (planes) { SPLIT_UP_TO_4(split_32_8, wk_u32, uint8_t) }
      break;
    case 9:
      switch (planes) { SPLIT_UP_TO_4(split_32_16, wk_u32, wk_u16) }
      break;
    case 16:
      switch (planes) { SPLIT_UP_TO_8(split_64_8, wk_u64, uint8_t) }
      break;
    default:
      switch (planes) { SPLIT_UP_TO_8(split_64_16, wk_u64, wk_u16) }
      break;
  }
}

#define TOKENS(name, symbols)                                                                                  \
  WK_INLINE void name(const symbols *symbol, uint64_t count, uint32_t base, uint8_t *token, uint32_t *range) { \
    const symbols from = (symbols)base;                                                                        \
    symbols low = (symbols)~0u, high = 0; /* low: of symbol - 1, so that 0 becomes the highest number */       \
    for (uint64_t i = 0; i < count; i++) {                                                                     \
      const symbols s = symbol[i], before = (symbols)(s - 1);                                                  \
      low = before < low ? before : low;                                                                       \
      high = s > high ? s : high;                                                                              \
      token[i] = (uint8_t)((s > from ? s : from) - from);                                                      \
    }                                                                                                          \
    if (low + 1u < range[0]) range[0] = low + 1u;                                                              \
    if (high > range[1]) range[1] = high;                                                                      \
  }

TOKENS(tokens_8, uint8_t)
TOKENS(tokens_16, wk_u16)

WK_INLINE void tokens_any(const void *symbol, uint32_t symbol_bytes, uint64_t count, uint32_t base, uint8_t *token,
                          uint32_t *range) {
  if (symbol_bytes == 1) tokens_8((const uint8_t *)symbol, count, base, token, range);
  else tokens_16((const wk_u16 *)symbol, count, base, token, range);
}

/* Join what is left after `done` elements. */
WK_INLINE void join_from(uint64_t done, const wcodec_split *split, const void *symbol, uint32_t symbol_bytes,
                         const uint8_t *const *rest, uint64_t count, void *out) {
  const uint8_t *p[8] = {NULL};
  for (uint32_t k = 0; k < (split->rest + 7) / 8; k++) p[k] = rest[k] + done;
  if (done < count)
    join_any(split, (const uint8_t *)symbol + done * symbol_bytes, symbol_bytes, p, count - done,
             (uint8_t *)out + done * split->bytes);
}
#endif
