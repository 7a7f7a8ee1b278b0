/* Tables of frequencies: from their bytes to frequencies and look-up (entropy.md section 1). */
#include "internal.h"

/* Bits of a table from some position on, of at most 13 bits at once; zero beyond the end. */
WK_INLINE uint32_t bits_at(const uint8_t *data, uint64_t size, uint64_t bit) {
  uint32_t found = 0;
  for (uint64_t i = 0, from = bit / 8; i < 3 && from + i < size; i++) found |= (uint32_t)data[from + i] << (8 * i);
  return found >> bit % 8;
}

/* Read one table; returns the bytes it takes, 0 when it breaks a rule. */
static uint64_t read_table(const uint8_t *data, uint64_t size, uint32_t precision, wk_u16 *frequencies) {
  memset(frequencies, 0, 256 * sizeof *frequencies);
  if (size < 3 || data[0] + data[1] > 255) return 0;
  const uint32_t first = data[0], span = data[1] + 1u;
  const int unused = !data[0] && !data[1] && !data[2];
  uint8_t lengths[256];
  uint64_t used = 4 * span;
  uint32_t total = 0;
  data += 2;
  size -= 2;
  if (used > 8 * size) return 0;
  for (uint32_t i = 0; i < span; i++) {
    lengths[i] = data[i / 2] >> (i % 2 * 4) & 15;
    if (lengths[i] > precision) return 0;
    used += lengths[i] ? lengths[i] - 1u : 0;
  }
  if (used > 8 * size || ((!lengths[0] || !lengths[span - 1]) && !unused)) return 0;
  for (uint64_t i = 0, at = 4 * span; i < span; i++)
    if (lengths[i]) {
      const uint32_t low = lengths[i] - 1u, f = 1u << low | (bits_at(data, size, at) & ((1u << low) - 1));
      if (f >= 1u << precision) return 0;
      frequencies[first + i] = (uint16_t)f;
      total += f;
      at += low;
    }
  if (used % 8 && data[used / 8] >> used % 8) return 0; /* padding */
  if (!unused && total != 1u << precision) return 0;
  return 2 + (used + 7) / 8;
}

uint64_t wcodec_read_tables(const uint8_t *data, uint64_t size, uint32_t tables, uint32_t precision, uint16_t *frequencies,
                            uint32_t *lut) {
  uint64_t used = 0;
  for (uint32_t t = 0; t < tables; t++) {
    wk_u16 *f = (wk_u16 *)frequencies + 256 * t;
    wk_u32 *entry = (wk_u32 *)lut + ((uint64_t)t << precision);
    const uint64_t taken = read_table(data + used, size - used, precision, f);
    if (!taken) return 0;
    used += taken;
    uint32_t slot = 0;
    for (uint32_t token = 0; token < 256; token++)
      for (uint32_t k = 0; k < f[token]; k++) entry[slot++] = f[token] | k << 12 | token << 24;
    if (!slot) memset(entry, 0, sizeof(uint32_t) << precision);
  }
  return used;
}
