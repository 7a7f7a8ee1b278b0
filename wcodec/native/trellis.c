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

/* Symbols of one row, or of several with one step. */
static void dequantise_run(const wk_lattice *l, const uint8_t *symbols, uint32_t bytes, const uint8_t *z0, uint64_t n,
                           float step, const wk_f32 *columns, int past, uint8_t *out) {
  const wk_kernels *kernels = wk_current();
  const uint32_t size = wk_float_size(l->kind);
  wk_f32 piece[PIECE];
  for (uint64_t done = bytes == 1 && kernels->dequantise ? kernels->dequantise(l, symbols, z0, n, step, columns, past, out) : 0;
       done < n;) {
    const uint64_t here = n - done < PIECE ? n - done : PIECE;
    wk_f32 *values = l->kind == WCODEC_F32 ? (wk_f32 *)(void *)(out + done * 4) : piece;
    kernels->floats->lattice(l, symbols + done * bytes, bytes, z0 + done, here, step, columns ? columns + done : NULL,
                             values);
    if (l->kind != WCODEC_F32) kernels->floats->round(piece, here, l->kind, out + done * size);
    done += here;
  }
}

void wk_dequantise(const wk_lattice *l, uint64_t row, uint64_t column, const void *symbols, uint32_t bytes,
                   const uint8_t *z0, uint64_t n, int past, uint8_t *out) {
  if (!l->each && !l->columns) {
    dequantise_run(l, (const uint8_t *)symbols, bytes, z0, n, l->rows[0], NULL, past, out);
    return;
  }
  for (uint64_t done = 0; done < n; row++, column = 0) {
    const uint64_t here = n - done < l->cols - column ? n - done : l->cols - column;
    dequantise_run(l, (const uint8_t *)symbols + done * bytes, bytes, z0 + done, here, l->rows[l->each ? row : 0],
                   l->columns ? l->columns + column : NULL, past, out + done * wk_float_size(l->kind));
    done += here;
  }
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
  dequantise_run(l, symbols, 1, z0, n, l->rows[0], NULL, 0, l->entries);
  wk_open_book(&l->book, l->entries, n, wk_float_size(l->kind));
  l->least = low;
}

void wk_dequantise_piece(const wk_lattice *l, uint64_t row, uint64_t column, const wk_piece *p) {
  if (l->book.count) {
    wk_current()->look_up_lattice(&l->book, l->least, p);
    return;
  }
  for (uint64_t r = 0; r < p->rows; r++)
    wk_dequantise(l, row + r, column, p->symbols + r * p->n, 1, p->z0 + r * p->n, p->n, p->past, p->out + r * p->stride);
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
        wk_dequantise(&l, place / job->cols, place % job->cols, here, bytes, z0, n, 0,
                      (uint8_t *)out + at * wk_float_size(l.kind));
      }
  }
  wk_restore_mode(mode);
}
