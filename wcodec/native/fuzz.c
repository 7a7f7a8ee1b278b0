/* Feeds the library jobs made from pseudo-random numbers, in arrays of exactly the size promised, for the sanitizers to
 * watch. Every instruction set must say the same about the same bytes, damaged or not, and what was encoded must
 * decode.
 *
 * As a program: wcodec_fuzz [seconds [seed]]. With clang it is a libFuzzer target, whose bytes steer the numbers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "wcodec.h"

static const uint8_t *steer;
static size_t steer_left;
static uint64_t state;

static uint64_t any(void) {
  state += 0x9E3779B97F4A7C15ull;
  if (steer_left) {
    state += *steer++;
    steer_left--;
  }
  uint64_t z = state;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

static uint32_t below(uint32_t n) { return (uint32_t)(any() % n); }

static void check(int fine, const char *what) {
  if (!fine) {
    fprintf(stderr, "wrong: %s\n", what);
    abort();
  }
}

static void *get(size_t size) {
  uint8_t *p = malloc(size ? size : 1);
  check(p != NULL, "memory");
  for (size_t i = 0; i < size; i++) p[i] = (uint8_t)(i * 37); /* not from any(): what is here must not matter */
  return p;
}

/* Share 2^precision out among the tokens of a table that are marked. */
static void make_table(uint32_t precision, uint16_t *f, const uint8_t *used) {
  uint32_t n = 0, left = 1u << precision;
  uint8_t tokens[256];
  memset(f, 0, 512);
  for (int t = 0; t < 256; t++)
    if (used[t]) tokens[n++] = (uint8_t)t;
  if (n == 0) return;
  if (n == 1) tokens[n++] = (uint8_t)(tokens[0] ^ 1);
  for (uint32_t i = 0; i < n; i++) f[tokens[i]] = 1;
  left -= n;
  while (left) {
    const uint32_t more = 1 + below(left);
    f[tokens[below(n)]] += (uint16_t)more;
    left -= more;
  }
  for (uint32_t i = 0; i < n; i++)
    if (f[tokens[i]] >> precision) { /* one token took all: give one back */
      f[tokens[i]]--;
      f[tokens[(i + 1) % n]]++;
    }
}

/* Everything that a job needs. */
typedef struct {
  wcodec_job job;
  uint8_t *tokens, *map, *rows, *columns, *rest[8];
  uint16_t *frequencies;
  uint32_t *lut, *states, *offsets, *per_block;
  uint8_t *words;
  uint64_t n_words, blocks;
} test;

static void make_job(test *t) {
  static const uint32_t lanes[] = {1, 4, 32, 32, 32};
  memset(t, 0, sizeof *t);
  wcodec_job *job = &t->job;
  const uint32_t cols = 1 + below(600), rows = below(24);
  job->count = (uint64_t)cols * rows;
  job->cols = cols;
  job->lanes = lanes[below(5)];
  job->precision = 8 + below(5);
  job->context = below(3);
  if (below(2)) {
    job->block = 128 * (1 + below(24));
  } else {
    job->tile_rows = 1 + below(6);
    job->tile_cols = 4 * job->lanes * (1 + below(4));
  }
  job->tables = 1;
  if (job->context == WCODEC_TRELLIS) {
    job->trellis = 2 + below(7);
    job->tables = 2;
  }
  if (job->context == WCODEC_CLASSES) {
    const uint32_t row_classes = 1 + below(4);
    job->column_classes = 1 + below(40);
    job->tables = 1 + below(12);
    job->start = (uint64_t)cols * below(3) + (job->block ? below(cols) : 0);
    const size_t all_rows = (size_t)((job->start + job->count + cols - 1) / cols);
    t->map = get(row_classes * job->column_classes);
    t->rows = get(all_rows);
    t->columns = get(cols);
    for (uint32_t i = 0; i < row_classes * job->column_classes; i++) t->map[i] = (uint8_t)below(job->tables);
    for (size_t i = 0; i < all_rows; i++) t->rows[i] = (uint8_t)below(row_classes);
    for (uint32_t i = 0; i < cols; i++) t->columns[i] = (uint8_t)below(job->column_classes);
    job->map = t->map;
    job->rows = row_classes > 1 ? t->rows : NULL;
    job->columns = job->column_classes > 1 ? t->columns : NULL;
  }
}

