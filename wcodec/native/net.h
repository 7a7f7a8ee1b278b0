/* Running a net (spec/net.md): WIDE chunks at once, one per lane of VECTORS vectors. The file of an instruction set defines
 * LANES, VECTORS, ROWS and products of its vectors. All is exact, so that neither changes a result. */
#ifndef WCODEC_NET_H
#define WCODEC_NET_H

#include "internal.h"

typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef float floats __attribute__((vector_size(4 * LANES)));

#define WIDE (LANES * VECTORS)

/* An instruction set says what these are:
 *   pairs_times(acc, x, w)  acc + low half of x * low half of w + high half of x * high half of w, of 16-bit numbers
 *   quads_times(acc, x, w)  likewise of four 8-bit numbers: those of x from 0 to 127, those of w from -127 to 127, so that no two
 *                           products add up to more than 16 bits hold
 *   limited(x, low, high)   x, at least low and at most high
 *   ROWS                    outputs that are summed up at once: their sums, a vector of inputs and a weight fit the registers */

/* Add up `count` outputs: weights are quads or pairs of numbers, x too. */
WK_INLINE void sum_rows(int count, int quads, const int32_t *weights, const uint8_t *bias, uint32_t groups, const ints *x, ints *out) {
  ints sum[ROWS][VECTORS];
  for (int o = 0; o < count; o++)
    for (int v = 0; v < VECTORS; v++) sum[o][v] = (ints){0} + (int32_t)((const wk_u32 *)bias)[o];
  for (uint32_t i = 0; i < groups; i++)
    for (int o = 0; o < count; o++) {
      const ints weight = (ints){0} + weights[(uint64_t)o * groups + i];
      for (int v = 0; v < VECTORS; v++) {
        const ints its = x[i * VECTORS + v];
        sum[o][v] = quads ? quads_times(sum[o][v], its, weight) : pairs_times(sum[o][v], its, weight);
      }
    }
  for (int o = 0; o < count; o++)
    for (int v = 0; v < VECTORS; v++) out[o * VECTORS + v] = sum[o][v];
}

WK_INLINE void linear(int quads, const wk_net_op *op, const int32_t *weights, const ints *x, ints *packed, ints *out) {
  const uint32_t n = op->width, size = quads ? 4 : 2, groups = (n + size - 1) / size;
  const int32_t bits = 32 / size, mask = quads ? 0xFF : 0xFFFF;
  for (uint32_t i = 0; i < groups; i++)
    for (int v = 0; v < VECTORS; v++) {
      ints all = x[size * i * VECTORS + v] & mask;
      for (uint32_t j = 1; j < size; j++)
        if (size * i + j < n) all |= (x[(size * i + j) * VECTORS + v] & mask) << (int32_t)(bits * j);
      packed[i * VECTORS + v] = all;
    }
  uint32_t o = 0;
  for (; o + ROWS <= op->outputs; o += ROWS)
    sum_rows(ROWS, quads, weights + (uint64_t)o * groups, op->bias + 4 * o, groups, packed, out + o * VECTORS);
  for (; o < op->outputs; o++)
    sum_rows(1, quads, weights + (uint64_t)o * groups, op->bias + 4 * o, groups, packed, out + o * VECTORS);
}

WK_INLINE void requantise(const wk_net_op *op, ints *x) {
  const ints low = (ints){0} - (int32_t)op->low, high = (ints){0} + (int32_t)op->high;
  for (uint32_t i = 0; i < op->width; i++) {
    const int32_t shift = op->bytes[i], half = 1 << shift >> 1;
    ints *const its = x + (uint64_t)i * VECTORS;
    for (int v = 0; v < VECTORS; v++) {
      const ints y = (its[v] + half) >> shift;
      its[v] = limited(y, low, high);
    }
  }
}

/* Lanes of the levels that occur: number, and a mask for each. */
typedef struct {
  uint32_t count;
  uint8_t level[WIDE];
  ints mask[WIDE][VECTORS];
} wk_present;

static void find_levels(wk_present *p, const uint8_t *level) {
  uint8_t number[256];
  p->count = 0;
  for (int l = 0; l < WIDE; l++) {
    uint32_t at = 0;
    while (at < p->count && p->level[at] != level[l]) at++;
    if (at == p->count) p->level[p->count++] = level[l];
    number[l] = (uint8_t)at;
  }
  for (uint32_t at = 0; at < p->count; at++)
    for (int l = 0; l < WIDE; l++) ((int32_t *)p->mask[at])[l] = number[l] == at ? -1 : 0;
}

