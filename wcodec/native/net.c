/* Running a net: what callers see, and vectors that every machine has. */
#define LANES 4
#define SUMS 16
#define half_of(x) ((x) << 16 >> 16)
#define pairs_times(acc, x, w) ((acc) + half_of(x) * half_of(w) + ((x) >> 16) * ((w) >> 16))
#define byte_of(x, i) ((x) << (24 - 8 * (i)) >> 24)
#define quad_of(x, w, i) (byte_of(x, i) * byte_of(w, i))
#define quads_times(acc, x, w) ((acc) + quad_of(x, w, 0) + quad_of(x, w, 1) + quad_of(x, w, 2) + quad_of(x, w, 3))
#define choose(m, a, b) (((a) & (m)) | ((b) & ~(m)))
#define limited(x, low, high) choose((x) < (low), (low), choose((x) > (high), (high), (x)))
#define narrowed(x, size, out, stride) narrow((const int32_t *)(x), size, out, stride)

#include "internal.h"

WK_INLINE void narrow(const int32_t *x, int size, uint8_t *out, uint64_t stride) {
  for (int i = 0; i < 2 * WK_NET_BLOCK; i++) memcpy(out + i / WK_NET_BLOCK * stride + i % WK_NET_BLOCK * size, x + i, size);
}

#include "net.h"

WK_NET_OF(scalar)

static uint32_t u16_at(const uint8_t *data) { return data[0] | (uint32_t)data[1] << 8; }

static uint32_t rounded(uint32_t width) { return (width + BLOCK - 1) / BLOCK * BLOCK; }

/* Read a requantisation, for itself or with the operation before it; returns where it ends. */
static const uint8_t *read_requantise(const uint8_t *at, uint32_t width, wk_net_op *op) {
  op->low = u16_at(at);
  op->high = u16_at(at + 2);
  op->shifts = at + 4;
  return op->shifts + width;
}

/* Read another operation, of bytes that are known to be good; returns where it ends. */
static const uint8_t *read_op(const uint8_t *at, uint32_t width, uint32_t levels, wk_net_op *op) {
  *op = (wk_net_op){.code = *at++, .width = rounded(width), .outputs = width, .low = 1 << 24, .high = 1 << 24, .bytes = at};
  if (op->code == WK_REQUANTISE) return read_requantise(at, width, op);
  if (op->code == WK_GATE) return at + (uint64_t)levels * width;
  if (op->code == WK_RESIDUAL) return at + width;
  if (op->code == WK_SAVE) return at;
  op->outputs = u16_at(at);
  op->bytes = at + 2;
  return op->bytes + (uint64_t)op->outputs * width + 4 * op->outputs;
}

/* Numbers in the table of an operation: whole cache lines. */
static uint64_t table_size(const wk_net_op *op, uint32_t levels) {
  if (op->code == WK_LINEAR) return (uint64_t)rounded(op->outputs) * (2 + op->groups);
  return op->code == WK_SAVE ? 0 : (uint64_t)op->width * (2 + (op->code == WK_GATE ? levels : op->code == WK_RESIDUAL));
}

/* Read a net whose tables are to stand one after the other. Returns how many numbers they have. */
static uint64_t open_net(wk_net *net, const uint8_t *data, const int32_t *tables) {
  uint64_t size = 0;
  uint32_t width = 16;
  int positive = 0, saved = 0; /* whether no number, or none of those kept, can be negative */
  int narrow = 1, alone = 1;   /* whether numbers fit in 16 bits, and whether a requantisation is an operation of its own */
  const uint8_t *at = data + 4;
  net->clip = data[0], net->shift = data[1], net->levels = data[2], net->count = 0, net->widest = WK_NET_MANY;
  for (uint32_t i = 0; i < data[3]; i++) {
    wk_net_op *op = &net->ops[net->count];
    const int requantise = *at == WK_REQUANTISE, save = *at == WK_SAVE;
    if (requantise && !alone) {
      at = read_requantise(at + 1, width, --op);
    } else {
      at = read_op(at, width, net->levels, op);
      op->group = positive ? 4 : 2;
      op->groups = op->width / op->group;
      op->narrow = narrow;
      op->table = tables + size;
      size += table_size(op, net->levels);
      net->count++;
    }
    alone = requantise || save;
    if (requantise)
      positive |= op->low == 0;
    else if (save)
      saved = positive;
    else
      positive &= saved && op->code == WK_RESIDUAL;
    narrow = requantise || (save && narrow);
    width = op->outputs;
    if (rounded(width) > net->widest) net->widest = rounded(width);
  }
  return size;
}