static void make_stream(test *t) {
  wcodec_job *job = &t->job;
  t->tokens = get(job->count);
  const uint32_t spread = 1 + below(below(2) ? 4 : 120), first = below(256 - spread);
  for (uint64_t i = 0; i < job->count; i++) t->tokens[i] = (uint8_t)(first + below(1 + below(spread)));
  uint64_t *counts = get(job->tables * 2048), sum = 0;
  memset(counts, 0, job->tables * 2048);
  uint8_t *scratch = get(wcodec_decode_scratch(job));
  wcodec_rans_histogram(job, t->tokens, scratch, counts);
  free(scratch);
  t->frequencies = get(job->tables * 512);
  t->lut = get((size_t)job->tables << (job->precision + 2));
  for (uint32_t table = 0; table < job->tables; table++) {
    uint8_t used[256];
    uint16_t *f = t->frequencies + 256 * table;
    for (int i = 0; i < 256; i++) used[i] = counts[256 * table + i] != 0, sum += counts[256 * table + i];
    make_table(job->precision, f, used);
    uint32_t *lut = t->lut + ((size_t)table << job->precision), at = 0;
    memset(lut, 0, 4ull << job->precision);
    for (uint32_t i = 0; i < 256; i++) {
      for (uint32_t k = 0; k < f[i]; k++) lut[at++] = f[i] | k << 12 | i << 24;
    }
  }
  check(sum == job->count, "histogram");
  free(counts);
  t->blocks = wcodec_blocks(job);
  t->states = get(t->blocks * job->lanes * 4);
  t->per_block = get(t->blocks * 4);
  t->offsets = get((t->blocks + 1) * 4);
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    uint32_t *states = get(t->blocks * job->lanes * 4), *per_block = get(t->blocks * 4);
    uint8_t *words = get(2 * job->count), *work = get(wcodec_encode_scratch(job));
    wcodec_set_isa(isa);
    const uint64_t n = wcodec_rans_encode(job, t->frequencies, t->tokens, work, states, per_block, words, job->count);
    free(work);
    if (isa == WCODEC_SCALAR) {
      t->n_words = n;
      t->words = get(2 * n);
      memcpy(t->words, words, 2 * n);
      memcpy(t->states, states, t->blocks * job->lanes * 4);
      memcpy(t->per_block, per_block, t->blocks * 4);
    }
    check(n == t->n_words && !memcmp(words, t->words, 2 * n), "encoded words");
    check(!memcmp(states, t->states, t->blocks * job->lanes * 4) && !memcmp(per_block, t->per_block, t->blocks * 4),
          "encoded states");
    free(states);
    free(per_block);
    free(words);
  }
  t->offsets[0] = 0;
  for (uint64_t b = 0; b < t->blocks; b++) t->offsets[b + 1] = t->offsets[b] + t->per_block[b];
}

/* What wcodec_rans_join does with the tokens, in its own steps. */
static void join_slowly(const wcodec_split *split, const uint8_t *tokens, const uint8_t *const *rest, uint64_t count,
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

/* Decode and look up in one pass, with every instruction set: what decoding and then looking up gives. */
static void gather_all(test *t, int rules) {
  const wcodec_job *job = &t->job;
  const uint32_t entries = 256, bytes = below(3) ? 1u << below(5) : 1 + below(20);
  uint8_t *book = get((size_t)entries * bytes), *tokens = get(job->count);
  uint8_t *out = get(job->count * bytes), *expected = get(job->count * bytes);
  for (uint32_t i = 0; i < entries * bytes; i++) book[i] = (uint8_t)any();
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    uint8_t *scratch = get(wcodec_decode_scratch(job));
    wcodec_set_isa(isa);
    check(wcodec_rans_gather(job, t->lut, t->states, t->offsets, t->words, t->n_words, scratch, book, entries, bytes,
                             out) == rules,
          "rules");
    if (!rules) {
      wcodec_rans_decode(job, t->lut, t->states, t->offsets, t->words, t->n_words, scratch, tokens);
      for (uint64_t i = 0; i < job->count; i++) memcpy(expected + i * bytes, book + tokens[i] * bytes, bytes);
      check(wcodec_same(out, expected, job->count * bytes), "looked up");
    }
    free(scratch);
  }
  free(book);
  free(tokens);
  free(out);
  free(expected);
}

