/* What symbols of a trellis stand for (trellis.md). */
#include "internal.h"

enum { PIECE = 2048 }; /* elements between multiplication and rounding to a narrower type: they stay in the cache */

void wk_open_lattice(wk_lattice *l, const wcodec_lattice *lattice, const wcodec_job *job) {
  l->rows = (const wk_f32 *)lattice->rows;
  l->columns = (const wk_f32 *)lattice->columns;
  l->cols = job->cols;
  l->n_points = lattice->n_points;
  l->each = lattice->each;
  l->zero = lattice->zero;
  l->kind = lattice->kind;
  for (uint32_t m = 0; m <= 64; m++) {
    const int known = m > 0 && m <= l->n_points;
    l->magnitude[m] = known ? ((const wk_f32 *)lattice->points)[m - 1] : (float)m;
  }
  l->book.count = 0;
  for (int32_t i = 0; i < 512; i++) {
    const int32_t k = i - 2 * (int32_t)l->zero, size = k < 0 ? -k : k;
    const float m = size <= 64 ? l->magnitude[size] : (float)size;
    l->value[i] = k < 0 ? -m : m;
  }
}

/* Rows of a piece that ends with the matrix's columns or before, from column `done` of the piece on. */
static void dequantise_rest(const wk_lattice *l, const wk_piece *p, const wk_f32 *steps, const wk_f32 *columns, uint64_t done) {
  const wk_kernels *kernels = wk_current();
  const uint32_t size = wk_float_size(l->kind);
  wk_f32 room[PIECE];
  for (uint64_t r = 0; r < p->rows; r++)
    for (uint64_t i = done, n; i < p->n; i += n) {
      uint8_t *out = p->out + r * p->stride + i * size;
      wk_f32 *values = l->kind == WCODEC_F32 ? (wk_f32 *)(void *)out : room;
      n = p->n - i < PIECE ? p->n - i : PIECE;
      kernels->floats->lattice(l, p->symbols + (r * p->n + i) * p->bytes, p->bytes, p->z0 + r * p->n + i, n,
                               steps[l->each ? r : 0], columns ? columns + i : NULL, values);
      if (l->kind != WCODEC_F32) kernels->floats->round(room, n, l->kind, out);
    }
}

static void dequantise_rows(const wk_lattice *l, const wk_piece *p, const wk_f32 *steps, const wk_f32 *columns) {
  const wk_kernels *kernels = wk_current();
  const uint64_t done = kernels->dequantise ? kernels->dequantise(l, p, steps, columns) : 0;
  if (done < p->n) dequantise_rest(l, p, steps, columns, done);
}

void wk_open_entries(wk_lattice *l, const uint32_t *lut, uint64_t count) {
  if (l->each || l->columns || !wk_current()->look_up_lattice) return;
  uint32_t low = 255, high = 0;
  for (uint64_t i = 0; i < count; i++) {
    const uint32_t token = ((const wk_u32 *)lut)[i] >> 24;
    low = token < low ? token : low;
    high = token > high ? token : high;
  }
  if (high - low >= 128 || high < low) return;
  uint8_t symbols[256], z0[256];
  const uint32_t n = 2 * (high - low + 1);
  for (uint32_t i = 0; i < n; i++) symbols[i] = (uint8_t)(low + i / 2), z0[i] = i & 1;
  const wk_piece all = {symbols, z0, 1, 1, n, 0, 0, l->entries};
  dequantise_rows(l, &all, l->rows, NULL);
  wk_open_book(&l->book, l->entries, n, wk_float_size(l->kind));
  l->least = low;
}

void wk_dequantise(const wk_lattice *l, uint64_t row, uint64_t column, const wk_piece *p) {
  if (l->book.count && p->bytes == 1) {
    wk_current()->look_up_lattice(&l->book, l->least, p);
    return;
  }
  if (p->rows > 1 || column + p->n <= l->cols || !(l->each || l->columns)) {
    dequantise_rows(l, p, l->rows + (l->each ? row : 0), l->columns ? l->columns + column : NULL);
    return;
  }
  wk_piece part = *p;
  for (uint64_t left = p->n; left; left -= part.n, row++, column = 0) {
    part.n = left < l->cols - column ? left : l->cols - column;
    dequantise_rows(l, &part, l->rows + (l->each ? row : 0), l->columns ? l->columns + column : NULL);
    part.symbols += part.n * part.bytes, part.z0 += part.n, part.out += part.n * wk_float_size(l->kind);
  }
}

void wcodec_trellis_dequantise(const wcodec_job *job, const void *symbols, uint32_t bytes, uint8_t *scratch,
                               const wcodec_lattice *lattice, void *out) {
  const uint64_t mode = wk_exact_mode();
  uint8_t parity[WK_CHUNK], z0[WK_CHUNK];
  wk_lattice l;
  wk_open_lattice(&l, lattice, job);
  wcodec_job plain = *job;
  plain.map = NULL; /* classes choose tables, not z0 */
  for (uint64_t block = 0, blocks = wcodec_blocks(job); block < blocks; block++) {
    const wk_shape shape = wk_shape_of(job, block);
    memset(scratch, 0, wk_trellises(job));
    for (uint32_t row = 0; row < shape.rows; row++)
      for (uint64_t col = 0; col < shape.cols; col += WK_CHUNK) {
        const uint64_t n = shape.cols - col < WK_CHUNK ? shape.cols - col : WK_CHUNK;
        const uint64_t at = shape.element + row * job->cols + col, place = job->start % job->cols + at;
        const uint8_t *here = (const uint8_t *)symbols + at * bytes; /* little-endian: parities are in the first byte */
        for (uint64_t i = 0; i < n; i++) parity[i] = here[i * bytes];
        wk_trellis_run(&plain, at, scratch + (job->block ? 0 : col), parity, n, z0);
        const wk_piece piece = {here, z0, bytes, 1, n, 0, 0, (uint8_t *)out + at * wk_float_size(l.kind)};
        wk_dequantise(&l, place / job->cols, place % job->cols, &piece);
      }
  }
  wk_restore_mode(mode);
}
