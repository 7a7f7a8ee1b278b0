/* Tables of frequencies and the samples that choose how to code. */
#include "fuzz.h"

/* Fit, pack and read back; then read damaged bytes. */
void try_tables(void) {
  const uint32_t tables = 1 + below(3), precision = 8 + below(5), most = 1 + below(below(2) ? 4 : 1u << 20);
  uint64_t *counts = get(tables * 2048);
  uint16_t *f = get(tables * 512), *again = get(tables * 512);
  uint32_t *lut = get((size_t)tables << (precision + 2));
  const uint32_t tokens = below(257);
  for (uint32_t i = 0; i < tables * 256; i++) counts[i] = i % 256 < tokens ? below(most) : 0;
  wcodec_fit_tables(counts, tables, precision, f);
  uint8_t *room = get(514 * tables);
  uint64_t size = wcodec_pack_tables(f, tables, room);
  uint8_t *data = get(size);
  memcpy(data, room, size);
  check(wcodec_read_tables(data, size, tables, precision, again, lut) == size, "read tables");
  check(wcodec_same(f, again, tables * 512), "frequencies");
  for (uint32_t i = 0; i < tables * 256; i++) check(!counts[i] || f[i], "a token without a frequency");
  for (uint32_t i = below(4); i && size; i--) data[below((uint32_t)size)] ^= (uint8_t)(1 << below(8));
  if (below(3) == 0) fill(data, size);
  uint8_t *cut = get(size = below(2) ? size : below((uint32_t)size + 1));
  memcpy(cut, data, size);
  check(wcodec_read_tables(cut, size, tables, precision, again, lut) <= size, "the size of tables");
  free(counts);
  free(f);
  free(again);
  free(lut);
  free(room);
  free(data);
  free(cut);
}

void try_sampling(void) {
  const uint32_t bytes = 1u << below(4), widest = 1 + below(bytes == 1 ? 7 : 11), count = 1 + below(below(50) ? 3000 : 200000);
  uint8_t *x = get((size_t)count * bytes);
  if (below(2)) fill(x, (size_t)count * bytes);
  uint32_t found[3], first[3];
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    wcodec_set_isa(isa);
    wcodec_choose_split(x, bytes, count, widest, found);
    if (isa == WCODEC_SCALAR) memcpy(first, found, sizeof first);
    check(!memcmp(first, found, sizeof first) && found[0] < 8 * bytes && found[1] <= 2, "how to split");
  }
  check(wcodec_is_noise(x, (uint64_t)count * bytes) <= 1, "noise");
  free(x);
}
