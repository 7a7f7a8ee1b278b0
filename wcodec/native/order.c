/* Where symbols stand (entropy.md section 2), and which table they take (section 5). */
#include "internal.h"

const uint8_t wk_polynomials[9][2] = {{0},
                                      {0},
                                      {05 >> 1, 02 >> 1},
                                      {013 >> 1, 04 >> 1},
                                      {023 >> 1, 04 >> 1},
                                      {045 >> 1, 010 >> 1},
                                      {0103 >> 1, 024 >> 1},
                                      {0235 >> 1, 0126 >> 1},
                                      {0515 >> 1, 0362 >> 1}};

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

uint64_t wcodec_blocks(const wcodec_job *job) {
  if (job->count == 0) return 0;
  if (job->block) return (job->count + job->block - 1) / job->block;
  uint64_t rows = job->count / job->cols;
  return ((rows + job->tile_rows - 1) / job->tile_rows) * ((job->cols + job->tile_cols - 1) / job->tile_cols);
}

wk_shape wk_shape_of(const wcodec_job *job, uint64_t block) {
  wk_shape shape;
  if (job->block) {
    shape.element = block * job->block;
    shape.rows = 1;
    shape.cols = (uint32_t)least(job->block, job->count - shape.element);
    return shape;
  }
  uint64_t across = (job->cols + job->tile_cols - 1) / job->tile_cols, rows = job->count / job->cols;
  uint64_t top = block / across * job->tile_rows, left = block % across * job->tile_cols;
  shape.element = top * job->cols + left;
  shape.rows = (uint32_t)least(job->tile_rows, rows - top);
  shape.cols = (uint32_t)least(job->tile_cols, job->cols - left);
  return shape;
}

void wk_classes(const wcodec_job *job, uint64_t element, uint64_t n, uint8_t *table) {
  void (*look_up)(const uint8_t *, uint32_t, const uint8_t *, uint64_t, uint8_t *) = wk_current()->look_up;
  uint64_t at = job->start + element, row = at / job->cols, col = at % job->cols;
  for (; n; row++, col = 0) {
    uint64_t length = least(n, job->cols - col);
    const uint8_t *map = job->map + (job->rows ? (size_t)job->rows[row] * job->column_classes : 0);
    if (!job->columns) memset(table, map[0], length);
    else if (look_up && job->column_classes <= 16) look_up(map, job->column_classes, job->columns + col, length, table);
    else
      for (uint64_t i = 0; i < length; i++) table[i] = map[job->columns[col + i]];
    table += length;
    n -= length;
  }
}

void wk_trellis_run(const wcodec_job *job, uint64_t element, uint8_t *state, const uint8_t *token, uint64_t n,
                    uint8_t *table) {
  const uint8_t first = (uint8_t)wk_first_table(job, job->map ? (job->start + element) / job->cols : 0);
  const uint8_t h0 = wk_polynomials[job->trellis][0], h1 = wk_polynomials[job->trellis][1];
  const uint64_t width = wk_trellises(job);
  while (n) {
    uint64_t length = least(n, width);
    for (uint64_t i = 0; i < length; i++) {
      uint8_t s = state[i], z0 = s & 1, z1 = token[i] & 1;
      table[i] = first + z0;
      state[i] = (uint8_t)((s >> 1) ^ (h0 & -z0) ^ (h1 & -z1));
    }
    token += length;
    table += length;
    n -= length;
  }
}
