/* Masks as positions, and values scattered there (spec/codecs/sparse.md). */
#include <stdatomic.h>

#include "internal.h"

#if WK_X86
#include <emmintrin.h>
#endif

enum {
  PIECE = 1 << 14 /* bytes of the output that are cleared and filled while they are in the first-level cache */
};

/* Copy a piece, past the caches where that can be. Both are aligned to WK_LINE. */
WK_INLINE void copy_piece(void *to, const void *from) {
#if WK_X86
  for (uint64_t i = 0; i < PIECE / sizeof(__m128i); i++) _mm_stream_si128((__m128i *)to + i, ((const __m128i *)from)[i]);
#else
  memcpy(to, from, PIECE);
#endif
}

/* Positions of the bits of a word, from `base` on. */
WK_INLINE uint64_t put_word(uint64_t word, uint32_t base, uint32_t *out, uint64_t n) {
  for (; word; word &= word - 1) out[n++] = base + (uint32_t)__builtin_ctzll(word);
  return n;
}

static uint64_t word_of_bits(const uint8_t *bits, uint64_t n) {
  uint64_t word = 0;
  memcpy(&word, bits, (n + 7) / 8);
  return n < 64 ? word & ((1ull << n) - 1) : word;
}

/* Eight bytes to eight bits: each byte's bits move to its lowest, which a product gathers in the top byte. */
static uint64_t word_of_bytes(const uint8_t *mask, uint64_t n) {
  uint64_t word = 0;
  for (uint64_t i = 0; i < n; i += 8) {
    uint64_t x = 0;
    memcpy(&x, mask + i, n - i < 8 ? n - i : 8);
    x |= x >> 4 & 0x0F0F0F0F0F0F0F0Full;
    x |= x >> 2 & 0x3F3F3F3F3F3F3F3Full;
    x = (x | x >> 1) & 0x0101010101010101ull;
    word |= (x * 0x0102040810204080ull >> 56) << i;
  }
  return word;
}

#define POSITIONS(name, read, step)                                                \
  void name(const uint8_t *mask, uint64_t from, uint64_t count, uint32_t *out) {   \
    uint64_t n = 0;                                                                \
    for (uint64_t i = from; i < count; i += 64)                                    \
      n = put_word(read(mask + i / step, count - i < 64 ? count - i : 64), (uint32_t)i, out, n); \
  }

POSITIONS(wk_bits_scalar, word_of_bits, 8)
POSITIONS(wk_bytes_scalar, word_of_bytes, 1)

uint64_t wcodec_count_kept(const uint8_t *mask, uint64_t count, uint32_t bits) {
  uint64_t n = 0;
#if WK_X86
  if (bits && wk_isa() == WCODEC_AVX512) return wk_count_bits_avx512(mask, count);
#endif
  if (!bits) {
    for (uint64_t i = 0; i < count; i++) n += mask[i] != 0;
    return n;
  }
  for (uint64_t i = 0; i < count; i += 64)
    n += (uint64_t)__builtin_popcountll(word_of_bits(mask + i / 8, count - i < 64 ? count - i : 64));
  return n;
}

void wcodec_kept_positions(const uint8_t *mask, uint64_t count, uint32_t bits, uint32_t *out, uint64_t room) {
(void)room;
#if WK_X86
  if (wk_isa() == WCODEC_AVX512) {
    (bits ? wk_bits_avx512 : wk_bytes_avx512)(mask, count, out, room);
    return;
  }
#endif
  (bits ? wk_bits_scalar : wk_bytes_scalar)(mask, 0, count, out);
}

#define GAPS(type, name)                                                                               \
  static int name(const type *gaps, const uint32_t *counts, uint64_t blocks, uint64_t block, uint32_t *out) { \
    int inside = 1;                                                                                    \
    for (uint64_t b = 0; b < blocks; b++) {                                                            \
      const uint64_t base = b * block - 1;                                                             \
      uint64_t at = 0;                                                                                 \
      for (uint32_t i = 0; i < counts[b]; i++) {                                                       \
        at += (uint64_t)gaps[i] + 1;                                                                   \
        out[i] = (uint32_t)(base + at);                                                                \
      }                                                                                                \
      inside &= at <= block;                                                                           \
      gaps += counts[b];                                                                               \
      out += counts[b];                                                                                \
    }                                                                                                  \
    return inside;                                                                                     \
  }

