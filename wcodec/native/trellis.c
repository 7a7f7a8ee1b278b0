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
  for (int32_t i = 0; i < 512; i++) {
    const int32_t k = i - 2 * (int32_t)l->zero, size = k < 0 ? -k : k;
    const float m = size <= 64 ? l->magnitude[size] : (float)size;
    l->value[i] = k < 0 ? -m : m;
  }
}

/* Symbols of one row, or of several with one step. */
static void dequantise_run(const wk_lattice *l, const uint8_t *symbols, uint32_t bytes, const uint8_t *z0, uint64_t n,
                           float step, const wk_f32 *columns, uint8_t *out) {
  const wk_kernels *kernels = wk_current();
  const uint32_t size = wk_float_size(l->kind);
  wk_f32 piece[PIECE];
  for (uint64_t done = bytes == 1 && kernels->dequantise ? kernels->dequantise(l, symbols, z0, n, step, columns, out) : 0;
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
                   const uint8_t *z0, uint64_t n, uint8_t *out) {
  if (!l->each && !l->columns) {
    dequantise_run(l, (const uint8_t *)symbols, bytes, z0, n, l->rows[0], NULL, out);
    return;
  }
  for (uint64_t done = 0; done < n; row++, column = 0) {
    const uint64_t here = n - done < l->cols - column ? n - done : l->cols - column;
    dequantise_run(l, (const uint8_t *)symbols + done * bytes, bytes, z0 + done, here, l->rows[l->each ? row : 0],
                   l->columns ? l->columns + column : NULL, out + done * wk_float_size(l->kind));
    done += here;
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
        wk_dequantise(&l, place / job->cols, place % job->cols, here, bytes, z0, n,
                      (uint8_t *)out + at * wk_float_size(l.kind));
      }
  }
  wk_restore_mode(mode);
}
