/* Decoding of windows: blocks, runs and chunks; the groups themselves are in rans_decode_*.c. */
#include <stdatomic.h>

#include "internal.h"

enum { GROUPS = WK_TURN / WK_GROUP };

/* A call: what is decoded, and what happens to the tokens. */
typedef struct {
  const wcodec_job *job;
  const wk_kernels *kernels;
  wk_model model;
  const uint32_t *states, *offsets;
  const uint8_t *words;
  uint64_t n_words;
  uint8_t *trellis; /* [WK_FLIGHT][trellises] */
  uint8_t *out;
  /* At most one of the three; without, tokens are the result. */
  const wcodec_split *split;
  const wk_book *book;
  const wk_lattice *lattice;
  const wk_alphabet *alphabet; /* with a lattice; NULL: tokens are symbols */
  const uint8_t *const *rest;
  int past; /* outputs go past the caches */
} call;

uint64_t wcodec_decode_scratch(const wcodec_job *job) {
  return job->context == WCODEC_TRELLIS ? WK_FLIGHT * (uint64_t)wk_trellises(job) : 0;
}

void wk_refill(wk_stream *s) {
  if (s->at > s->end) { /* more words taken than there are: give it some others, the block is bad anyway */
    s->at = s->end;
    s->bad |= WCODEC_E6;
  }
  if (s->at > s->limit) { /* near the end of all words: go on in a copy that may be read beyond its end */
    size_t left = (size_t)(s->end - s->at);
    memmove(s->tail, s->at, left);
    memset(s->tail + left, 0, sizeof s->tail - left);
    s->at = s->tail;
    s->limit = s->end = s->tail + left;
  }
}

static void begin(const call *c, uint64_t block, wk_stream *s) {
  const uint32_t lanes = c->job->lanes;
  memcpy(s->x, (const uint8_t *)c->states + block * lanes * 4, lanes * 4);
  const wk_u32 *offsets = (const wk_u32 *)c->offsets + block;
  uint64_t first = offsets[0], last = offsets[1];
  s->bad = last > c->n_words || first > last ? WCODEC_E6 : 0;
  if (last > c->n_words) last = c->n_words;
  if (first > last) first = last;
  s->at = c->words + 2 * first;
  s->end = c->words + 2 * last;
  /* Nowhere at all when even the first group would read too far: a pointer before the words would be none. */
  uint64_t after = 2 * (c->n_words - last);
  s->limit = after >= WK_READ                                 ? s->end
             : s->end - s->at >= (ptrdiff_t)(WK_READ - after) ? s->end - (WK_READ - after)
                                                              : NULL;
  s->escaped = s->escaped_end = NULL;
  if (c->alphabet && c->alphabet->wire->escape < 256) {
    const wk_u32 *number = (const wk_u32 *)c->alphabet->wire->first + block;
    s->escaped = (const wk_u32 *)c->alphabet->wire->outliers + number[0];
    s->escaped_end = (const wk_u32 *)c->alphabet->wire->outliers + number[1];
  }
}

/* Join n tokens from element `at` of the window on. */
static void join(const call *c, uint64_t at, const uint8_t *tokens, uint64_t n) {
  const wcodec_split *split = c->split;
  const uint32_t planes = (split->rest + 7) / 8, width = split->rest % 8;
  const uint8_t *rest[8] = {NULL};
  uint8_t top[WK_TURN];
  for (uint32_t k = 0; k < planes; k++) rest[k] = c->rest[k] + at;
  if (split->packed && width) { /* `at` is a multiple of 128: blocks and chunks are */
    wcodec_unpack_bits(c->rest[planes - 1] + at * width / 8, 1, n, width, 0, top);
    rest[planes - 1] = top;
  }
  c->kernels->join(split, tokens, 1, rest, n, c->past, c->out + at * split->bytes);
}

/* Look up n tokens for elements from `at` of the window on; but not those of a cut off line, unless they are the last,
 * where lines go past the caches. Returns how many these are. */
static uint32_t look_up(const call *c, uint64_t at, const uint8_t *tokens, uint64_t n, int last) {
  const uint32_t bytes = c->book->bytes;
  uint8_t *out = c->out + at * bytes;
  const uint32_t left = c->past && !last ? (uint32_t)((uintptr_t)(out + n * bytes) % WK_LINE / bytes) : 0;
  uint64_t head = c->past ? -(uintptr_t)out % WK_LINE / bytes : 0;
  n -= left;
  if (head > n) head = n;
  if (head) c->kernels->gather(c->book, tokens, 1, head, 0, out);
  c->kernels->gather(c->book, tokens + head, 1, n - head, c->past, out + head * bytes);
  return left;
}

