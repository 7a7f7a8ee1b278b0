/* Token streams: encoded and decoded alike by every instruction set, sound and damaged. */
#include "fuzz.h"

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
  const uint32_t cols = 1 + below(600), rows = below(below(4) ? 24 : 150); /* sometimes enough to look at all of the tables */
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
  const int paired = job->context == WCODEC_TRELLIS && !job->block && below(2); /* classes of rows, pairs of tables */
  if (job->context == WCODEC_CLASSES || paired) {
    const uint32_t row_classes = 1 + below(4), entries = 1 + below(paired ? 4 : 12);
    job->column_classes = paired ? 1 : 1 + below(40);
    job->tables = paired ? 2 * entries : entries;
    job->start = (uint64_t)cols * below(3) + (job->block ? below(cols) : 0);
    const size_t all_rows = (size_t)((job->start + job->count + cols - 1) / cols);
    t->map = get(row_classes * job->column_classes);
    t->rows = get(all_rows);
    t->columns = get(cols);
    for (uint32_t i = 0; i < row_classes * job->column_classes; i++) t->map[i] = (uint8_t)below(entries);
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

/* Decode and dequantise in one pass, with every instruction set: what decoding and then dequantising gives. */
static void dequantise_all(test *t, int rules) {
  const wcodec_job *job = &t->job;
  const uint64_t rows = (job->start % job->cols + job->count + job->cols - 1) / job->cols;
  const uint32_t kind = below(4), size = kind == WCODEC_F64 ? 8 : kind == WCODEC_F32 ? 4 : 2, each = below(2);
  float *steps = get((each ? rows : 1) * 4), *columns = get(job->cols * 4), *points = get(64 * 4);
  uint8_t *out = get(job->count * size), *expected = get(job->count * size), *tokens = get(job->count);
  for (uint64_t i = 0; i < (each ? rows : 1); i++) steps[i] = (float)below(1000) * 1e-3f;
  for (uint64_t i = 0; i < job->cols; i++) columns[i] = (float)below(1000) * 1e-3f;
  for (uint64_t i = 0; i < 64; i++) points[i] = (float)below(1 << 16) / 256;
  const wcodec_lattice lattice = {steps, below(2) ? columns : NULL, points, below(2) ? below(65) : 0, each, 2 * below(128), kind};
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    uint8_t *scratch = get(wcodec_decode_scratch(job));
    wcodec_set_isa(isa);
    check(wcodec_trellis_decode(job, t->lut, t->states, t->offsets, t->words, t->n_words, scratch, NULL, &lattice, out) == rules,
          "rules");
    if (!rules) {
      wcodec_rans_decode(job, t->lut, t->states, t->offsets, t->words, t->n_words, scratch, tokens);
      wcodec_trellis_dequantise(job, tokens, 1, scratch, &lattice, expected);
      check(wcodec_same(out, expected, job->count * size), "dequantised");
    }
    free(scratch);
  }
  free(steps), free(columns), free(points), free(out), free(expected), free(tokens);
}

/* Number of a symbol's block. */
static uint64_t block_of(const wcodec_job *job, uint64_t element) {
  if (job->block) return element / job->block;
  const uint64_t across = (job->cols + job->tile_cols - 1) / job->tile_cols;
  return element / job->cols / job->tile_rows * across + element % job->cols / job->tile_cols;
}

/* Symbols of tokens, the escaped ones block after block. Returns the rules broken: those of blocks with another number of them. */
static int symbols_slowly(const test *t, const wcodec_symbols *s, const uint8_t *tokens, uint8_t *out) {
  uint32_t *next = get((t->blocks + 1) * 4);
  int rules = 0;
  memcpy(next, s->first, (t->blocks + 1) * 4);
  for (uint64_t i = 0; i < t->job.count; i++) { /* elements of a block come by position */
    const uint64_t b = block_of(&t->job, i);
    uint32_t h = tokens[i] < 2 && s->zero ? 0 : tokens[i] / 2u + s->base, raw = 0;
    if ((tokens[i] & 254u) == s->escape) {
      h = next[b] < s->first[b + 1] ? s->outliers[next[b]] : 0;
      if (next[b]++ >= s->first[b + 1]) rules = WCODEC_RANS3;
    }
    const uint8_t *from = (const uint8_t *)s->raw;
    for (uint32_t k = 0; s->raw_bytes == 0 && k < s->bits; k++)
      raw |= (uint32_t)(from[(i * s->bits + k) / 8] >> (i * s->bits + k) % 8 & 1) << k;
    memcpy(&raw, from + i * s->raw_bytes, s->raw_bytes);
    const uint64_t value = ((uint64_t)h << s->bits | (raw & ((1u << s->bits) - 1))) << 1 | (tokens[i] & 1);
    memcpy(out + i * s->bytes, &value, s->bytes);
  }
  for (uint64_t b = 0; b < t->blocks; b++) rules |= next[b] < s->first[b + 1] ? WCODEC_RANS3 : 0;
  free(next);
  return rules;
}

