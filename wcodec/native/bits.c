/* Integers of any width without gaps (bitpack.md). */
#include "internal.h"

/* Value i by one load: the eight bytes from its first one hold it when it begins with bit `at` of them and at + width
 * <= 64. */
WK_INLINE uint64_t take(const uint8_t *data, uint64_t bit, uint32_t width) {
  const uint8_t *from = data + (bit >> 3);
  const uint32_t at = bit & 7;
  uint64_t value = *(const wk_u64 *)from >> at;
  if (at + width > 64) value |= (uint64_t)from[8] << (64 - at);
  return value;
}

#define UNPACK(type, name)                                                                                     \
  static void name(const uint8_t *data, uint64_t count, uint32_t width, uint64_t base, type *out) {            \
    const uint64_t mask = width == 64 ? ~0ull : (1ull << width) - 1, size = (count * width + 7) / 8;           \
    /* Values whose eight bytes (and one more) lie inside the data; the others are read from a padded copy. */ \
    uint64_t fast = size >= 16 ? ((size - 9) * 8) / width : 0, i = 0;                                          \
    if (fast > count) fast = count;                                                                            \
    if (width <= 57)                                                                                           \
      for (uint64_t bit = 0; i < fast; i++, bit += width)                                                      \
        out[i] = (type)((*(const wk_u64 *)(data + (bit >> 3)) >> (bit & 7) & mask) + base);                    \
    else                                                                                                       \
      for (; i < fast; i++) out[i] = (type)((take(data, i * width, width) & mask) + base);                     \
    const uint64_t from = fast * width / 8;                                                                    \
    uint8_t tail[64] = {0};                                                                                    \
    memcpy(tail, data + from, size - from);                                                                    \
    for (; i < count; i++) out[i] = (type)((take(tail, i * width - from * 8, width) & mask) + base);           \
  }

UNPACK(uint8_t, unpack_8)
UNPACK(wk_u16, unpack_16)
UNPACK(wk_u32, unpack_32)
UNPACK(wk_u64, unpack_64)

void wcodec_unpack_bits(const uint8_t *data, uint32_t bytes, uint64_t count, uint32_t width, uint64_t base, void *out) {
  const wk_kernels *kernels = wk_current();
  if (bytes == 1 && width < 8 && (uint8_t)base == 0 && kernels->unpack) {
    kernels->unpack(data, width, count, (uint8_t *)out);
    return;
  }
  if (bytes == 1) unpack_8(data, count, width, base, (uint8_t *)out);
  else if (bytes == 2) unpack_16(data, count, width, base, (wk_u16 *)out);
  else if (bytes == 4) unpack_32(data, count, width, base, (wk_u32 *)out);
  else unpack_64(data, count, width, base, (wk_u64 *)out);
}

/* Bits to be stored: at most 63 wait in `bits`. */
typedef struct {
  uint8_t *out;
  uint64_t bits;
  uint32_t fill;
} sink;

WK_INLINE void put(sink *s, uint64_t value, uint32_t width) {
  s->bits |= value << s->fill;
  s->fill += width;
  if (s->fill >= 64) {
    *(wk_u64 *)s->out = s->bits;
    s->out += 8;
    s->fill -= 64;
    s->bits = s->fill ? value >> (width - s->fill) : 0;
  }
}

/* Move the fields of a word of 64 / bits numbers together: neighbours, then pairs of them, then fours. */
WK_INLINE uint64_t squeeze(uint64_t x, uint32_t size, uint32_t width) {
  for (; size < 64; size *= 2, width *= 2) {
    const uint64_t low = size == 32 ? 0xFFFFFFFFull : size == 16 ? 0x0000FFFF0000FFFFull : 0x00FF00FF00FF00FFull;
    x = (x & low) | (x & ~low) >> (size - width);
  }
  return x;
}

#define PACK(type, size, name)                                                                                \
  static void name(const type *x, uint64_t count, uint32_t width, uint64_t base, uint8_t *out) {              \
    const uint64_t mask = width == 64 ? ~0ull : (1ull << width) - 1;                                          \
    const uint32_t several = 64 / size;                                                                       \
    sink s = {out, 0, 0};                                                                                     \
    uint64_t i = 0;                                                                                           \
    for (; i + several <= count; i += several) {                                                              \
      uint64_t word = 0;                                                                                      \
      for (uint32_t k = 0; k < several; k++) word |= (((uint64_t)x[i + k] - base) & mask) << (k * size % 64); \
      put(&s, squeeze(word, size, width), width * several);                                                   \
    }                                                                                                         \
    for (; i < count; i++) put(&s, ((uint64_t)x[i] - base) & mask, width);                                    \
    for (; s.fill > 0; s.fill = s.fill > 8 ? s.fill - 8 : 0, s.bits >>= 8) *s.out++ = (uint8_t)s.bits;        \
  }

PACK(uint8_t, 8, pack_8)
PACK(wk_u16, 16, pack_16)
PACK(wk_u32, 32, pack_32)
PACK(wk_u64, 64, pack_64)

void wk_pack_scalar(const uint8_t *x, uint32_t width, uint64_t n, uint8_t *out) { pack_8(x, n, width, 0, out); }

void wcodec_pack_bits(const void *x, uint32_t bytes, uint64_t count, uint32_t width, uint64_t base, uint8_t *out) {
  const wk_kernels *kernels = wk_current();
  if (bytes == 1 && width < 8 && (uint8_t)base == 0 && kernels->pack) {
    kernels->pack((const uint8_t *)x, width, count, out);
    return;
  }
  if (bytes == 1) pack_8((const uint8_t *)x, count, width, base, out);
  else if (bytes == 2) pack_16((const wk_u16 *)x, count, width, base, out);
  else if (bytes == 4) pack_32((const wk_u32 *)x, count, width, base, out);
  else pack_64((const wk_u64 *)x, count, width, base, out);
}
