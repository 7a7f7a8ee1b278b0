/* Uniform quantisation, steps of a matrix and sums (uniform.md, nwc.md, sum.md): runs of elements with one step, in the float mode that they need. */
#include "uniform.h"

#if WK_X86
#include <xmmintrin.h>
#endif

WK_FLOATS_OF(scalar)

enum { PIECE = 2048 }; /* elements between multiplication and rounding to a narrower type: they stay in the cache */

uint64_t wk_exact_mode(void) {
#if WK_X86
  const uint32_t saved = _mm_getcsr();
  _mm_setcsr(0x1F80);
  return saved;
#elif defined(__aarch64__)
  uint64_t saved;
  const uint64_t plain = 0;
  __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
  __asm__ volatile("msr fpcr, %0" : : "r"(plain));
  return saved;
#else
  return 0;
#endif
}

void wk_restore_mode(uint64_t mode) {
#if WK_X86
  _mm_setcsr((uint32_t)mode);
#elif defined(__aarch64__)
  __asm__ volatile("msr fpcr, %0" : : "r"(mode));
#else
  (void)mode;
#endif
}

/* A run of elements: `step` of the window's steps belongs to the first of them; each: the next ones follow, else it is
 * that of all. */
typedef struct {
  uint64_t count, step;
  int each;
} run;

static run next_run(const wcodec_grid *g, uint64_t first, uint64_t at, uint64_t stop) {
  const uint64_t row = at / g->cols, column = at % g->cols, left = g->cols - column;
  run r = {left, row * g->stride + column / g->group - first, g->group == 1};
  if (!r.each && g->group - column % g->group < r.count) r.count = g->group - column % g->group;
  if (stop - at < r.count) r.count = stop - at;
  if (r.count > PIECE) r.count = PIECE;
  return r;
}

static uint64_t first_step(const wcodec_grid *g) {
  return g->stride ? g->start / g->cols * g->stride + g->start % g->cols / g->group : 0;
}

int wcodec_dequantise(const wcodec_grid *g, const void *symbols, uint32_t symbol_bytes, const void *steps, uint32_t kind,
                      void *out) {
  const wk_floats *floats = wk_current()->floats;
  const uint64_t before = wk_exact_mode();
  const uint64_t first = first_step(g), size = kind == WCODEC_F64 ? 8 : kind == WCODEC_F32 ? 4 : 2;
  uint32_t most = 0;
  wk_f32 piece[PIECE];
  for (uint64_t done = 0; done < g->count;) { /* several short runs fill a piece, then it is rounded */
    uint64_t n = 0;
    wk_f32 *to = kind == WCODEC_F32 ? (wk_f32 *)out + done : piece;
    while (done + n < g->count) {
      const run r = next_run(g, first, g->start + done + n, g->start + g->count);
      if (n + r.count > PIECE) break;
      const uint32_t found = floats->dequantise((const uint8_t *)symbols + (done + n) * symbol_bytes, symbol_bytes,
                                                r.count, (const wk_f32 *)steps + r.step, r.each, g->zero, to + n);
      most = found > most ? found : most;
      n += r.count;
    }
    if (kind != WCODEC_F32) floats->round(piece, n, kind, (uint8_t *)out + done * size);
    done += n;
  }
  wk_restore_mode(before);
  return g->count && most >= g->levels;
}

void wcodec_quantise(const wcodec_grid *g, const void *x, const void *steps, uint32_t symbol_bytes, void *symbols) {
  const wk_floats *floats = wk_current()->floats;
  const uint64_t before = wk_exact_mode();
  const uint64_t first = first_step(g);
  for (uint64_t done = 0; done < g->count;) {
    const run r = next_run(g, first, g->start + done, g->start + g->count);
    floats->quantise((const wk_f32 *)x + done, r.count, (const wk_f32 *)steps + r.step, r.each, g->zero, g->levels,
                     symbol_bytes, (uint8_t *)symbols + done * symbol_bytes);
    done += r.count;
  }
  wk_restore_mode(before);
}

void wcodec_scale(const void *x, uint64_t start, uint64_t count, uint64_t cols, const wcodec_lattice *lattice, void *out) {
  const wk_floats *floats = wk_current()->floats;
  const uint64_t before = wk_exact_mode();
  const uint64_t size = wk_float_size(lattice->kind);
  const wk_f32 *rows = (const wk_f32 *)lattice->rows, *columns = (const wk_f32 *)lattice->columns;
  wk_f32 piece[PIECE];
  for (uint64_t done = 0, row = 0, column = start % cols; done < count;) {
    const uint64_t left = cols - column < count - done ? cols - column : count - done, n = left < PIECE ? left : PIECE;
    wk_f32 *to = lattice->kind == WCODEC_F32 ? (wk_f32 *)out + done : piece;
    floats->scale((const wk_f32 *)x + done, n, rows[lattice->each ? row : 0], columns ? columns + column : NULL, to);
    if (lattice->kind != WCODEC_F32) floats->round(piece, n, lattice->kind, (uint8_t *)out + done * size);
    done += n, column += n;
    if (column == cols) column = 0, row++;
  }
  wk_restore_mode(before);
}

void wcodec_round(const void *x, uint64_t count, uint32_t kind, void *out) {
  const uint64_t before = wk_exact_mode();
  wk_current()->floats->round((const wk_f32 *)x, count, kind, out);
  wk_restore_mode(before);
}

int wcodec_add(void *total, const void *part, uint64_t count) {
  const uint64_t before = wk_exact_mode();
  const int bad = wk_current()->floats->add((wk_f32 *)total, (const wk_f32 *)part, count);
  wk_restore_mode(before);
  return bad;
}
