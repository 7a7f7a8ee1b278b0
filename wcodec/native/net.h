/* Running a net (spec/net.md): WIDE chunks at once, BLOCK neighbouring numbers of each in the lanes of VECTORS vectors. The file of an
 * instruction set defines LANES, SUMS and what to do with its vectors. All is exact, so that neither changes a result. */
#ifndef WCODEC_NET_H
#define WCODEC_NET_H

#include "internal.h"

typedef int32_t ints __attribute__((vector_size(4 * LANES), may_alias));
typedef int32_t quad __attribute__((vector_size(16), may_alias));
typedef float floats __attribute__((vector_size(16), aligned(1), may_alias));

enum { WIDE = WK_NET_CHUNKS, BLOCK = WK_NET_BLOCK, VECTORS = BLOCK / LANES };

/* An instruction set says what these are:
 *   pairs_times(acc, x, w)  acc + low half of x * low half of w + high half of x * high half of w, of 16-bit numbers
 *   quads_times(acc, x, w)  likewise of four 8-bit numbers: those of x from 0 to 127, those of w from -127 to 127, so that no two
 *                           products add up to more than 16 bits hold
 *   limited(x, low, high)   x, at least low and at most high
 *   narrowed(x, size, out, stride)  writes the numbers of two chunks, that fit in `size` bytes each, 1 or 2
 *   SUMS                    vectors that are summed up at once: these, an input and weights fit the registers */

typedef struct {
  ints low, high;
} limits;

static limits limits_of(const wk_net_op *op) { return (limits){(ints){0} - (int32_t)op->low, (ints){0} + (int32_t)op->high}; }

/* Sums of some blocks of outputs, some chunks at once. x: quads or pairs of inputs, for each chunk. */
WK_INLINE void sum_blocks(int blocks, int quads, const wk_net_op *op, uint32_t first, const wk_u32 *x, ints *out) {
  const int n = blocks * VECTORS, chunks = SUMS / n < 8 ? SUMS / n : 8; /* each has an address */
  const uint64_t groups = op->groups;
  const ints *table = (const ints *)(op->table + first * (groups + 2));
  const limits l = limits_of(op);
  for (int c = 0; c < WIDE; c += chunks, x += chunks * groups) {
    ints sum[SUMS];
    const ints *weights = table + 2 * n;
    for (int k = 0; k < chunks; k++)
      for (int v = 0; v < n; v++) sum[k * n + v] = table[v];
    for (uint64_t i = 0; i < groups; i++, weights += n)
      for (int k = 0; k < chunks; k++) {
        const ints its = (ints){0} + (int32_t)x[k * groups + i];
        for (int v = 0; v < n; v++)
          sum[k * n + v] = quads ? quads_times(sum[k * n + v], its, weights[v]) : pairs_times(sum[k * n + v], its, weights[v]);
      }
    for (int k = 0; k < chunks; k++)
      for (int v = 0; v < n; v++) {
        const ints y = sum[k * n + v] >> table[n + v];
        out[v / VECTORS * WIDE * VECTORS + (c + k) * VECTORS + v % VECTORS] = limited(y, l.low, l.high);
      }
  }
}

static void linear(const wk_net_op *op, uint32_t first, uint32_t outputs, const wk_u32 *x, ints *out) {
  if (op->group == 4 && outputs == WK_NET_MANY)
    sum_blocks(WK_NET_MANY / BLOCK, 1, op, first, x, out);
  else if (op->group == 4)
    sum_blocks(1, 1, op, first, x, out);
  else if (outputs == WK_NET_MANY)
    sum_blocks(WK_NET_MANY / BLOCK, 0, op, first, x, out);
  else
    sum_blocks(1, 0, op, first, x, out);
}

