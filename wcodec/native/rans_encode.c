/* Encoding of windows: tables, blocks and runs, and the scalar steps. */
#include "internal.h"

enum { SLACK = 64 }; /* vector code may write this far below a block's first word */

static uint64_t reach(const wcodec_job *job) { return 2 * (uint64_t)wk_span(job) + SLACK; }

uint64_t wcodec_encode_scratch(const wcodec_job *job) {
  const uint64_t tables = job->context == WCODEC_NONE ? 0 : 2 * (uint64_t)wk_span(job) + wk_trellises(job);
  return job->tables * 256ull * 12 + 2 * reach(job) + tables;
}

/* Encode a group of at most 4 * lanes symbols. */
WK_INLINE void group(wk_writer *w, const wk_coder *c, const uint32_t lanes, const uint8_t *token, const uint8_t *table,
                     uint32_t n) {
  const uint32_t precision = c->precision, size = 1u << precision;
  uint8_t *at = w->at;
  for (uint32_t j = 4; j-- > 0;)
    for (uint32_t lane = lanes; lane-- > 0;) {
      const uint32_t position = 4 * lane + j;
      if (position >= n) continue;
      const uint32_t key = token[position] | (table ? (uint32_t)table[position] << 8 : 0);
      const uint32_t packed = ((const wk_u32 *)c->packed)[key], f = packed & 0xFFFF;
      uint32_t x = w->x[lane], emit = x >> (32 - precision) >= f;
#if defined(__GNUC__)
      __asm__("" : "+r"(emit)); /* no branch: it would be wrong every third time */
#endif
      *(wk_u16 *)(at - 2) = (uint16_t)x;
      at -= 2 * emit;
      x >>= 16 * emit;
      /* The quotient from the reciprocal is right or 1 too small, as both roundings are downwards. */
      uint32_t q = (uint32_t)((x * ((const wk_u64 *)c->reciprocal)[key]) >> 32), r = x - q * f, more = r >= f;
      w->x[lane] = (q << precision) + r + (packed >> 16) + ((size - f) & (0u - more));
    }
  w->at = at;
}

WK_INLINE void run(wk_writer *w, const wk_coder *c, const uint32_t lanes, uint64_t n) {
  const uint32_t size = 4 * lanes;
  uint64_t at = n / size * size;
  if (at < n) group(w, c, lanes, w->token + at, w->table ? w->table + at : NULL, (uint32_t)(n - at));
  while (at) {
    at -= size;
    group(w, c, lanes, w->token + at, w->table ? w->table + at : NULL, size);
  }
}

void wk_encode_scalar(wk_writer *w, const wk_coder *c, uint32_t lanes, uint64_t n) {
  if (lanes == 32) run(w, c, 32, n);
  else if (lanes == 4) run(w, c, 4, n);
  else run(w, c, 1, n);
}

/* Write the tables of a block's symbols, run after run. */
static void find_tables(const wcodec_job *job, const wk_shape *shape, const uint8_t *tokens, uint8_t *state,
                        uint8_t *table) {
  if (job->context == WCODEC_TRELLIS) memset(state, 0, wk_trellises(job));
  for (uint32_t row = 0; row < shape->rows; row++) {
    const uint64_t element = shape->element + row * job->cols;
    uint8_t *to = table + (size_t)row * shape->cols;
    if (job->context == WCODEC_TRELLIS) wk_trellis_run(job, element, state, tokens + element, shape->cols, to);
    else wk_classes(job, element, shape->cols, to);
  }
}

/* Lay the bytes of the first table's entries apart: wk_coder. */
static void lay_planes(wk_coder *c, const wk_u16 *frequencies) {
  for (c->modulus = 64; c->modulus < 256; c->modulus *= 2) {
    uint8_t taken[128] = {0};
    int twice = 0;
    for (uint32_t t = 0; t < 256; t++)
      if (frequencies[t]) twice |= taken[t % c->modulus]++;
    if (!twice) break;
  }
  for (uint32_t t = 0; t < 256; t++)
    if (frequencies[t])
      for (int i = 0; i < 4; i++) c->planes[i][t % c->modulus] = (uint8_t)(((const wk_u32 *)c->packed)[t] >> 8 * i);
}