GAPS(uint8_t, gaps_8)
GAPS(wk_u16, gaps_16)
GAPS(wk_u32, gaps_32)

int wcodec_gap_positions(const void *gaps, uint32_t bytes, const uint32_t *counts, uint64_t blocks, uint64_t block,
                         uint32_t *out) {
  if (bytes == 1) return gaps_8((const uint8_t *)gaps, counts, blocks, block, out);
  if (bytes == 2) return gaps_16((const wk_u16 *)gaps, counts, blocks, block, out);
  return gaps_32((const wk_u32 *)gaps, counts, blocks, block, out);
}

/* A lane goes down the rows of its bundle, in every one along the columns banks apart. */
#define BUNDLE(type, name)                                                                                            \
  static int name(const type *gaps, uint32_t count, uint32_t banks, uint32_t high, uint64_t cols, uint8_t *mask) {    \
    const uint64_t steps = (cols + banks - 1) / banks;                                                                \
    if (!steps) return count == 0;                                                                                    \
    memset(mask, 0, high * cols);                                                                                     \
    for (uint32_t lane = 0; lane < banks; lane++) {                                                                   \
      uint64_t row = 0, step = UINT64_MAX; /* one before the first */                                                 \
      for (uint32_t i = 0; i < count; i++) {                                                                          \
        step += *gaps++ + 1ull;                                                                                       \
        for (; step >= steps && row < high; row++) step -= steps;                                                     \
        const uint64_t column = step * banks + lane;                                                                  \
        if (row >= high || column >= cols) return 0;                                                                  \
        mask[row * cols + column] = 1;                                                                                \
      }                                                                                                               \
    }                                                                                                                 \
    for (uint32_t row = 0; row < high; row++) {                                                                       \
      uint64_t kept = 0;                                                                                              \
      for (uint64_t i = 0; i < cols; i++) kept += mask[row * cols + i];                                               \
      if (kept * high != (uint64_t)count * banks) return 0;                                                           \
    }                                                                                                                 \
    return 1;                                                                                                         \
  }

BUNDLE(uint8_t, bundle_8)
BUNDLE(wk_u16, bundle_16)
BUNDLE(wk_u32, bundle_32)

int wcodec_bundle_mask(const void *gaps, uint32_t bytes, const uint32_t *counts, uint64_t bundles, uint32_t banks,
                       uint32_t high, uint64_t cols, uint8_t *mask) {
  const uint8_t *at = (const uint8_t *)gaps;
  int inside = 1;
  for (uint64_t b = 0; inside && b < bundles; b++) {
    inside = bytes == 1   ? bundle_8(at, counts[b], banks, high, cols, mask)
             : bytes == 2 ? bundle_16((const wk_u16 *)at, counts[b], banks, high, cols, mask)
                          : bundle_32((const wk_u32 *)at, counts[b], banks, high, cols, mask);
    at += (uint64_t)counts[b] * banks * bytes;
    mask += high * cols;
  }
  return inside;
}

#define SCATTER(type, name)                                                                                    \
  static void name(const uint32_t *positions, uint64_t n, const type *values, type *out, uint64_t count, int clear) { \
    const uint64_t some = PIECE / sizeof(type), past = count >= WK_LARGE / sizeof(type) && (uintptr_t)out % WK_LINE == 0; \
    _Alignas(WK_LINE) type piece[PIECE / sizeof(type)];                                                        \
    uint64_t i = 0, at = 0;                                                                                    \
    for (; past && clear && at + some <= count; at += some) {                                                  \
      memset(piece, 0, sizeof piece);                                                                          \
      for (; i < n && positions[i] < at + some; i++) piece[positions[i] - at] = values[i];                     \
      copy_piece(out + at, piece);                                                                             \
    }                                                                                                          \
    for (; clear && at < count; at += some) {                                                                  \
      const uint64_t end = count - at < some ? count : at + some;                                              \
      memset(out + at, 0, (end - at) * sizeof(type));                                                          \
      for (; i < n && positions[i] < end; i++) out[positions[i]] = values[i];                                  \
    }                                                                                                          \
    for (; i < n; i++) out[positions[i]] = values[i];                                                          \
  }

