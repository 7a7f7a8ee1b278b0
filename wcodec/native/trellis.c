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
  l->joins = 0;
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

/* A codebook of what tokens stand for, with an entry for each and every z0. */
static void open_book(wk_lattice *l, const wk_alphabet *a, uint32_t low, uint32_t high) {
  uint8_t tokens[256], z0[256];
  wk_u16 wide[256];
  const uint32_t n = high - low < 32 ? 64 : high - low < 64 ? 128 : 256;
  for (uint32_t i = 0; i < n; i++) {
    const uint32_t at = (2 * low + i) % n;
    tokens[at] = (uint8_t)(low + i / 2), z0[at] = i & 1; /* beyond the last one, it does not matter */
  }
  if (a) wk_current()->symbols(a, tokens, NULL, 0, n, wide);
  const wk_piece all = {a ? (const uint8_t *)wide : tokens, z0, a ? 2 : 1, 1, n, 0, 0, l->entries};
  dequantise_rows(l, &all, l->rows, NULL);
  wk_open_book(&l->book, l->entries, n, wk_float_size(l->kind));
}

/* Whether all of n factors are so large, and so small, that a value times 2^-16 is normal when it is not 0. */
static int moderate(const wk_f32 *factors, uint64_t n, float low, float high) {
  int found = 1;
  for (uint64_t i = 0; i < n; i++) found &= factors[i] >= low && factors[i] <= high;
  return found;
}

/* k = 2 * (symbol - zero) + z0 as join_lattice adds it up, where 16 bits hold all of it. */
static void open_join(wk_lattice *l, const wk_alphabet *a, const wcodec_job *job, uint32_t low, uint32_t high) {
  const uint32_t bits = a ? a->wire->bits : 0, base = a ? a->base : 0;
  const uint64_t rows = l->each ? (job->start % job->cols + job->count + job->cols - 1) / job->cols : 1;
  if (bits > 5 || l->n_points || l->kind == WCODEC_F64 || (a && a->zero && base && low < 2)) return;
  const int64_t first = (int64_t)((low >> 1) + base) << (bits + 1), last = ((int64_t)((high >> 1) + base + 1) << (bits + 1)) - 1;
  if (last > (a ? a->cut : 0xFF) || 2 * (first - l->zero) < INT16_MIN || 2 * (last - l->zero) + 1 > INT16_MAX) return;
  l->offset = (uint16_t)((base << (bits + 2)) - 2 * l->zero - ((2u << bits) - 2));
  l->joins = moderate(l->rows, rows, 0x1p-60f, 0x1p60f) && (!l->columns || moderate(l->columns, l->cols, 0x1p-20f, 0x1p20f));
}

void wk_open_tokens(wk_lattice *l, const wk_alphabet *a, const wcodec_job *job, const uint32_t *lut, uint64_t count) {
  const wk_kernels *kernels = wk_current();
  uint32_t low = 255, high = 0;
  for (uint64_t i = 0; i < count; i++) {
    const uint32_t entry = ((const wk_u32 *)lut)[i], token = entry >> 24;
    low = entry && token < low ? token : low; /* without an entry the table is not used, or the block is bad */
    high = token > high ? token : high;
  }
  if (high < low) return;
  if (kernels->look_up_lattice && high - low < 128 && !l->each && !l->columns && !(a && a->wire->bits)) open_book(l, a, low, high);
  else if (kernels->join_lattice) open_join(l, a, job, low, high);
}

void wk_dequantise(const wk_lattice *l, uint64_t row, uint64_t column, const wk_piece *p) {
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