uint64_t wcodec_rans_encode(const wcodec_job *job, const uint16_t *frequencies, const uint8_t *tokens,
                            uint8_t *scratch, uint32_t *states, uint32_t *per_block, uint8_t *words, uint64_t room) {
  const wk_kernels *kernels = wk_current();
  const uint64_t blocks = wcodec_blocks(job), entries = job->tables * 256ull;
  wk_u64 *reciprocal = (wk_u64 *)scratch;
  wk_u32 *packed = (wk_u32 *)(scratch + 8 * entries);
  for (uint64_t i = 0, start = 0; i < entries; i++) {
    const uint32_t f = ((const wk_u16 *)frequencies)[i];
    if (i % 256 == 0) start = 0;
    packed[i] = (f ? f : 1) | (uint32_t)start << 16;
    reciprocal[i] = (1ull << 32) / (f ? f : 1);
    start += f;
  }
  wk_coder coder = {(const uint32_t *)packed, (const uint64_t *)reciprocal, job->precision, 0, {{0}}};
  lay_planes(&coder, (const wk_u16 *)frequencies);
  uint8_t *const streams = scratch + 12 * entries, *const tables = streams + 2 * reach(job),
                 *const state = tables + 2 * (size_t)wk_span(job);
  const int vector = job->lanes == WK_WIDE && job->precision >= 10 && kernels->encode;
  uint64_t total = 0;
  for (uint64_t block = 0; block < blocks;) {
    wk_shape shape[2] = {wk_shape_of(job, block), {0, 0, 0}};
    int k = 1;
    if (vector && block + 1 < blocks) { /* two blocks in flight hide each other's latencies */
      shape[1] = wk_shape_of(job, block + 1);
      k += shape[0].rows == shape[1].rows && shape[0].cols == shape[1].cols;
    }
    wk_writer w[2];
    for (int i = 0; i < k; i++) {
      for (int lane = 0; lane < WK_WIDE; lane++) w[i].x[lane] = WK_LOW;
      w[i].at = streams + (uint64_t)(i + 1) * reach(job);
      w[i].table = NULL;
      if (job->context != WCODEC_NONE) find_tables(job, &shape[i], tokens, state, tables + (size_t)i * wk_span(job));
    }
    const uint64_t cols = shape[0].cols, whole = vector ? cols / WK_GROUP : 0;
    for (uint32_t row = shape[0].rows; row-- > 0;) {
      for (int i = 0; i < k; i++) {
        const uint8_t *token = tokens + shape[i].element + row * job->cols;
        const uint8_t *table = job->context == WCODEC_NONE ? NULL : tables + (size_t)i * wk_span(job) + row * cols;
        if (cols > whole * WK_GROUP) {
          w[i].token = token + whole * WK_GROUP;
          w[i].table = table ? table + whole * WK_GROUP : NULL;
          wk_encode_scalar(&w[i], &coder, job->lanes, cols - whole * WK_GROUP);
        }
        w[i].token = token;
        w[i].table = table;
      }
      if (whole) kernels->encode(w, k, &coder, whole);
    }
    for (int i = 0; i < k; i++, block++) {
      const size_t size = (size_t)(streams + (uint64_t)(i + 1) * reach(job) - w[i].at);
      if (total + size / 2 <= room) memcpy(words + 2 * total, w[i].at, size);
      memcpy((uint8_t *)states + block * job->lanes * 4, w[i].x, job->lanes * 4);
      ((wk_u32 *)per_block)[block] = (uint32_t)(size / 2);
      total += size / 2;
    }
  }
  return total;
}
