/* Planes and packed bits. */
#include "fuzz.h"

void join_slowly(const wcodec_split *split, const uint8_t *tokens, const uint8_t *const *rest, uint64_t count,
                        void *out) {
  const uint32_t planes = (split->rest + 7) / 8, width = split->rest % 8;
  uint8_t *symbols = get(2 * count), *top = get(count);
  const uint8_t *all[8] = {NULL};
  for (uint64_t i = 0; i < count; i++) {
    const uint16_t symbol = (uint16_t)(split->zero && !tokens[i] ? 0 : tokens[i] + split->base);
    memcpy(symbols + 2 * i, &symbol, 2);
  }
  for (uint32_t k = 0; k < planes; k++) all[k] = rest[k];
  if (split->packed && width) {
    wcodec_unpack_bits(rest[planes - 1], 1, count, width, 0, top);
    all[planes - 1] = top;
  }
  wcodec_join_planes(split, symbols, 2, all, count, out);
  free(symbols);
  free(top);
}

void try_bits(void) {
  const uint32_t bytes = 1u << below(4), width = 1 + below(8 * bytes), count = below(300);
  const uint64_t base = any() >> below(64), size = ((uint64_t)count * width + 7) / 8;
  uint8_t *x = get((size_t)count * bytes), *y = get((size_t)count * bytes), *packed = get(size), *again = get(size);
  for (uint64_t i = 0; i < size; i++) again[i] = (uint8_t)any();
  if (size && count * width % 8) again[size - 1] &= (uint8_t)((1u << count * width % 8) - 1);
  wcodec_unpack_bits(again, bytes, count, width, base, x);
  wcodec_pack_bits(x, bytes, count, width, base, packed);
  check(wcodec_same(packed, again, size), "packed bits");
  wcodec_unpack_bits(packed, bytes, count, width, base, y);
  check(wcodec_same(x, y, (uint64_t)count * bytes), "unpacked bits");
  free(x);
  free(y);
  free(packed);
  free(again);
}

void try_planes(void) {
  const uint32_t bytes = 1u << below(4), bits = 8 * bytes, count = below(400);
  wcodec_split split = {bytes, bits - 1 - below(bits < 16 ? bits : 16), below(3), below(300), 1, 0};
  if (below(2)) split.rest = bits - 8;
  const uint32_t planes = (split.rest + 7) / 8, wide = bits - split.rest > 8 ? 2 : 1;
  uint8_t *x = get((size_t)count * bytes), *y = get((size_t)count * bytes), *symbol = get((size_t)count * wide),
          *rest[8] = {NULL};
  for (uint32_t i = 0; i < count * bytes; i++) x[i] = (uint8_t)any();
  for (uint32_t k = 0; k < planes; k++) rest[k] = get(count);
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    wcodec_set_isa(isa);
    wcodec_split_planes(&split, x, count, symbol, rest);
    wcodec_join_planes(&split, symbol, wide, (const uint8_t *const *)rest, count, y);
    check(wcodec_same(x, y, (uint64_t)count * bytes), "planes");
  }
  split.packed = planes && split.rest % 8;
  uint8_t *tokens = get(count);
  if (split.packed) {
    free(rest[planes - 1]);
    rest[planes - 1] = get(((uint64_t)count * (split.rest % 8) + 7) / 8);
  }
  if (wide == 1) split.base &= 255;
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    uint64_t counts[256] = {0}, sum = 0;
    uint8_t seen[256] = {0};
    uint32_t range[2] = {1u << 16, 0};
    wcodec_set_isa(isa);
    wcodec_split_tokens(&split, x, count, 1, tokens, rest, counts, seen, range);
    for (int i = 0; i < 256; i++) sum += counts[i];
    check(sum == count && (count == 0 || range[0] > 0), "counts");
    if (range[0] > split.base && range[1] < split.base + 256 && range[0] > 0) { /* the tokens stand for the symbols */
      join_slowly(&split, tokens, (const uint8_t *const *)rest, count, y);
      check(wcodec_same(x, y, (uint64_t)count * bytes), "tokens");
    }
  }
  free(tokens);
  free(x);
  free(y);
  free(symbol);
  for (uint32_t k = 0; k < planes; k++) free(rest[k]);
}