/* Dequantise the symbols of `rows` rows of n tokens each, at most WK_TURN, from element `at` of the window on. */
static void dequantise(const call *c, wk_stream *s, uint64_t at, const uint8_t *tokens, const uint8_t *tables, uint64_t rows,
                       uint64_t n) {
  const uint64_t cols = c->job->cols, bytes = wk_float_size(c->lattice->kind), place = c->job->start % cols + at;
  const wk_piece piece = {
      .symbols = tokens,
      .z0 = tables,
      .bytes = 1,
      .rows = rows,
      .n = n,
      .stride = cols * bytes,
      .past = c->past,
      .out = c->out + at * bytes,
  };
  wk_dequantise_tokens(c->lattice, c->alphabet, s, at, place / cols, place % cols, &piece);
}

/* Fetch where rows of n elements go from `at` of the window on: processors do not see which rows of a tile come next. */
static void fetch_rows(const call *c, uint64_t at, uint64_t rows, uint64_t n) {
  const uint64_t bytes = wk_float_size(c->lattice->kind);
  for (uint64_t r = 0; r < rows; r++, at += c->job->cols) {
    const uintptr_t from = (uintptr_t)c->out + at * bytes, to = from + n * bytes;
    for (uintptr_t p = from / WK_LINE * WK_LINE; p < to; p += WK_LINE) __builtin_prefetch((const void *)p, 1, 2);
  }
}

/* Turn n tokens of a row into elements from `at` of the window on; tables: z0 of each, with a trellis. */
static void finish(const call *c, wk_stream *s, uint64_t at, const uint8_t *tokens, const uint8_t *tables, uint64_t n) {
  if (c->split)
    join(c, at, tokens, n);
  else if (c->lattice)
    dequantise(c, s, at, tokens, tables, 1, n);
  else
    memcpy(c->out + at, tokens, n);
}

/* Where in the look-up the tables of groups of `rows` rows begin, the first one being that of an element. */
static void first_tables(const wcodec_job *job, uint64_t element, uint32_t rows, uint32_t groups, uint32_t *first) {
  const uint64_t row = job->map && job->rows ? (job->start + element) / job->cols : 0;
  for (uint32_t r = 0; r < rows; r++)
    for (uint32_t g = 0; g < groups; g++) *first++ = wk_first_table(job, row + r) << job->precision;
}

/* Decode symbols col ... last - 1 of a row of k blocks, a chunk at a time. */
static void decode_run(const call *c, wk_stream *s, const uint64_t *element, int k, int vector, uint32_t row,
                       uint64_t col, uint64_t last) {
  const wcodec_job *job = c->job;
  const uint32_t trellises = wk_trellises(job), context = job->context;
  const int finishing = c->split || c->book || c->lattice;
  const uint64_t chunk = c->book ? WK_BURST : finishing || context != WCODEC_NONE ? WK_TURN : last;
  _Alignas(WK_LINE) uint8_t tokens[WK_FLIGHT][WK_LINE + WK_TURN];
  _Alignas(WK_LINE) uint8_t tables[WK_FLIGHT][WK_TURN];
  uint32_t first[WK_FLIGHT][GROUPS];
  uint32_t held[WK_FLIGHT] = {0}; /* tokens of a cut off line, before the others */
  for (; col < last; col += chunk) {
    const uint64_t n = last - col < chunk ? last - col : chunk, whole = vector ? n / WK_GROUP : 0;
    for (int i = 0; i < k; i++) {
      const uint64_t at = element[i] + row * job->cols + col;
      s[i].token = finishing ? tokens[i] + WK_LINE : c->out + at;
      s[i].table = tables[i];
      if (context == WCODEC_CLASSES) wk_classes(job, at, n, tables[i]);
      if (context == WCODEC_TRELLIS) {
        s[i].trellis = c->trellis + (size_t)s[i].number * trellises + (job->block ? 0 : col);
        s[i].width = trellises;
        s[i].first = first[i];
        first_tables(job, at, 1, GROUPS, first[i]);
      }
    }
    if (whole) c->kernels->decode(s, k, &c->model, whole);
    for (int i = 0; i < k; i++) {
      if (n > whole * WK_GROUP) wk_decode_scalar(&s[i], &c->model, job->lanes, n - whole * WK_GROUP);
      if (!finishing) continue;
      const uint64_t at = element[i] + row * job->cols + col;
      if (c->book) {
        held[i] = look_up(c, at - held[i], tokens[i] + WK_LINE - held[i], n + held[i], col + n == last);
        memcpy(tokens[i] + WK_LINE - held[i], tokens[i] + WK_LINE + n - held[i], held[i]);
      } else {
        finish(c, &s[i], at, tokens[i] + WK_LINE, tables[i], n);
      }
    }
  }
}

