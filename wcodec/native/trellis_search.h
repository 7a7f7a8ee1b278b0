/* The Viterbi search of a trellis (wcodec/coding/trellis_search.py): LANES columns at once, one per lane of a vector. The
 * file of an instruction set defines LANES and the five operations below on its vectors. Lanes never meet, so their number
 * changes no result; every float operation is one of float32, in the order of the source. */
#ifndef WCODEC_TRELLIS_SEARCH_H
#define WCODEC_TRELLIS_SEARCH_H

#include "internal.h"

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

/* An instruction set says what these are:
 *   mask                      what a comparison gives
 *   less(a, b)                a < b
 *   choose(m, a, b)           m ? b : a, of floats; choose_int of ints
 *   mark(x, m, bit)           m ? x | bit : x
 *   look_up(table, index)     table[index], of floats; look_up_word of words */

WK_INLINE ints clamp(ints x, int32_t low, int32_t high) {
  const ints a = x - (ints){0}, lowest = a * 0 + low, highest = a * 0 + high;
  const ints raised = choose_int(more_int(lowest, a), a, lowest);
  return choose_int(more_int(raised, highest), raised, highest);
}

/* What a branch costs: squared distance of x from the point 2 (i + step) + z0, weighed, and the symbol's own cost. */
WK_INLINE floats branch_cost(const wcodec_search *job, const float *costs, const float *shifts, floats x, floats weight,
                             floats point, ints i, int step, int weighed) {
  const ints index = clamp(i + (step - job->first), 0, (int32_t)job->entries - 1);
  floats d = x - (point + (float)(2 * step));
  if (shifts) d = d - look_up(shifts, index);
  floats cost = d * d;
  if (weighed) cost = cost * weight;
  return cost + look_up(costs, index);
}

/* The cheapest symbol of either parity z1 that may follow z0: m[z1] is its cost; returns them, that of z1 = 1 in the upper
 * half. They are two of the four nearest, i - 1 ... i + 2. */
WK_INLINE words branches(const wcodec_search *job, const float *costs, const float *shifts, int z0, floats x, floats weight,
                         int weighed, floats m[2]) {
  const floats half = (x - (float)z0) * 0.5f;
  ints i = __builtin_convertvector(half, ints);
  i = choose_int(less(half, __builtin_convertvector(i, floats)), i, i - 1);
  const floats point = __builtin_convertvector(2 * i + z0, floats);
  floats c[4];
  for (int k = 0; k < 4; k++) c[k] = branch_cost(job, costs, shifts, x, weight, point, i, k - 1, weighed);
  const mask far = less(c[2], c[0]), near = less(c[3], c[1]); /* i - 1 or i + 1; i or i + 2 */
  const floats outer = choose(far, c[0], c[2]), inner = choose(near, c[1], c[3]);
  const ints other = choose_int(far, i - 1, i + 1), own = choose_int(near, i, i + 2);
  const mask odd = more_int(i & 1, i * 0);
  m[0] = choose(odd, inner, outer);
  m[1] = choose(odd, outer, inner);
  const ints even_symbol = choose_int(odd, own, other), odd_symbol = choose_int(odd, other, own);
  return ((words)even_symbol & 0xFFFF) | (words)odd_symbol << 16;
}

/* One step of all states: after[s] = the cheaper of its two predecessors with their branches, the one of z1 = 0 in a tie.
 * Returns nothing; bit s mod 32 of kept[s / 32] tells which. Costs are kept small by that of state 0, which is never
 * infinite. */
WK_INLINE void advance(int v, const floats *before, floats *after, const floats m[4], words *kept) {
  const uint32_t half = 1u << (v - 1), h0 = wk_polynomials[v][0], h1 = wk_polynomials[v][1];
  const floats base = before[0];
  floats b[4];
  for (int k = 0; k < 4; k++) b[k] = m[k] - base;
  for (uint32_t s = 0; s < 2 * half; s += 32) {
    words bits = (words){0};
    const uint32_t count = 2 * half < 32 ? 2 * half : 32;
    for (uint32_t j = 0; j < count; j++) {
      const uint32_t z0 = (s + j) >> (v - 1), r = (s + j) ^ (z0 ? h0 : 0), p = (r & (half - 1)) << 1 | z0;
      const uint32_t q = ((r ^ h1) & (half - 1)) << 1 | z0;
      const floats even = before[p] + b[2 * z0], odd = before[q] + b[2 * z0 + 1];
      const mask cheaper = less(odd, even);
      after[s + j] = choose(cheaper, even, odd);
      bits = mark(bits, cheaper, 1u << j);
    }
    kept[s >> 5] = bits;
  }
}

