/* Codebooks and random numbers. */
#include "fuzz.h"

void try_gather(void) {
  static const uint32_t sizes[] = {1, 2, 4, 8, 16, 32, 3, 24};
  const uint32_t bytes = sizes[below(8)], count = 1 + below(below(2) ? 300 : 3000), n = below(400);
  const uint32_t index_bytes = count > 256 || below(2) ? 2 : 1;
  uint8_t *book = get((size_t)count * bytes), *index = get((size_t)n * index_bytes), *out = get((size_t)n * bytes);
  int inside = 1;
  for (uint32_t i = 0; i < count * bytes; i++) book[i] = (uint8_t)any();
  for (uint32_t i = 0; i < n; i++) {
    uint32_t value = below(count + (below(200) == 0));
    if (index_bytes == 1) value &= 255;
    inside &= value < count;
    memcpy(index + (size_t)i * index_bytes, &value, index_bytes);
  }
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    wcodec_set_isa(isa);
    check(wcodec_gather(book, count, bytes, index, index_bytes, n, out) == inside, "indices");
    for (uint32_t i = 0; inside && i < n; i++) {
      uint32_t value = 0;
      memcpy(&value, index + (size_t)i * index_bytes, index_bytes);
      check(!memcmp(out + (size_t)i * bytes, book + (size_t)value * bytes, bytes), "entries");
    }
  }
  free(book);
  free(index);
  free(out);
}

void try_philox(void) {
  const wcodec_philox key = {any(), (uint32_t)any(), (uint32_t)any()};
  const uint64_t start = any() >> (1 + below(63)), count = below(9000), skip = count ? below((uint32_t)count) : 0;
  const uint32_t threshold = (uint32_t)any(), kind = below(4), size = kind == WCODEC_F64 ? 8 : kind == WCODEC_F32 ? 4 : 2;
  uint32_t *normal = get(4096 * 4);
  uint8_t *x = get(count * size), *y = get(count * size);
  uint8_t *mask = get(count), *again = get(count);
  for (int i = 0; i < 4096; i++) normal[i] = 1 + below(1 << 24);
  const uint32_t *table = below(2) ? normal : NULL;
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    wcodec_set_isa(isa);
    wcodec_philox_fill(&key, table, 0.5f, 0.75f, start, count, kind, isa ? y : x);
    check(!isa || wcodec_same(x, y, count * size), "random numbers");
    wcodec_philox_fill(&key, table, 0.5f, 0.75f, start + skip, count - skip, kind, y);
    check(wcodec_same(x + skip * size, y, (count - skip) * size), "a window of random numbers");
    const uint64_t kept = wcodec_philox_draw(&key, threshold, start, count, isa ? again : mask);
    check(!isa || wcodec_same(mask, again, count), "draws");
    uint64_t sum = 0;
    for (uint64_t i = 0; i < count; i++) sum += mask[i];
    check(sum == kept, "the number of draws");
  }
  free(normal);
  free(x);
  free(y);
  free(mask);
  free(again);
}