/* Decode `rows` rows of k tiles of whole groups in one go: at most WK_TURN symbols each. */
static void decode_rows(const call *c, wk_stream *s, const uint64_t *element, int k, uint32_t row, uint32_t rows,
                        uint32_t cols) {
  const uint32_t trellises = wk_trellises(c->job), across = cols / WK_GROUP;
  _Alignas(WK_LINE) uint8_t tokens[WK_FLIGHT][WK_TURN];
  _Alignas(WK_LINE) uint8_t tables[WK_FLIGHT][WK_TURN];
  uint32_t first[WK_FLIGHT][GROUPS];
  for (int i = 0; i < k; i++) {
    s[i].token = tokens[i];
    s[i].table = tables[i];
    s[i].trellis = c->trellis + (size_t)s[i].number * trellises;
    s[i].width = cols;
    s[i].first = first[i];
    first_tables(c->job, element[i] + row * c->job->cols, rows, across, first[i]);
  }
  c->kernels->decode(s, k, &c->model, (uint64_t)rows * across);
  for (int i = 0; i < k; i++) {
    const uint64_t at = element[i] + row * c->job->cols;
    if (c->lattice) {
      if (!c->past) fetch_rows(c, at + rows * c->job->cols, rows, cols);
      dequantise(c, &s[i], at, tokens[i], tables[i], rows, cols);
      continue;
    }
    for (uint32_t r = 0; r < rows; r++) finish(c, &s[i], at + r * c->job->cols, tokens[i] + r * cols, tables[i] + r * cols, cols);
  }
}

/* Decode k blocks with one number of rows, from `block` on. Returns the rules broken by each, in found. */
static void decode_blocks(const call *c, uint64_t block, int k, int vector, int *found) {
  const wcodec_job *job = c->job;
  const uint32_t trellises = wk_trellises(job);
  uint64_t element[WK_FLIGHT], common = UINT64_MAX;
  wk_shape shape[WK_FLIGHT] = {{0}};
  wk_stream s[WK_FLIGHT];
  for (int i = 0; i < k; i++) {
    shape[i] = wk_shape_of(job, block + (uint64_t)i);
    element[i] = shape[i].element;
    begin(c, block + (uint64_t)i, &s[i]);
    s[i].number = i;
    if (job->context == WCODEC_TRELLIS) memset(c->trellis + (size_t)i * trellises, 0, trellises);
    if (shape[i].cols < common) common = shape[i].cols;
  }
  /* What all have goes side by side, in whole groups when some have more. */
  if (k > 1 && shape[0].cols != shape[k - 1].cols) common -= common % (4 * job->lanes);
  const int whole = vector && !job->block && job->context == WCODEC_TRELLIS && !c->book && common % WK_GROUP == 0 &&
                    common <= WK_TURN && shape[0].cols == shape[k - 1].cols;
  for (uint32_t row = 0, rows; whole && row < shape[0].rows; row += rows) {
    rows = (uint32_t)(WK_TURN / common);
    if (rows > shape[0].rows - row) rows = shape[0].rows - row;
    decode_rows(c, s, element, k, row, rows, (uint32_t)common);
  }
  for (uint32_t row = 0; !whole && row < shape[0].rows; row++) {
    decode_run(c, s, element, k, vector, row, 0, common);
    for (int i = 0; i < k; i++)
      if (shape[i].cols > common) decode_run(c, s + i, element + i, 1, vector, row, common, shape[i].cols);
  }
  for (int i = 0; i < k; i++) {
    int bad = s[i].at != s[i].end;
    for (uint32_t lane = 0; lane < job->lanes; lane++) bad |= s[i].x[lane] != WK_LOW;
    found[i] = s[i].bad | (bad ? WCODEC_E6 : 0);
    if (s[i].escaped != s[i].escaped_end) found[i] |= WCODEC_RANS3;
  }
}

/* How many blocks from one on go side by side, which hides each other's latencies: those as wide and high as it, or the last two. */
static int in_flight(const call *c, uint64_t block, uint64_t blocks) {
  const wcodec_job *job = c->job;
  const int most = job->lanes != WK_WIDE || !c->kernels->decode ? 1 : job->context == WCODEC_CLASSES ? 2 : c->kernels->flight;
  const wk_shape a = wk_shape_of(job, block);
  int k = 1;
  for (; k < most && block + (uint64_t)k < blocks; k++) {
    const wk_shape b = wk_shape_of(job, block + (uint64_t)k);
    if (a.rows != b.rows || (a.cols != b.cols && !(job->block && k == 1))) break;
  }
  return k;
}