/* Follow the survivors back from the cheapest end, and write the symbols. */
WK_INLINE void trace(int v, const wcodec_search *job, const floats *ends, const words *kept, const words *picks,
                     uint64_t column, uint32_t valid, void *out, uint64_t *counts, int64_t *sums, const float *x) {
  const uint32_t half = 1u << (v - 1), per_step = v > 5 ? 1u << (v - 5) : 1;
  floats least = ends[0];
  ints state = (ints){0};
  for (uint32_t s = 1; s < 2 * half; s++) {
    const mask cheaper = less(ends[s], least);
    least = choose(cheaper, least, ends[s]);
    state = choose_int(cheaper, state, state * 0 + (int32_t)s);
  }
  ints lane;
  for (int k = 0; k < LANES; k++) lane[k] = k;
  for (uint64_t t = job->rows; t-- > 0;) {
    const words s = (words)state, *row = kept + t * per_step;
    const words word = v > 5 ? look_up_word((const uint32_t *)row, (ints)(s >> 5) * LANES + lane) : row[0];
    const words z1 = word >> (s & 31) & 1, z0 = s >> (v - 1);
    const words even = picks[2 * t], odd = picks[2 * t + 1], pick = (even & ~-z0) | (odd & -z0);
    const ints symbol = (ints)(pick << (16 - 16 * z1)) >> 16;
    state = (ints)(((s ^ (-z0 & wk_polynomials[v][0]) ^ (-z1 & wk_polynomials[v][1])) & (half - 1)) << 1 | z0);
    const uint64_t at = t * job->stride + column;
    const ints value = symbol + (int32_t)job->zero;
    if (job->bytes == 1)
      for (uint32_t k = 0; k < valid; k++) ((uint8_t *)out)[at + k] = (uint8_t)value[k];
    else
      for (uint32_t k = 0; k < valid; k++) ((wk_u16 *)out)[at + k] = (uint16_t)value[k];
    if (counts) {
      const ints index = clamp(symbol - job->first, 0, (int32_t)job->entries - 1);
      const uint32_t table = job->classes ? 2 * job->classes[t] : 0;
      for (uint32_t k = 0; k < valid; k++) {
        const uint64_t entry = (table + z0[k]) * (uint64_t)job->entries + (uint64_t)index[k];
        const float d = x[t * job->cols + column + k] - (float)(2 * symbol[k] + (int32_t)z0[k]);
        counts[entry] += 1;
        sums[entry] += (int64_t)(d * 65536.0f);
      }
    }
  }
}

WK_INLINE floats take(const float *row, uint32_t valid) {
  floats x = (floats){0};
  if (valid == LANES)
    memcpy(&x, row, sizeof x);
  else
    for (uint32_t k = 0; k < valid; k++) x[k] = row[k];
  return x;
}

/* Search the columns from `column` on. scratch: as wcodec_search_scratch says, aligned to WK_LINE. */
WK_INLINE void search_group(int v, int weighed, const wcodec_search *job, const float *x, const float *weights, uint64_t column,
                            uint32_t valid, void *out, uint64_t *counts, int64_t *sums, uint8_t *scratch) {
  const uint32_t per_step = v > 5 ? 1u << (v - 5) : 1, states = 1u << v;
  floats *before = (floats *)scratch, *after = before + states;
  words *kept = (words *)(after + states), *picks = kept + job->rows * per_step;
  const floats lowest = (floats){0} + job->low, highest = (floats){0} + job->high;
  for (uint32_t s = 0; s < states; s++) before[s] = (floats){0} + (s ? __builtin_inff() : 0.0f);
  for (uint64_t t = 0; t < job->rows; t++) {
    floats u = take(x + t * job->cols + column, valid);
    u = choose(less(u, lowest), u, lowest);
    u = choose(less(highest, u), u, highest);
    const floats weight = weighed ? take(weights + t * job->cols + column, valid) : u;
    const uint64_t table = (job->classes ? 2 * job->classes[t] : 0) * (uint64_t)job->entries;
    floats m[4];
    for (int z0 = 0; z0 < 2; z0++) {
      const uint64_t at = table + (uint64_t)z0 * job->entries;
      picks[2 * t + z0] = branches(job, job->costs + at, job->shifts ? job->shifts + at : NULL, z0, u, weight, weighed, m + 2 * z0);
    }
    advance(v, before, after, m, kept + t * per_step);
    floats *last = before;
    before = after;
    after = last;
  }
  trace(v, job, before, kept, picks, column, valid, out, counts, sums, x);
}

WK_INLINE void search_states(int v, const wcodec_search *job, const float *x, const float *weights, void *out,
                             uint64_t *counts, int64_t *sums, uint8_t *scratch) {
  for (uint64_t column = 0; column < job->cols; column += LANES) {
    const uint32_t valid = job->cols - column < LANES ? (uint32_t)(job->cols - column) : LANES;
    if (weights)
      search_group(v, 1, job, x, weights, column, valid, out, counts, sums, scratch);
    else
      search_group(v, 0, job, x, weights, column, valid, out, counts, sums, scratch);
  }
}

/* A function of its own for every number of states: all shifts and loops are constant. */
#define SEARCH(isa, v)                                                                                                     \
  static void search_##isa##_##v(const wcodec_search *job, const float *x, const float *weights, void *out,                \
                                 uint64_t *counts, int64_t *sums, uint8_t *scratch) {                                      \
    search_states(v, job, x, weights, out, counts, sums, scratch);                                                         \
  }
#define WK_SEARCH_OF(isa)                                                                                                  \
  SEARCH(isa, 2) SEARCH(isa, 3) SEARCH(isa, 4) SEARCH(isa, 5) SEARCH(isa, 6) SEARCH(isa, 7) SEARCH(isa, 8)                 \
  const wk_search wk_search_##isa[9] = {NULL, NULL, search_##isa##_2, search_##isa##_3, search_##isa##_4,                  \
                                        search_##isa##_5, search_##isa##_6, search_##isa##_7, search_##isa##_8};
#endif
