/* Tables of frequencies (entropy.md section 1): from their bytes to frequencies and look-up, and from counts to their bytes. */
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

/* Raise the frequencies of the `missing` tokens that gain most: ln((f+1)/f) is about 2/(2f+1). The first of equals. */
static void raise(const double *weight, uint32_t *f, uint32_t n, uint32_t missing) {
  double gain[256];
  for (uint32_t i = 0; i < n; i++) gain[i] = weight[i] / (2 * f[i] + 1);
  for (uint32_t k = 0; k < missing && k < n; k++) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
      if (gain[i] > gain[best]) best = i;
    gain[best] = -1;
    f[best]++;
  }
}

/* Lower that of the token that loses least. */
static void lower(const double *weight, uint32_t *f, uint32_t n) {
  uint32_t best = n;
  double least = 0;
  for (uint32_t i = 0; i < n; i++) {
    const double loss = weight[i] / (2 * f[i] - 1);
    if (f[i] > 1 && (best == n || loss < least)) {
      best = i;
      least = loss;
    }
  }
  f[best]--;
}

static void fit(const wk_u64 *counts, uint32_t precision, wk_u16 *frequencies) {
  double weight[256], total = 0;
  uint32_t token[256], f[256], n = 0, sum = 0;
  const uint32_t size = 1u << precision;
  memset(frequencies, 0, 256 * sizeof *frequencies);
  for (uint32_t t = 0; t < 256; t++)
    if (counts[t]) {
      token[n] = t;
      total += weight[n++] = (double)counts[t];
    }
  if (n == 1) {
    frequencies[token[0]] = (uint16_t)(size - 1);
    frequencies[token[0] < 255 ? token[0] + 1 : token[0] - 1] = 1;
  }
  if (n < 2) return;
  const double scale = size / total;
  for (uint32_t i = 0; i < n; i++) {
    f[i] = (uint32_t)(weight[i] * scale);
    sum += f[i] += !f[i];
  }
  while (sum < size) {
    const uint32_t missing = size - sum;
    raise(weight, f, n, missing);
    sum += missing < n ? missing : n;
  }
  for (; sum > size; sum--) lower(weight, f, n);
  for (uint32_t i = 0; i < n; i++) frequencies[token[i]] = (uint16_t)f[i];
}

void wcodec_fit_tables(const uint64_t *counts, uint32_t tables, uint32_t precision, uint16_t *frequencies) {
  for (uint32_t t = 0; t < tables; t++) fit((const wk_u64 *)counts + 256 * t, precision, (wk_u16 *)frequencies + 256 * t);
}

/* Add the low bits of value to bytes that are zero from `at` on. */
WK_INLINE void put_bits(uint8_t *out, uint64_t at, uint32_t value, uint32_t bits) {
  value = (value & ((1u << bits) - 1)) << at % 8;
  for (uint8_t *to = out + at / 8; value; value >>= 8) *to++ |= (uint8_t)value;
}

/* Write one table; returns the bytes it takes. */
static uint64_t pack_table(const wk_u16 *frequencies, uint8_t *out) {
  uint32_t first = 0, last = 255, lengths[256];
  while (first < 255 && !frequencies[first]) first++;
  while (last > first && !frequencies[last]) last--;
  memset(out, 0, 514);
  if (!frequencies[first]) return 3; /* unused */
  out[0] = (uint8_t)first;
  out[1] = (uint8_t)(last - first);
  uint64_t at = 16;
  for (uint32_t t = first; t <= last; t++, at += 4) {
    lengths[t] = 0;
    for (uint32_t f = frequencies[t]; f; f >>= 1) lengths[t]++;
    put_bits(out, at, lengths[t], 4);
  }
  for (uint32_t t = first; t <= last; t++)
    if (lengths[t]) {
      put_bits(out, at, frequencies[t], lengths[t] - 1);
      at += lengths[t] - 1;
    }
  return (at + 7) / 8;
}

uint64_t wcodec_pack_tables(const uint16_t *frequencies, uint32_t tables, uint8_t *out) {
  uint64_t used = 0;
  for (uint32_t t = 0; t < tables; t++) used += pack_table((const wk_u16 *)frequencies + 256 * t, out + used);
  return used;
}
