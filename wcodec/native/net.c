/* Running a net: what callers see, and vectors that every machine has. */
#define LANES 4
#define VECTORS 2
#define ROWS 1
#define half_of(x) ((x) << 16 >> 16)
#define pairs_times(acc, x, w) ((acc) + half_of(x) * half_of(w) + ((x) >> 16) * ((w) >> 16))
#define byte_of(x, i) ((x) << (24 - 8 * (i)) >> 24)
#define quad_of(x, w, i) (byte_of(x, i) * byte_of(w, i))
#define quads_times(acc, x, w) ((acc) + quad_of(x, w, 0) + quad_of(x, w, 1) + quad_of(x, w, 2) + quad_of(x, w, 3))
#define choose(m, a, b) (((a) & (m)) | ((b) & ~(m)))
#define limited(x, low, high) choose((x) < (low), (low), choose((x) > (high), (high), (x)))

#include <stdint.h>

#include "net.h"

WK_NET_OF(scalar)

enum { LARGEST_WIDE = 64 }; /* chunks that any instruction set runs at once */

static uint32_t u16_at(const uint8_t *data) { return data[0] | (uint32_t)data[1] << 8; }

/* Read the next operation, of bytes that are known to be good; returns where it ends. */
static const uint8_t *read_op(const uint8_t *at, uint32_t width, uint32_t levels, wk_net_op *op) {
  *op = (wk_net_op){.code = *at++, .width = width, .outputs = width};
  if (op->code == WK_LINEAR) {
    op->outputs = u16_at(at);
    op->bytes = at + 2;
    op->bias = op->bytes + (uint64_t)op->outputs * width;
    return op->bias + 4 * op->outputs;
  }
  if (op->code == WK_REQUANTISE) {
    op->low = u16_at(at);
    op->high = u16_at(at + 2);
    at += 4;
  }
  op->bytes = at;
  return op->code == WK_SAVE ? at : at + (op->code == WK_GATE ? (uint64_t)levels * width : width);
}

/* Numbers that hold the weights of an operation. */
static uint64_t groups_of(const wk_net_op *op) {
  return op->code == WK_LINEAR ? (uint64_t)op->outputs * ((op->width + op->group - 1) / op->group) : 0;
}

/* Read a net. Returns how many numbers hold its weights. */
static uint64_t open_net(wk_net *net, const uint8_t *data) {
  uint64_t groups = 0;
  uint32_t width = 16;
  int positive = 0, saved = 0; /* whether no number, or none of those kept, can be negative */
  const uint8_t *at = data + 4;
  net->clip = data[0], net->shift = data[1], net->count = data[3], net->widest = 16;
  for (uint32_t i = 0; i < net->count; i++) {
    wk_net_op *op = &net->ops[i];
    at = read_op(at, width, data[2], op);
    op->group = positive ? 4 : 2;
    groups += groups_of(op);
    if (op->code == WK_REQUANTISE)
      positive |= op->low == 0;
    else if (op->code == WK_SAVE)
      saved = positive;
    else
      positive &= saved && op->code == WK_RESIDUAL;
    width = op->outputs;
    if (width > net->widest) net->widest = width;
  }
  return groups;
}

/* Write the weights as numbers of several. */
static void spread_weights(const wk_net *net, int32_t *out) {
  for (uint32_t i = 0; i < net->count; i++) {
    const wk_net_op *op = &net->ops[i];
    const uint32_t bits = 32 / op->group, mask = 0xFFFFFFFF >> (32 - bits);
    for (uint64_t o = 0; op->code == WK_LINEAR && o < op->outputs; o++)
      for (uint32_t j = 0; j < op->width; j += op->group) {
        const int8_t *w = (const int8_t *)op->bytes + o * op->width + j;
        uint32_t all = 0;
        for (uint32_t k = 0; k < op->group && j + k < op->width; k++) all |= ((uint32_t)w[k] & mask) << bits * k;
        *out++ = (int32_t)all;
      }
  }
}

uint64_t wcodec_net_scratch(const uint8_t *data) {
  wk_net net;
  const uint64_t groups = open_net(&net, data);
  return 2 * WK_LINE + 4 * groups + ((uint64_t)net.widest * 4 + 16) * LARGEST_WIDE * 4;
}

void wcodec_run_net(const uint8_t *data, const void *latents, uint64_t chunks, uint64_t cols, const uint8_t *levels,
                    uint32_t level, uint8_t *scratch, void *out) {
  wk_net net;
  const uint64_t groups = open_net(&net, data);
  uint8_t *aligned = (uint8_t *)(((uintptr_t)scratch + WK_LINE - 1) & ~(uintptr_t)(WK_LINE - 1));
  spread_weights(&net, (int32_t *)(void *)aligned);
  net.weights = (const int32_t *)(const void *)aligned;
  wk_current()->net(&net, (const wk_f32 *)latents, chunks, cols, levels, (uint8_t)level,
                    aligned + (4 * groups + WK_LINE - 1) / WK_LINE * WK_LINE, (wk_f32 *)out);
}