/* Write what is added before a shift of output o, and the shift. */
static void write_shift(const wk_net_op *op, uint32_t o, int32_t sum, int32_t *added, int32_t *shift) {
  *shift = op->shifts ? op->shifts[o] : 0;
  *added = sum + (1 << *shift >> 1);
}

static void write_linear(const wk_net_op *op, uint32_t inputs, int32_t *table) {
  const uint32_t bits = 32 / op->group, mask = 0xFFFFFFFF >> (32 - bits), many = rounded(op->outputs) / WK_NET_MANY * WK_NET_MANY;
  const wk_u32 *bias = (const wk_u32 *)(const void *)(op->bytes + (uint64_t)op->outputs * inputs);
  for (uint32_t o = 0; o < op->outputs; o++) {
    const uint32_t size = o < many ? WK_NET_MANY : BLOCK, first = o / size * size;
    int32_t *const its = table + (uint64_t)first * (op->groups + 2) + (o - first);
    const uint8_t *weights = op->bytes + (uint64_t)o * inputs;
    write_shift(op, o, (int32_t)bias[o], its, its + size);
    for (uint32_t j = 0; j < inputs; j++)
      its[(uint64_t)(j / op->group + 2) * size] |= (int32_t)(((uint32_t)(int8_t)weights[j] & mask) << bits * (j % op->group));
  }
}

static void write_simple(const wk_net_op *op, uint32_t levels, int32_t *table) {
  for (uint32_t o = 0; o < op->outputs; o++) write_shift(op, o, 0, table + o, table + op->width + o);
  table += 2 * op->width;
  if (op->code == WK_RESIDUAL)
    for (uint32_t o = 0; o < op->outputs; o++) table[o] = op->bytes[o];
  for (uint32_t l = 0; l < levels && op->code == WK_GATE; l++)
    for (uint32_t o = 0; o < op->outputs; o++)
      table[(uint64_t)l * op->width + o] = (int8_t)op->bytes[(uint64_t)l * op->outputs + o] & (op->narrow ? 0xFFFF : -1);
}

static void write_tables(const wk_net *net, int32_t *table) {
  uint32_t width = 16;
  for (uint32_t i = 0; i < net->count; i++) {
    const wk_net_op *op = &net->ops[i];
    const uint64_t size = table_size(op, net->levels);
    memset(table, 0, size * 4);
    if (op->code == WK_LINEAR)
      write_linear(op, width, table);
    else if (op->code != WK_SAVE)
      write_simple(op, net->levels, table);
    table += size;
    width = op->outputs;
  }
}

uint64_t wcodec_net_scratch(const uint8_t *data) {
  wk_net net;
  const uint64_t numbers = open_net(&net, data, NULL);
  return WK_LINE + 4 * numbers + 8ull * net.widest * WIDE;
}

void wcodec_run_net(const uint8_t *data, const void *latents, uint64_t chunks, uint64_t cols, const uint8_t *levels,
                    uint32_t level, uint8_t *scratch, void *out) {
  wk_net net;
  int32_t *const tables = (int32_t *)(void *)(((uintptr_t)scratch + WK_LINE - 1) & ~(uintptr_t)(WK_LINE - 1));
  const uint64_t numbers = open_net(&net, data, tables);
  write_tables(&net, tables);
  wk_current()->net(&net, (const wk_f32 *)latents, chunks, cols, levels, (uint8_t)level, (uint8_t *)(tables + numbers), (wk_f32 *)out);
}