/* A block of numbers from `first` on: requantised, after what `code` and `narrow` say. */
WK_INLINE void simple(int code, int narrow, const wk_net_op *op, uint32_t first, const uint8_t *level, int step, const ints *saved,
                      ints *x) {
  const limits l = limits_of(op);
  const ints *table = (const ints *)(op->table + first), *const half = table, *const shift = table + op->width / LANES;
  for (int c = 0; c < WIDE;) {
    const uint64_t row = 2 + (code == WK_GATE ? level[c] : 0);
    const ints *const its = table + row * (op->width / LANES);
    for (const int end = c + step; c < end; c++, x += VECTORS, saved += VECTORS)
      for (int v = 0; v < VECTORS; v++) {
        ints y = x[v];
        if (code == WK_GATE && narrow) y = pairs_times((ints){0}, y, its[v]);
        if (code == WK_GATE && !narrow) y *= its[v];
        if (code == WK_RESIDUAL) y += saved[v] << its[v];
        y = (y + half[v]) >> shift[v];
        x[v] = limited(y, l.low, l.high);
      }
  }
}

/* Do what stands between two linear operations with a block. step: chunks in a row that have a level. */
static void run_simple(const wk_net_op *op, const wk_net_op *end, uint32_t first, const uint8_t *level, int step, ints *saved, ints *x) {
  ints *const kept = saved + (uint64_t)first * WIDE / LANES;
  for (; op < end; op++) {
    if (op->code == WK_REQUANTISE)
      simple(WK_REQUANTISE, 0, op, first, level, WIDE, kept, x);
    else if (op->code == WK_GATE && op->narrow)
      simple(WK_GATE, 1, op, first, level, step, kept, x);
    else if (op->code == WK_GATE)
      simple(WK_GATE, 0, op, first, level, step, kept, x);
    else if (op->code == WK_RESIDUAL)
      simple(WK_RESIDUAL, 0, op, first, level, WIDE, kept, x);
    else
      for (int i = 0; i < WIDE * VECTORS; i++) kept[i] = x[i];
  }
}

/* Write a block of inputs. */
static void pack(const wk_net_op *op, uint32_t first, const ints *x, uint8_t *out) {
  const uint64_t stride = 4ull * op->groups;
  if (op->group == 4)
    for (int c = 0; c < WIDE; c += 2) narrowed(x + c * VECTORS, 1, out + c * stride + first, stride);
  else
    for (int c = 0; c < WIDE; c += 2) narrowed(x + c * VECTORS, 2, out + c * stride + 2 * first, stride);
}

/* Run all operations on x, a block that the last one leaves there. packed: two times the inputs of a linear operation. */
static void run_ops(const wk_net *net, const uint8_t *level, int step, uint8_t *const *packed, ints *saved, ints *x) {
  const wk_net_op *op = net->ops, *const end = op + net->count, *from = NULL;
  for (int turn = 0;; turn ^= 1) {
    const wk_net_op *to = op;
    while (to < end && to->code != WK_LINEAR) to++;
    const uint32_t outputs = from ? (from->outputs + BLOCK - 1) / BLOCK * BLOCK : BLOCK;
    for (uint32_t first = 0, n; first < outputs; first += n) {
      n = outputs - first < WK_NET_MANY ? BLOCK : WK_NET_MANY;
      if (from) linear(from, first, n, (const wk_u32 *)packed[turn], x);
      for (uint32_t b = 0; b < n; b += BLOCK) {
        ints *const its = x + b * WIDE / LANES;
        run_simple(op, to, first + b, level, step, saved, its);
        if (to < end) pack(to, first + b, its, packed[turn ^ 1]);
      }
    }
    if (to == end) return;
    from = to, op = to + 1;
  }
}

#ifdef __clang__
#define four_of(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define four_of(a, b, i, j, k, l) __builtin_shuffle(a, b, (quad){i, j, k, l})
#endif

WK_INLINE void transpose(quad *x) {
  const quad a = four_of(x[0], x[1], 0, 4, 1, 5), b = four_of(x[0], x[1], 2, 6, 3, 7);
  const quad c = four_of(x[2], x[3], 0, 4, 1, 5), d = four_of(x[2], x[3], 2, 6, 3, 7);
  x[0] = four_of(a, c, 0, 1, 4, 5), x[1] = four_of(a, c, 2, 3, 6, 7);
  x[2] = four_of(b, d, 0, 1, 4, 5), x[3] = four_of(b, d, 2, 3, 6, 7);
}