/* Decode with every instruction set. sound: all must give the tokens. */
static void decode_all(test *t, int sound) {
  const wcodec_job *job = &t->job;
  wcodec_split split = {1u << below(4), 0, below(3), below(3) ? 0 : below(65000), below(2), job->block ? below(2) : 0};
  const uint32_t bits = 8 * split.bytes;
  split.rest = bits - 1 - below(bits < 16 ? bits : 16);
  if (below(2)) split.rest = bits - 8;
  const uint32_t planes = (split.rest + 7) / 8, width = split.rest % 8;
  for (uint32_t k = 0; k < planes; k++) {
    const uint64_t size = split.packed && width && k == planes - 1 ? (job->count * width + 7) / 8 : job->count;
    t->rest[k] = get(size);
    for (uint64_t i = 0; i < size; i++) t->rest[k][i] = (uint8_t)any();
  }
  uint8_t *out = get(job->count), *joined = get(job->count * split.bytes), *expected = get(job->count * split.bytes);
  int rules = 0;
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    uint8_t *scratch = get(wcodec_decode_scratch(job));
    wcodec_set_isa(isa);
    const int found = wcodec_rans_decode(job, t->lut, t->states, t->offsets, t->words, t->n_words, scratch, out);
    if (isa == WCODEC_SCALAR) rules = found;
    check(found == rules, "rules");
    check(!sound || (found == 0 && !memcmp(out, t->tokens, job->count)), "decoded tokens");
    const uint8_t *const *rest = (const uint8_t *const *)t->rest;
    check(wcodec_rans_join(job, t->lut, t->states, t->offsets, t->words, t->n_words, scratch, &split, rest, joined) ==
              rules,
          "rules");
    if (!rules) join_slowly(&split, out, rest, job->count, expected);
    check(rules || wcodec_same(joined, expected, job->count * split.bytes), "joined elements");
    free(scratch);
  }
  gather_all(t, rules);
  free(out);
  free(joined);
  free(expected);
  for (int k = 0; k < 8; k++) {
    free(t->rest[k]);
    t->rest[k] = NULL;
  }
}

static void damage(test *t) {
  const uint32_t kind = below(6);
  if (kind == 0 && t->n_words)
    for (uint32_t i = 1 + below(4); i; i--) t->words[below((uint32_t)(2 * t->n_words))] ^= (uint8_t)(1 << below(8));
  if (kind == 1)
    for (uint64_t i = 0; i < 2 * t->n_words; i++) t->words[i] = (uint8_t)any();
  if (kind == 2 && t->blocks)
    for (uint32_t i = 1 + below(4); i; i--) t->states[below((uint32_t)t->blocks * t->job.lanes)] = (uint32_t)any();
  if (kind == 3)
    for (uint64_t b = 0; b <= t->blocks; b++) t->offsets[b] = below((uint32_t)t->n_words + 1);
  if (kind == 4) /* beyond the end, and backwards */
    for (uint64_t b = 0; b <= t->blocks; b++) t->offsets[b] = (uint32_t)any() >> below(32);
  if (kind == 5 && t->n_words) {
    t->n_words = below((uint32_t)t->n_words);
    uint8_t *words = get(2 * t->n_words);
    memcpy(words, t->words, 2 * t->n_words);
    free(t->words);
    t->words = words;
  }
}

static void try_bits(void) {
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

static void try_gather(void) {
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

static void try_planes(void) {
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

static void try_philox(void) {
  const wcodec_philox key = {any(), (uint32_t)any(), (uint32_t)any()};
  const uint64_t start = any() >> (1 + below(63)), count = below(9000), skip = count ? below((uint32_t)count) : 0;
  const uint32_t threshold = (uint32_t)any();
  uint32_t *normal = get(4096 * 4);
  float *x = get(count * 4), *y = get(count * 4);
  uint8_t *mask = get(count), *again = get(count);
  for (int i = 0; i < 4096; i++) normal[i] = 1 + below(1 << 24);
  const uint32_t *table = below(2) ? normal : NULL;
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    wcodec_set_isa(isa);
    wcodec_philox_fill(&key, table, 0.5f, 0.75f, start, count, isa ? y : x);
    check(!isa || wcodec_same(x, y, count * 4), "random numbers");
    wcodec_philox_fill(&key, table, 0.5f, 0.75f, start + skip, count - skip, y);
    check(wcodec_same(x + skip, y, (count - skip) * 4), "a window of random numbers");
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

static void one(void) {
  test t;
  make_job(&t);
  make_stream(&t);
  decode_all(&t, 1);
  damage(&t);
  decode_all(&t, 0);
  try_bits();
  try_planes();
  try_gather();
  try_philox();
  void *all[] = {t.tokens, t.map,    t.rows,    t.columns,   t.frequencies,
                 t.lut,    t.states, t.offsets, t.per_block, t.words};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  steer = data;
  steer_left = size;
  state = 0;
  one();
  return 0;
}

#if !defined(WCODEC_LIBFUZZER)
int main(int argc, char **argv) {
  const double seconds = argc > 1 ? atof(argv[1]) : 10;
  const time_t end = time(NULL) + (time_t)seconds;
  unsigned long jobs = 0;
  for (state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1; time(NULL) < end; jobs++) one();
  printf("%lu jobs\n", jobs);
  return 0;
}
#endif