/* Decode, join with raw bits and escapes, and dequantise in one pass, with every instruction set. rules: those of decoding. */
static void symbols_all(test *t, int rules) {
  const wcodec_job *job = &t->job;
  const uint32_t bits = below(below(2) ? 6 : 17), raw_bytes = below(2) ? 0 : bits > 8 ? 2 : bits ? 1 : 0, escape = below(3) ? t->tokens[0] & 254 : 256;
  const uint64_t size = raw_bytes ? job->count * raw_bytes : (job->count * bits + 7) / 8;
  uint32_t *first = get((t->blocks + 1) * 4);
  uint8_t *raw = get(size), *symbols = get(2 * job->count), *tokens = get(job->count);
  uint8_t *out = get(4 * job->count), *expected = get(4 * job->count), *scratch = get(wcodec_decode_scratch(job));
  fill(raw, size);
  memset(first, 0, (t->blocks + 1) * 4);
  wcodec_rans_decode(job, t->lut, t->states, t->offsets, t->words, t->n_words, scratch, tokens);
  for (uint64_t i = 0; i < job->count; i++) first[block_of(job, i) + 1] += (tokens[i] & 254u) == escape;
  if (escape < 256 && below(4) == 0) first[1 + below((uint32_t)t->blocks)] ^= 1;
  for (uint64_t b = 0; b < t->blocks; b++) first[b + 1] += first[b];
  uint32_t *outliers = get(4ull * first[t->blocks]);
  fill(outliers, 4ull * first[t->blocks]);
  const uint64_t rows = (job->start % job->cols + job->count + job->cols - 1) / job->cols;
  const uint32_t each = below(2), kind = below(3) == 0 ? WCODEC_F32 : below(2) ? WCODEC_BF16 : WCODEC_F16;
  float *steps = get((each ? rows : 1) * 4), *columns = get(job->cols * 4);
  const float scale = below(2) ? 1.0f : below(2) ? 0x1p-70f : 0x1p-130f;
  for (uint64_t i = 0; i < (each ? rows : 1); i++) steps[i] = (float)(1 + below(1000)) * scale;
  for (uint64_t i = 0; i < job->cols; i++) columns[i] = (float)(1 + below(1000)) * 1e-3f;
  const wcodec_symbols its = {raw, outliers, first, 1 + below(2), bits, raw_bytes, (uint32_t)any() >> below(32), below(2), escape};
  const wcodec_lattice lattice = {steps, below(2) ? columns : NULL, NULL, 0, each, 2 * below(1 << 15), kind};
  const uint32_t bytes = lattice.kind == WCODEC_F32 ? 4 : 2;
  const int broken = symbols_slowly(t, &its, tokens, symbols);
  wcodec_trellis_dequantise(job, symbols, its.bytes, scratch, &lattice, expected);
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    wcodec_set_isa(isa);
    const int found = wcodec_trellis_decode(job, t->lut, t->states, t->offsets, t->words, t->n_words, scratch, &its, &lattice, out);
    check(rules ? (found & rules) == rules : found == broken, "rules of symbols");
    check(found || wcodec_same(out, expected, job->count * bytes), "joined and dequantised");
  }
  free(first), free(raw), free(symbols), free(tokens), free(out), free(expected), free(scratch), free(outliers), free(steps), free(columns);
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
  if (job->context == WCODEC_TRELLIS && job->count) dequantise_all(t, rules), symbols_all(t, rules);
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

void try_rans(void) {
  test t;
  make_job(&t);
  make_stream(&t);
  decode_all(&t, 1);
  damage(&t);
  decode_all(&t, 0);
  void *all[] = {t.tokens, t.map,    t.rows,    t.columns,   t.frequencies,
                 t.lut,    t.states, t.offsets, t.per_block, t.words};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}
