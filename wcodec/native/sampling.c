/* What a sample says of an array. The arithmetic is that of wcodec/coding/sampling.py, step by step, so that both choose
 * alike. */
#include "internal.h"

enum { SAMPLE = 1 << 15, RUN = 1 << 10, WIDEST = 11 };

static const double unit = 1 << 20;

/* Where run i of a sample begins, and how many elements it has; a small array is one run. */
WK_INLINE uint64_t runs(uint64_t count) { return count <= SAMPLE ? 1 : SAMPLE / RUN; }
WK_INLINE uint64_t length(uint64_t count) { return count <= SAMPLE ? count : RUN; }
WK_INLINE uint64_t begin(uint64_t count, uint64_t i) { return i ? i * ((count - RUN) / (SAMPLE / RUN - 1)) : 0; }

/* log2 of n > 0 in 2^-20 bits. */
static int64_t log2_of(uint64_t n) {
  double m = (double)n;
  uint64_t bits;
  memcpy(&bits, &m, 8);
  const int e = (int)(bits >> 52) - 1022;
  bits = (bits & 0xFFFFFFFFFFFFF) | 1022ull << 52;
  memcpy(&m, &bits, 8);
  const double t = (m - 0.75) / (m + 0.75), s = t * t;
  const double series =
      t * (2.8853900817779268 + s * (0.961796693925976 + s * (0.5770780163555854 + s * 0.4121985831111324)));
  const double found = (series - 0.41503749927884376 + e) * unit;
  const int64_t whole = (int64_t)found;
  return whole - ((double)whole > found);
}

static int64_t entropy(const uint32_t *counts, uint64_t n) {
  int64_t total = 0, sum = 0;
  for (uint64_t i = 0; i < n; i++)
    if (counts[i]) {
      total += counts[i];
      sum += counts[i] * log2_of(counts[i]);
    }
  return total ? total * log2_of((uint64_t)total) - sum : 0;
}

int wcodec_is_noise(const uint8_t *plane, uint64_t count) {
  uint32_t part[WK_PARTS][256] = {{0}};
  uint64_t counts[256] = {0};
  uint32_t small[256];
  const uint64_t seen = runs(count) * length(count);
  for (uint64_t i = 0; i < runs(count); i++) wk_count(plane + begin(count, i), length(count), part);
  wk_count_up(part, counts);
  for (int i = 0; i < 256; i++) small[i] = (uint32_t)counts[i];
  const double size = (double)(seen ? seen : 1);
  return (double)entropy(small, 256) / unit / size >= 8 - 0.015 - 250 / size;
}

/* Count x >> shift in two places by turns: equal neighbours would wait for each other's store. */
#define COUNT(type)                                                             \
  static void count_##type(const type *x, uint64_t n, uint32_t shift, uint32_t (*counts)[2 << WIDEST]) { \
    for (uint64_t i = 0; i < n; i++) counts[i & 1][x[i] >> shift]++;                                     \
  }

COUNT(uint8_t)
COUNT(wk_u16)
COUNT(wk_u32)
COUNT(wk_u64)

typedef struct {
  double cost;
  uint32_t rest, sign, top;
} choice;

static choice cost_of(const uint32_t *counts, uint64_t seen, uint64_t count, uint32_t bits, uint32_t width, uint32_t sign) {
  uint32_t used = 0, first = 0, last = 0, often = 0;
  for (uint32_t i = 1; i < 1u << width; i++)
    if (counts[i]) {
      if (!used++) first = i;
      last = i;
      often += counts[i] > seen >> 12;
    }
  const uint32_t span = used ? last - first + 1 : 0, slots = span < 255 ? span : 255;
  const double rare = slots > often ? slots - often : 0, size = (double)count, sample = (double)seen;
  double cost = (double)entropy(counts, 1u << width) / unit / sample + bits - width + 0.7 * rare / 4096 + 10.0 * used / size +
                used / (1.39 * sample);
  cost = cost - 0.012 * (width == 8) + 0.01 * (sign == 2);
  return (choice){cost, bits - width, sign, last};
}

void wcodec_choose_split(const void *x, uint32_t bytes, uint64_t count, uint32_t widest, uint32_t *found) {
  uint32_t counts[2][2 << WIDEST] = {{0}}, *const both = counts[0], *const one = counts[1];
  const uint32_t bits = 8 * bytes, shift = bits - 1 - widest, n = length(count);
  for (uint64_t i = 0; i < runs(count); i++) {
    const uint64_t at = begin(count, i);
    if (bytes == 1) count_uint8_t((const uint8_t *)x + at, n, shift, counts);
    else if (bytes == 2) count_wk_u16((const wk_u16 *)x + at, n, shift, counts);
    else if (bytes == 4) count_wk_u32((const wk_u32 *)x + at, n, shift, counts);
    else count_wk_u64((const wk_u64 *)x + at, n, shift, counts);
  }
  /* To pairs of the counts without and with the top bit. */
  for (uint32_t i = 0; i < 2u << widest; i++) one[i] += both[i];
  for (uint32_t i = 0; i < 1u << widest; i++) {
    both[2 * i] = one[i];
    both[2 * i + 1] = one[(1u << widest) + i];
  }
  const uint64_t seen = runs(count) * n;
  choice best = {1e300, 0, 0, 0};
  for (uint32_t width = widest; width > 0 && width + 3 > widest; width--) {
    uint64_t lesser = 0;
    for (uint32_t i = 0; i < 1u << width; i++) {
      one[i] = both[2 * i] + both[2 * i + 1];
      lesser += both[2 * i] < both[2 * i + 1] ? both[2 * i] : both[2 * i + 1];
    }
    choice next = cost_of(one, seen, count, bits, width, 1);
    if (next.cost < best.cost) best = next;
    if ((double)lesser / (double)seen < 0.45) {
      next = cost_of(both, seen, count, bits, width + 1, 2);
      if (next.cost < best.cost) best = next;
    }
    for (uint32_t i = 0; i < 1u << width; i += 2) { /* merge neighbours */
      both[i] = both[2 * i] + both[2 * i + 2];
      both[i + 1] = both[2 * i + 1] + both[2 * i + 3];
    }
  }
  found[0] = best.rest;
  found[1] = best.sign;
  found[2] = best.top;
}
