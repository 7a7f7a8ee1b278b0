/* Counting tokens per table. */
#include "internal.h"

enum {
  COPIES = 4,       /* of the counts, as WK_PARTS */
  TABLES = 8,       /* tables at most that are counted in copies, which lie on the stack */
  FLUSH = 1u << 30, /* symbols after which 32-bit counts are added up */
};

static void add(uint32_t *part, uint64_t entries, wk_u64 *counts) {
  for (uint64_t i = 0; i < entries; i++)
    for (int c = 0; c < COPIES; c++) counts[i] += part[(uint64_t)c * entries + i];
  memset(part, 0, COPIES * entries * sizeof *part);
}

void wk_count(const uint8_t *tokens, uint64_t n, uint32_t part[WK_PARTS][256]) {
  uint64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const uint64_t t = *(const wk_u64 *)(tokens + i);
    part[0][t & 255]++;
    part[1][t >> 8 & 255]++;
    part[2][t >> 16 & 255]++;
    part[3][t >> 24 & 255]++;
    part[4][t >> 32 & 255]++;
    part[5][t >> 40 & 255]++;
    part[6][t >> 48 & 255]++;
    part[7][t >> 56]++;
  }
  for (; i < n; i++) part[0][tokens[i]]++;
}

void wk_count_up(uint32_t part[WK_PARTS][256], uint64_t *counts) {
  for (int t = 0; t < 256; t++)
    for (int p = 0; p < WK_PARTS; p++) ((wk_u64 *)counts)[t] += part[p][t];
  memset(part, 0, WK_PARTS * sizeof *part);
}

static void count_none(const uint8_t *tokens, uint64_t n, uint64_t *counts) {
  uint32_t part[WK_PARTS][256] = {{0}};
  while (n) {
    const uint64_t here = n < FLUSH ? n : FLUSH;
    wk_count(tokens, here, part);
    wk_count_up(part, counts);
    tokens += here;
    n -= here;
  }
}

/* Counts of a window with several tables. */
typedef struct {
  uint64_t entries, since;
  wk_u64 *counts;
  uint32_t part[COPIES * TABLES * 256];
} counter;

static void count_tables(counter *c, const uint8_t *token, const uint8_t *table, uint64_t n) {
  uint64_t i = 0;
  if (c->entries <= TABLES * 256) {
    uint32_t *p0 = c->part, *p1 = p0 + c->entries, *p2 = p1 + c->entries, *p3 = p2 + c->entries;
    for (; i + 4 <= n; i += 4) {
      p0[(uint32_t)table[i] << 8 | token[i]]++;
      p1[(uint32_t)table[i + 1] << 8 | token[i + 1]]++;
      p2[(uint32_t)table[i + 2] << 8 | token[i + 2]]++;
      p3[(uint32_t)table[i + 3] << 8 | token[i + 3]]++;
    }
    c->since += n;
    if (c->since >= FLUSH) {
      add(c->part, c->entries, c->counts);
      c->since = 0;
    }
  }
  for (; i < n; i++) c->counts[(uint32_t)table[i] << 8 | token[i]]++;
}

void wcodec_rans_histogram(const wcodec_job *job, const uint8_t *tokens, uint8_t *scratch, uint64_t *counts) {
  if (job->context == WCODEC_NONE) {
    count_none(tokens, job->count, counts);
    return;
  }
  counter c;
  uint8_t table[WK_CHUNK];
  c.entries = job->tables * 256ull;
  c.since = 0;
  c.counts = (wk_u64 *)counts;
  const int copies = c.entries <= TABLES * 256;
  if (copies) memset(c.part, 0, COPIES * c.entries * sizeof *c.part);
  if (job->context == WCODEC_CLASSES) /* in any order */
    for (uint64_t at = 0; at < job->count; at += WK_CHUNK) {
      const uint64_t n = job->count - at < WK_CHUNK ? job->count - at : WK_CHUNK;
      wk_classes(job, at, n, table);
      count_tables(&c, tokens + at, table, n);
    }
  else
    for (uint64_t block = 0, blocks = wcodec_blocks(job); block < blocks; block++) {
      const wk_shape shape = wk_shape_of(job, block);
      memset(scratch, 0, wk_trellises(job));
      for (uint32_t row = 0; row < shape.rows; row++)
        for (uint64_t col = 0; col < shape.cols; col += WK_CHUNK) {
          const uint64_t n = shape.cols - col < WK_CHUNK ? shape.cols - col : WK_CHUNK;
          const uint8_t *token = tokens + shape.element + row * job->cols + col;
          wk_trellis_run(job, shape.element + row * job->cols + col, scratch + (job->block ? 0 : col), token, n, table);
          count_tables(&c, token, table, n);
        }
    }
  if (copies) add(c.part, c.entries, c.counts);
}