WK_INLINE void gate(const wk_net_op *op, const wk_present *p, ints *x) {
  for (uint32_t i = 0; i < op->width; i++) {
    const uint8_t *factors = op->bytes + i;
    ints all[VECTORS], *const its = x + (uint64_t)i * VECTORS;
    for (int v = 0; v < VECTORS; v++) all[v] = (ints){0} + (int32_t)(int8_t)factors[(uint64_t)p->level[0] * op->width];
    for (uint32_t at = 1; at < p->count; at++)
      for (int v = 0; v < VECTORS; v++) {
        const ints other = (ints){0} + (int32_t)(int8_t)factors[(uint64_t)p->level[at] * op->width];
        all[v] = (other & p->mask[at][v]) | (all[v] & ~p->mask[at][v]);
      }
    for (int v = 0; v < VECTORS; v++) its[v] *= all[v];
  }
}

/* Run all operations. x: two buffers of the widest op, the first of which holds the input; returns the one with the result. */
static ints *run_ops(const wk_net *net, const wk_present *p, ints *x, ints *other, ints *saved, ints *packed) {
  const int32_t *weights = net->weights;
  for (uint32_t i = 0; i < net->count; i++) {
    const wk_net_op *op = &net->ops[i];
    if (op->code == WK_LINEAR) {
      if (op->group == 4)
        linear(1, op, weights, x, packed, other);
      else
        linear(0, op, weights, x, packed, other);
      weights += (uint64_t)op->outputs * ((op->width + op->group - 1) / op->group);
      ints *swap = x;
      x = other, other = swap;
    } else if (op->code == WK_REQUANTISE) {
      requantise(op, x);
    } else if (op->code == WK_GATE) {
      gate(op, p, x);
    } else if (op->code == WK_SAVE) {
      memcpy(saved, x, (uint64_t)op->width * VECTORS * sizeof(ints));
    } else {
      for (uint64_t j = 0; j < op->width; j++)
        for (int v = 0; v < VECTORS; v++) x[j * VECTORS + v] += saved[j * VECTORS + v] << (int32_t)op->bytes[j];
    }
  }
  return x;
}

/* Chunks first ... first + n - 1 (n at most WIDE) of a matrix between its place and lanes, a run of columns at a time. */
#define each_run(first, n, cols, body)                                            \
  for (uint64_t lane = 0, chunk = first; lane < n;) {                             \
    const uint64_t column = chunk % cols, place = chunk / cols * 16 * cols + column; \
    const uint64_t run = n - lane < cols - column ? n - lane : cols - column;     \
    body;                                                                         \
    lane += run, chunk += run;                                                    \
  }

static void run_net(const wk_net *net, const wk_f32 *latents, uint64_t chunks, uint64_t cols, const uint8_t *levels,
                    uint8_t level, uint8_t *scratch, wk_f32 *out) {
  ints *input = (ints *)(void *)scratch, *x = input + 16 * VECTORS, *other = x + (uint64_t)net->widest * VECTORS;
  ints *saved = other + (uint64_t)net->widest * VECTORS, *packed = saved + (uint64_t)net->widest * VECTORS;
  floats result[16][VECTORS], given[16][VECTORS];
  wk_present present;
  uint8_t of[WIDE];
  memset(of, level, WIDE);
  memset(given, 0, sizeof given);
  find_levels(&present, of);
  for (uint64_t first = 0; first < chunks; first += WIDE) {
    const uint64_t n = chunks - first < WIDE ? chunks - first : WIDE;
    each_run(first, n, cols, {
      for (int j = 0; j < 16; j++) memcpy((float *)given[j] + lane, latents + place + j * cols, run * 4);
      if (levels) memcpy(of + lane, levels + column, run);
    })
    if (levels) find_levels(&present, of);
    for (int j = 0; j < 16 * VECTORS; j++) {
      input[j] = __builtin_convertvector(((floats *)given)[j], ints);
      x[j] = limited(input[j], (ints){0} - (int32_t)net->clip, (ints){0} + (int32_t)net->clip);
    }
    const ints *found = run_ops(net, &present, x, other, saved, packed);
    for (int j = 0; j < 16 * VECTORS; j++)
      ((floats *)result)[j] = __builtin_convertvector((input[j] << (int32_t)net->shift) + found[j], floats);
    each_run(first, n, cols, {
      for (int j = 0; j < 16; j++) memcpy(out + place + j * cols, (float *)result[j] + lane, run * 4);
    })
  }
}

#define WK_NET_OF(isa)                                                                                                      \
  void wk_net_##isa(const wk_net *net, const wk_f32 *latents, uint64_t chunks, uint64_t cols, const uint8_t *levels,         \
                    uint8_t level, uint8_t *scratch, wk_f32 *out) {                                                          \
    run_net(net, latents, chunks, cols, levels, level, scratch, out);                                                        \
  }

#endif
