/* Uniform quantisation, rounding and sums. */
#include "fuzz.h"

/* Finite floats of every size, zeros and subnormals among them. */
static float finite_float(void) {
  uint32_t bits = (uint32_t)any();
  float x;
  if ((bits & 0x7F800000) == 0x7F800000) bits ^= 0x40000000;
  if (below(10) == 0) bits &= 0x807FFFFF;
  if (below(20) == 0) bits &= 0x80000000;
  memcpy(&x, &bits, 4);
  return x;
}

static float *some(uint64_t count) {
  float *x = get(count * 4);
  for (uint64_t i = 0; i < count; i++) x[i] = finite_float();
  return x;
}

/* A window of a matrix with one step for the tensor, for rows, columns or groups. */
static wcodec_grid make_grid(void) {
  wcodec_grid g;
  const uint64_t cols = 1 + below(below(2) ? 20 : 3000), rows = 1 + below(6), kind = below(4), all = rows * cols;
  g.cols = cols;
  g.group = kind < 2 ? cols : kind == 2 ? 1 : 1 + below(2 * (uint32_t)cols);
  g.stride = kind == 0 || kind == 2 ? 0 : (cols + g.group - 1) / g.group;
  g.start = below((uint32_t)all + 1);
  g.count = below((uint32_t)(all - g.start) + 1);
  g.zero = below(below(2) ? 1u << 24 : 128);
  g.levels = g.zero + 1 + below(below(2) ? 1u << 24 : 128);
  return g;
}

/* The number of the step of element i of the window among those of the window. */
static uint64_t step_of(const wcodec_grid *g, uint64_t i) {
  const uint64_t first = g->stride ? g->start / g->cols * g->stride + g->start % g->cols / g->group : 0;
  const uint64_t at = g->start + i;
  return at / g->cols * g->stride + at % g->cols / g->group - first;
}

static uint32_t symbol_at(const uint8_t *symbols, uint32_t bytes, uint64_t i) {
  uint32_t symbol = 0;
  memcpy(&symbol, symbols + i * bytes, bytes);
  return symbol;
}

/* Dequantise as a loop does, with every instruction set; quantise to symbols in range, alike. */
void try_grid(void) {
  const wcodec_grid g = make_grid();
  const uint32_t bytes = g.levels > 65536 || below(4) == 0 ? 4 : g.levels > 256 || below(2) ? 2 : 1;
  const uint32_t kind = below(4), size = kind == WCODEC_F64 ? 8 : kind == WCODEC_F32 ? 4 : 2;
  uint64_t steps_needed = 0;
  for (uint64_t i = 0; i < g.count; i++) steps_needed = step_of(&g, i) >= steps_needed ? step_of(&g, i) + 1 : steps_needed;
  float *steps = some(steps_needed), *value = get(g.count * 4), *x = some(g.count);
  uint8_t *symbols = get(g.count * bytes), *out = get(g.count * size), *rounded = get(g.count * size);
  int outside = 0;
  for (uint64_t i = 0; i < g.count; i++) {
    const uint32_t symbol = below(500) ? below(g.levels) : (uint32_t)any() >> (32 - 8 * bytes);
    memcpy(symbols + i * bytes, &symbol, bytes);
    outside |= symbol >= g.levels;
    value[i] = steps[step_of(&g, i)] * (float)(int32_t)(symbol - g.zero);
  }
  wcodec_set_isa(WCODEC_SCALAR);
  if (kind == WCODEC_F32) memcpy(rounded, value, g.count * 4);
  else wcodec_round(value, g.count, kind, rounded);
  uint8_t *first = get(g.count * bytes), *again = get(g.count * bytes);
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    wcodec_set_isa(isa);
    check(wcodec_dequantise(&g, symbols, bytes, steps, kind, out) == outside, "symbols");
    check(outside || wcodec_same(out, rounded, g.count * size), "dequantised values");
    wcodec_quantise(&g, x, steps, bytes, isa ? again : first);
    check(!isa || wcodec_same(first, again, g.count * bytes), "quantised symbols");
    for (uint64_t i = 0; i < g.count; i++) check(symbol_at(first, bytes, i) < g.levels, "the range of symbols");
  }
  free(steps);
  free(value);
  free(x);
  free(symbols);
  free(out);
  free(rounded);
  free(first);
  free(again);
}

/* Round any bits, and add any to finite numbers: alike with every instruction set. */
void try_sums(void) {
  const uint32_t count = below(600), kind = 1 + below(3), size = kind == WCODEC_F64 ? 8 : 2;
  float *x = get(count * 4), *total = some(count), *sum = get(count * 4), *again = get(count * 4);
  uint8_t *rounded = get(count * size), *other = get(count * size);
  int bad = 0;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t bits = below(2) ? (uint32_t)any() : 0x7F800000 | below(2) << 31;
    x[i] = finite_float();
    if (below(300) == 0) memcpy(x + i, &bits, 4);
    memcpy(&bits, x + i, 4);
    bad |= (bits & 0x7F800000) == 0x7F800000;
  }
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    wcodec_set_isa(isa);
    wcodec_round(x, count, kind, isa ? other : rounded);
    check(!isa || wcodec_same(rounded, other, count * size), "rounded numbers");
    memcpy(isa ? again : sum, total, count * 4);
    check(wcodec_add(isa ? again : sum, x, count) == bad, "finite numbers");
    check(!isa || bad || wcodec_same(sum, again, count * 4), "sums");
  }
  free(x);
  free(total);
  free(sum);
  free(again);
  free(rounded);
  free(other);
}