/* 16 rows of latents to 16 integers of every chunk. */
static void read_chunks(const wk_f32 *in, uint64_t stride, quad *out) {
  for (int c = 0; c < WIDE; c += 4)
    for (int j = 0; j < 4; j++) {
      quad x[4];
      for (int k = 0; k < 4; k++) x[k] = __builtin_convertvector(*(const floats *)(in + (4 * j + k) * stride + c), quad);
      transpose(x);
      for (int k = 0; k < 4; k++) out[4 * (c + k) + j] = x[k];
    }
}

/* And back, latent * 2^shift + x. */
static void write_chunks(const quad *latent, const quad *x, int32_t shift, wk_f32 *out, uint64_t stride) {
  for (int c = 0; c < WIDE; c += 4)
    for (int j = 0; j < 4; j++) {
      quad y[4];
      for (int k = 0; k < 4; k++) y[k] = (latent[4 * (c + k) + j] << shift) + x[4 * (c + k) + j];
      transpose(y);
      for (int k = 0; k < 4; k++) *(floats *)(out + (4 * j + k) * stride + c) = __builtin_convertvector(y[k], floats);
    }
}

/* Chunks first ... first + n - 1 (n at most WIDE) of a matrix between its place and lanes, a run of columns at a time. */
#define each_run(first, n, cols, body)                                          \
  for (uint64_t lane = 0, run; lane < n; lane += run) {                         \
    const uint64_t chunk = first + lane, at = chunk / cols * 16 * cols + chunk % cols; \
    run = n - lane < cols - chunk % cols ? n - lane : cols - chunk % cols;      \
    body;                                                                       \
  }

static void run_net(const wk_net *net, const wk_f32 *latents, uint64_t chunks, uint64_t cols, const uint8_t *levels,
                    uint8_t level, uint8_t *scratch, wk_f32 *out) {
  const uint64_t room = (uint64_t)net->widest * WIDE;
  uint8_t *const packed[2] = {scratch, scratch + 2 * room};
  ints *saved = (ints *)(void *)(scratch + 4 * room), latent[WIDE * VECTORS], x[WK_NET_MANY * WIDE / LANES];
  wk_f32 edge[16 * WIDE];
  uint8_t of[WIDE];
  const ints high = (ints){0} + (int32_t)net->clip, low = -high;
  memset(of, level, WIDE);
  memset(edge, 0, sizeof edge);
  for (uint64_t first = 0; first < chunks; first += WIDE) {
    const uint64_t n = chunks - first < WIDE ? chunks - first : WIDE, column = first % cols, place = first / cols * 16 * cols + column;
    const int inside = n == WIDE && column + WIDE <= cols; /* of a band */
    if (!inside) each_run(first, n, cols, for (int j = 0; j < 16; j++) memcpy(edge + j * WIDE + lane, latents + at + j * cols, run * 4))
    if (levels) each_run(first, n, cols, memcpy(of + lane, levels + at % cols, run))
    read_chunks(inside ? latents + place : edge, inside ? cols : WIDE, (quad *)latent);
    for (int i = 0; i < WIDE * VECTORS; i++) x[i] = limited(latent[i], low, high);
    run_ops(net, of, levels ? 1 : WIDE, packed, saved, x);
    write_chunks((quad *)latent, (quad *)x, (int32_t)net->shift, inside ? out + place : edge, inside ? cols : WIDE);
    if (!inside) each_run(first, n, cols, for (int j = 0; j < 16; j++) memcpy(out + at + j * cols, edge + j * WIDE + lane, run * 4))
  }
}

#define WK_NET_OF(isa)                                                                                                      \
  void wk_net_##isa(const wk_net *net, const wk_f32 *latents, uint64_t chunks, uint64_t cols, const uint8_t *levels,         \
                    uint8_t level, uint8_t *scratch, wk_f32 *out) {                                                          \
    run_net(net, latents, chunks, cols, levels, level, scratch, out);                                                        \
  }

#endif
