/* Masks, gaps, scattered values, and what tokens stand for. */
#include "fuzz.h"

/* A mask as bytes and as bits gives the positions that a loop finds; values scattered there stand there. */
void try_masks(void) {
  const uint32_t count = below(2) ? 64 * below(30) + 63 * below(2) : below(below(9) ? 2000 : 70000), rare = 1 + below(below(2) ? 2 : 40), bytes = 1u << below(4);
  uint8_t *mask = get(count), *bits = get((count + 7) / 8);
  uint32_t *expected = get((size_t)count * 4);
  uint64_t kept = 0;
  fill(bits, (count + 7) / 8); /* bits beyond the last element must not matter */
  for (uint32_t i = 0; i < count; i++) {
    mask[i] = (uint8_t)(below(rare) ? 0 : 1 + below(255));
    bits[i / 8] = (uint8_t)((bits[i / 8] & ~(1 << i % 8)) | (mask[i] != 0) << i % 8);
    if (mask[i]) expected[kept++] = i;
  }
  uint8_t *values = get(kept * bytes), *out = get((size_t)count * bytes);
  fill(values, kept * bytes);
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    wcodec_set_isa(isa);
    for (uint32_t packed = 0; packed < 2; packed++) {
      const uint64_t room = kept + below(100);
      uint32_t *found = get(room * 4);
      check(wcodec_count_kept(packed ? bits : mask, count, packed) == kept, "the number of kept elements");
      wcodec_kept_positions(packed ? bits : mask, count, packed, found, room);
      check(wcodec_same(found, expected, kept * 4), "positions");
      free(found);
    }
    const uint8_t before = (uint8_t)any();
    const int clear = (int)below(2);
    memset(out, before, (size_t)count * bytes);
    wcodec_scatter(expected, kept, values, bytes, out, count, clear);
    for (uint64_t i = 0, at = 0; i < count; at += mask[i++] != 0)
      for (uint32_t k = 0; k < bytes; k++)
        check(out[i * bytes + k] == (mask[i] ? values[at * bytes + k] : clear ? 0 : before), "scattered values");
  }
  free(mask);
  free(bits);
  free(expected);
  free(values);
  free(out);
}

/* Any gaps: inside exactly when a loop finds them there, and then at its positions. */
void try_gaps(void) {
  const uint32_t bytes = 1u << below(3), blocks = below(4), block = 1 + below(below(3) ? 12 : 100000);
  const uint32_t widest = 1 + below(below(3) ? 4 : 1u << (bytes == 4 ? 31 : 8 * bytes));
  uint32_t *counts = get(blocks * 4), n = 0;
  for (uint32_t b = 0; b < blocks; b++) n += counts[b] = below(6);
  uint8_t *gaps = get(n * bytes);
  uint32_t *expected = get(n * 4), *out = get(n * 4);
  int inside = 1;
  for (uint32_t b = 0, i = 0; b < blocks; b++) {
    uint64_t at = 0; /* of the element after the last */
    for (uint32_t k = 0; k < counts[b]; k++, i++) {
      const uint32_t gap = below(widest);
      memcpy(gaps + i * bytes, &gap, bytes);
      at += gap + 1ull;
      expected[i] = (uint32_t)((uint64_t)b * block + at - 1);
    }
    inside &= at <= block;
  }
  check(wcodec_gap_positions(gaps, bytes, counts, blocks, block, out) == inside, "gaps");
  check(!inside || wcodec_same(out, expected, n * 4), "positions of gaps");
  free(counts);
  free(gaps);
  free(expected);
  free(out);
}

/* Any gaps of lanes: sound exactly when a loop finds them in their rows, and every row as full as the others. */
void try_bundles(void) {
  const uint32_t bytes = 1u << below(3), bundles = below(4), high = 1 + below(4), per_row = 1 + below(4), banks = high * per_row;
  const uint32_t cols = below(40), steps = (cols + banks - 1) / banks, size = high * cols;
  uint32_t *counts = get(bundles * 4), n = 0;
  for (uint32_t b = 0; b < bundles; b++) n += banks * (counts[b] = below(3));
  uint8_t *gaps = get(n * bytes), *expected = get(bundles * size), *out = get(bundles * size);
  int sound = 1;
  memset(expected, 0, bundles * size);
  for (uint32_t b = 0, i = 0; b < bundles; b++) {
    uint32_t kept[4] = {0};
    for (uint32_t lane = 0; lane < banks; lane++) {
      uint64_t at = 0; /* of the element after the last */
      for (uint32_t k = 0; k < counts[b]; k++, i++) {
        const uint32_t gap = below(100) ? below(steps + 1) : (uint32_t)any() >> (32 - 8 * bytes);
        memcpy(gaps + i * bytes, &gap, bytes);
        at += gap + 1ull;
        const uint64_t row = steps ? (at - 1) / steps : high, column = steps ? (at - 1) % steps * banks + lane : 0;
        if (row >= high || column >= cols) {
          sound = 0;
          continue;
        }
        expected[b * size + row * cols + column] = 1;
        kept[row]++;
      }
    }
    for (uint32_t row = 0; row < high; row++) sound &= kept[row] == counts[b] * per_row;
  }
  check(wcodec_bundle_mask(gaps, bytes, counts, bundles, banks, high, cols, out) == sound, "bundles");
  check(!sound || wcodec_same(out, expected, bundles * size), "the mask of bundles");
  free(counts);
  free(gaps);
  free(expected);
  free(out);
}

void try_join_tokens(void) {
  const uint32_t bytes = 1u << below(3), raw_bytes = below(3), bits = raw_bytes ? 1 + below(8 * raw_bytes) : 0, zero = below(2);
  const uint32_t trellis = below(2);
  const uint32_t count = below(500), base = (uint32_t)(any() >> (32 + below(32)));
  uint8_t *tokens = get(count), *raw = get(count * raw_bytes), *out = get(count * bytes);
  fill(tokens, count);
  fill(raw, count * raw_bytes);
  wcodec_join_tokens(tokens, raw_bytes ? raw : NULL, raw_bytes, count, base, zero, bits, trellis, bytes, out);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t low = 0;
    memcpy(&low, raw + i * raw_bytes, raw_bytes);
    const uint32_t k = (uint32_t)tokens[i] >> trellis, h = zero && !k ? 0 : k + base;
    const uint32_t value = (h << bits | (low & ((1u << bits) - 1))) << trellis | (tokens[i] & trellis);
    check(!memcmp(out + i * bytes, &value, bytes), "values of tokens");
  }
  free(tokens);
  free(raw);
  free(out);
}
