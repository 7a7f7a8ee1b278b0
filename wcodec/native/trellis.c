/* What symbols of a trellis stand for (trellis.md). */
#include "internal.h"

enum { PIECE = 2048 }; /* elements between multiplication and rounding to a narrower type: they stay in the cache */

void wk_dequantise(const wcodec_lattice *lattice, const wcodec_job *job, uint64_t at, const void *symbols,
                   uint32_t bytes, const uint8_t *z0, uint64_t n, void *out) {
  const wk_floats *floats = wk_current()->floats;
  const uint32_t kind = lattice->kind, size = kind == WCODEC_F64 ? 8 : kind == WCODEC_F32 ? 4 : 2;
  const wk_f32 *columns = (const wk_f32 *)lattice->columns;
  wk_f32 points[65] = {0}, piece[PIECE];
  memcpy(points + 1, lattice->points, lattice->n_points * sizeof *points);
  uint64_t row = (job->start + at) / job->cols, column = (job->start + at) % job->cols;
  const uint64_t first = job->start / job->cols;
  for (uint64_t done = 0; done < n;) {
    uint64_t length = n - done < PIECE ? n - done : PIECE;
    if (lattice->each || columns) length = job->cols - column < length ? job->cols - column : length;
    const float step = ((const wk_f32 *)lattice->rows)[lattice->each ? row - first : 0];
    uint8_t *const to = (uint8_t *)out + (at + done) * size;
    wk_f32 *values = kind == WCODEC_F32 ? (wk_f32 *)(void *)to : piece;
    floats->lattice((const uint8_t *)symbols + done * bytes, bytes, z0 + done, length, (int32_t)lattice->zero, points,
                    lattice->n_points, step, columns ? columns + column : NULL, values);
    if (kind != WCODEC_F32) floats->round(piece, length, kind, to);
    done += length;
    column += length;
    if (column >= job->cols) {
      row += column / job->cols;
      column %= job->cols;
    }
  }
}

void wcodec_trellis_dequantise(const wcodec_job *job, const void *symbols, uint32_t bytes, uint8_t *scratch,
                               const wcodec_lattice *lattice, void *out) {
  const uint64_t mode = wk_exact_mode();
  uint8_t parity[WK_CHUNK], z0[WK_CHUNK];
  for (uint64_t block = 0, blocks = wcodec_blocks(job); block < blocks; block++) {
    const wk_shape shape = wk_shape_of(job, block);
    memset(scratch, 0, wk_trellises(job));
    for (uint32_t row = 0; row < shape.rows; row++)
      for (uint64_t col = 0; col < shape.cols; col += WK_CHUNK) {
        const uint64_t n = shape.cols - col < WK_CHUNK ? shape.cols - col : WK_CHUNK;
        const uint64_t at = shape.element + row * job->cols + col;
        const uint8_t *here = (const uint8_t *)symbols + at * bytes; /* little-endian: parities are in the first byte */
        for (uint64_t i = 0; i < n; i++) parity[i] = here[i * bytes];
        wk_trellis_run(job, at, scratch + (job->block ? 0 : col), parity, n, z0);
        wk_dequantise(lattice, job, at, here, bytes, z0, n, out);
      }
  }
  wk_restore_mode(mode);
}