static int decode(const call *c) {
  const wcodec_job *job = c->job;
  const int vector = job->lanes == WK_WIDE && c->kernels->decode;
  const uint64_t blocks = wcodec_blocks(job);
  int rules = 0;
  if (blocks && job->context == WCODEC_NONE && c->model.lut[0] == 0) return WCODEC_E7; /* table 0 is not used */
  for (uint64_t block = 0; block < blocks;) {
    const int k = in_flight(c, block, blocks);
    int found[WK_FLIGHT] = {0};
    decode_blocks(c, block, k, vector, found);
    for (int i = 0; i < k; i++) {
      if (found[i] && vector) decode_blocks(c, block + (uint64_t)i, 1, 0, &found[i]);
      rules |= found[i];
    }
    block += (uint64_t)k;
  }
  return rules;
}

/* Decode to elements of some bytes. */
static int decode_to(call *c, uint32_t bytes, void *out) {
  c->out = out;
  /* Blocks begin at multiples of 128 elements; of a codebook's entries it is enough that none spans two lines. */
  const uint64_t grain = c->book ? bytes : WK_LINE;
  /* Rows of a matrix begin at such multiples when their length is one; without a lattice, only blocks go past the caches. */
  const int even = c->job->block && !(c->lattice && (c->lattice->each || c->lattice->columns));
  c->past = (even || (c->lattice && c->job->cols * bytes % WK_LINE == 0)) && c->job->count * bytes >= WK_LARGE &&
            WK_LINE % grain == 0 && (uintptr_t)out % grain == 0;
  const int rules = decode(c);
  if (c->past) atomic_thread_fence(memory_order_seq_cst); /* such stores are not ordered otherwise */
  return rules;
}

static call make_call(const wcodec_job *job, const uint32_t *lut, const uint32_t *states, const uint32_t *offsets,
                      const uint8_t *words, uint64_t n_words, uint8_t *scratch) {
  const uint8_t *h = wk_polynomials[job->context == WCODEC_TRELLIS ? job->trellis : 0];
  int used = 1;
  for (uint32_t t = 0; t < job->tables; t++) used &= ((const wk_u32 *)lut)[(size_t)t << job->precision] != 0;
  const call c = {.job = job,
                  .kernels = wk_current(),
                  .model = {lut, job->precision, job->context, h[0], h[1], used},
                  .states = states,
                  .offsets = offsets,
                  .words = words,
                  .n_words = n_words,
                  .trellis = scratch};
  return c;
}

int wcodec_rans_decode(const wcodec_job *job, const uint32_t *lut, const uint32_t *states, const uint32_t *offsets,
                       const uint8_t *words, uint64_t n_words, uint8_t *scratch, uint8_t *out) {
  call c = make_call(job, lut, states, offsets, words, n_words, scratch);
  c.out = out;
  return decode(&c);
}

int wcodec_rans_join(const wcodec_job *job, const uint32_t *lut, const uint32_t *states, const uint32_t *offsets,
                     const uint8_t *words, uint64_t n_words, uint8_t *scratch, const wcodec_split *split,
                     const uint8_t *const *rest, void *out) {
  call c = make_call(job, lut, states, offsets, words, n_words, scratch);
  c.split = split;
  c.rest = rest;
  return decode_to(&c, split->bytes, out);
}

int wcodec_rans_gather(const wcodec_job *job, const uint32_t *lut, const uint32_t *states, const uint32_t *offsets,
                       const uint8_t *words, uint64_t n_words, uint8_t *scratch, const void *centroids,
                       uint32_t entries, uint32_t bytes, void *out) {
  call c = make_call(job, lut, states, offsets, words, n_words, scratch);
  wk_book book;
  wk_open_book(&book, centroids, entries, bytes);
  c.book = &book;
  return decode_to(&c, bytes, out);
}

int wcodec_trellis_decode(const wcodec_job *job, const uint32_t *lut, const uint32_t *states, const uint32_t *offsets,
                          const uint8_t *words, uint64_t n_words, uint8_t *scratch, const wcodec_symbols *symbols,
                          const wcodec_lattice *lattice, void *out) {
  call c = make_call(job, lut, states, offsets, words, n_words, scratch);
  wk_lattice its;
  wk_alphabet alphabet;
  wk_open_lattice(&its, lattice, job);
  c.lattice = &its;
  const uint64_t mode = wk_exact_mode();
  if (symbols) {
    wk_open_alphabet(&alphabet, symbols, job);
    c.alphabet = &alphabet;
  }
  if (job->count >= WK_MANY) wk_open_tokens(&its, c.alphabet, job, lut, (uint64_t)job->tables << job->precision);
  const int rules = decode_to(&c, wk_float_size(its.kind), out);
  wk_restore_mode(mode);
  return rules;
}