SCATTER(uint8_t, scatter_8)
SCATTER(wk_u16, scatter_16)
SCATTER(wk_u32, scatter_32)
SCATTER(wk_u64, scatter_64)

void wcodec_scatter(const uint32_t *positions, uint64_t n, const void *values, uint32_t bytes, void *out, uint64_t count,
                    int clear) {
  if (bytes == 1) scatter_8(positions, n, (const uint8_t *)values, (uint8_t *)out, count, clear);
  else if (bytes == 2) scatter_16(positions, n, (const wk_u16 *)values, (wk_u16 *)out, count, clear);
  else if (bytes == 4) scatter_32(positions, n, (const wk_u32 *)values, (wk_u32 *)out, count, clear);
  else scatter_64(positions, n, (const wk_u64 *)values, (wk_u64 *)out, count, clear);
  atomic_thread_fence(memory_order_seq_cst); /* stores past the caches are not ordered otherwise */
}

/* h without what lies below it. */
WK_INLINE uint32_t high(uint8_t token, uint32_t trellis, uint32_t base, uint32_t zero) {
  const uint32_t k = (uint32_t)token >> trellis;
  return zero && !k ? 0 : k + base;
}

#define JOIN(type, name)                                                                                        \
  static void name(const uint8_t *tokens, const void *raw, uint32_t raw_bytes, uint64_t count, uint32_t base,   \
                   uint32_t zero, uint32_t bits, uint32_t trellis, type *out) {                                 \
    const uint32_t mask = (1u << bits) - 1, shift = bits + trellis;                                             \
    const uint8_t *low = (const uint8_t *)raw;                                                                  \
    const wk_u16 *wide = (const wk_u16 *)raw;                                                                   \
    for (uint64_t i = 0; i < count; i++) {                                                                      \
      const uint32_t rest = raw_bytes == 2 ? wide[i] & mask : raw_bytes == 1 ? low[i] & mask : 0;               \
      out[i] = (type)(high(tokens[i], trellis, base, zero) << shift | rest << trellis | (tokens[i] & trellis)); \
    }                                                                                                           \
  }

JOIN(uint8_t, join_8)
JOIN(wk_u16, join_16)
JOIN(wk_u32, join_32)

/* Bytes out of tokens without a trellis and bytes of raw bits: what compilers make registers of. */
static void join_bytes(const uint8_t *tokens, const uint8_t *raw, uint64_t count, uint8_t base, uint32_t bits, uint8_t *out) {
  const uint8_t mask = (uint8_t)((1u << bits) - 1), scale = (uint8_t)(1u << bits);
  if (!raw) {
    for (uint64_t i = 0; i < count; i++) out[i] = (uint8_t)(tokens[i] + base);
  } else {
    for (uint64_t i = 0; i < count; i++) out[i] = (uint8_t)((uint8_t)(tokens[i] + base) * scale | (raw[i] & mask));
  }
}

void wcodec_join_tokens(const uint8_t *tokens, const void *raw, uint32_t raw_bytes, uint64_t count, uint32_t base,
                        uint32_t zero, uint32_t bits, uint32_t trellis, uint32_t bytes, void *out) {
  if (bytes == 1 && raw_bytes < 2 && !zero && !trellis)
    join_bytes(tokens, (const uint8_t *)raw, count, (uint8_t)base, bits, (uint8_t *)out);
  else if (bytes == 1) join_8(tokens, raw, raw_bytes, count, base, zero, bits, trellis, (uint8_t *)out);
  else if (bytes == 2) join_16(tokens, raw, raw_bytes, count, base, zero, bits, trellis, (wk_u16 *)out);
  else join_32(tokens, raw, raw_bytes, count, base, zero, bits, trellis, (wk_u32 *)out);
}
