/* The Viterbi search, and nets. */
#include "fuzz.h"

static float number(float size) { return ((float)below(1 << 16) / 32768 - 1) * size; }

static float *numbers(uint64_t count, float size) {
  float *x = get(count * 4);
  for (uint64_t i = 0; i < count; i++) x[i] = number(below(50) ? size : size * 1e4f);
  return x;
}

/* Search any weights: the same symbols, counts and sums with every instruction set. */
void try_search(void) {
  const uint32_t rows = 1 + below(40), cols = 1 + below(50), stride = cols + below(9), entries = 1 + below(40), classes = 1 + below(3);
  const uint32_t bytes = 1 + below(2), zero = bytes == 1 ? 128 : 32768;
  const uint64_t table = 2ull * classes * entries;
  float *costs = numbers(table, 8), *shifts = numbers(table, 1), *x = numbers(rows * cols, 30), *weights = numbers(rows * cols, 2);
  uint8_t *kind = get(rows);
  for (uint32_t i = 0; i < rows; i++) kind[i] = (uint8_t)below(classes);
  for (uint64_t i = 0; i < table; i++) costs[i] = costs[i] < 0 ? -costs[i] : costs[i];
  const float most = bytes == 1 ? 240 : 60000; /* the two points beyond fit, too */
  const wcodec_search job = {
      rows, cols, stride, 2 + below(7), entries, (int32_t)below(60) - 40, zero, bytes, -most, most, costs, below(2) ? shifts : NULL,
      classes > 1 ? kind : NULL,
  };
  const int weighed = (int)below(2), counted = (int)below(2);
  uint8_t *out[2] = {get((uint64_t)rows * stride * bytes), get((uint64_t)rows * stride * bytes)}, *scratch = get(wcodec_search_scratch(&job));
  uint64_t *counts[2] = {get(table * 8), get(table * 8)};
  int64_t *sums[2] = {get(table * 8), get(table * 8)};
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    const int k = isa > WCODEC_SCALAR;
    memset(counts[k], 0, table * 8);
    memset(sums[k], 0, table * 8);
    wcodec_set_isa(isa);
    wcodec_trellis_search(&job, x, weighed ? weights : NULL, out[k], counted ? counts[k] : NULL, counted ? sums[k] : NULL, scratch);
    check(!k || wcodec_same(out[0], out[1], (uint64_t)rows * stride * bytes), "searched symbols");
    check(!k || (wcodec_same(counts[0], counts[1], table * 8) && wcodec_same(sums[0], sums[1], table * 8)), "counted symbols");
  }
  void *all[] = {costs, shifts, x, weights, kind, out[0], out[1], scratch, counts[0], counts[1], sums[0], sums[1]};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

enum { LINEAR = 1, REQUANTISE, GATE, SAVE, RESIDUAL, WIDEST = 150, OPS = 8, ROOM = OPS * (4 * WIDEST + WIDEST * WIDEST + 8) };

/* A net under construction. bound: of all numbers now; saved: when they were kept. */
typedef struct {
  uint8_t data[ROOM];
  uint64_t size;
  uint32_t width, bound, saved_width, saved;
  int last;
} net;

static void put(net *n, uint32_t value, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; i++) n->data[n->size++] = (uint8_t)(value >> 8 * i);
}

static void add_requantise(net *n, uint32_t high) {
  put(n, REQUANTISE, 1);
  put(n, below(2) ? 0 : below(high + 1), 2);
  put(n, high, 2);
  for (uint32_t i = 0; i < n->width; i++) put(n, below(16), 1);
  n->bound = high;
}

static void add_linear(net *n, uint32_t outputs) {
  if (n->bound > 127) add_requantise(n, 127);
  put(n, LINEAR, 1);
  put(n, outputs, 2);
  for (uint32_t i = 0; i < outputs * n->width; i++) put(n, below(255) - 127, 1);
  for (uint32_t i = 0; i < outputs; i++) put(n, below(1 << 17) - (1 << 16), 4);
  n->bound = n->width * 127 * 127 + (1 << 16);
  n->width = outputs;
}

/* Any operations that keep the rules of net.md. */
static void make_net(net *n, uint32_t levels) {
  const uint32_t clip = 1 + below(127);
  memset(n, 0, sizeof *n);
  put(n, clip, 1), put(n, below(7), 1), put(n, levels, 1), put(n, 0, 1);
  n->width = 16, n->bound = clip;
  for (uint32_t left = below(OPS - 4); left; left--) {
    const uint32_t code = 1 + below(5);
    const uint64_t before = n->size;
    if (code == LINEAR) add_linear(n, 1 + below(WIDEST));
    if (code == REQUANTISE) add_requantise(n, 1 + below(below(2) ? 127 : 32767));
    if (code == GATE && n->bound < 1 << 16) {
      put(n, GATE, 1);
      for (uint32_t i = 0; i < levels * n->width; i++) put(n, below(255) - 127, 1);
      n->bound *= 127;
    }
    if (code == SAVE && n->last != SAVE) put(n, SAVE, 1), n->saved_width = n->width, n->saved = n->bound;
    if (code == RESIDUAL && n->saved_width == n->width && n->bound < 1 << 22 && n->saved < 1 << 16) {
      put(n, RESIDUAL, 1);
      for (uint32_t i = 0; i < n->width; i++) put(n, below(7), 1);
      n->bound += n->saved << 6;
    }
    if (n->size > before) n->last = (int)code;
  }
  add_linear(n, 16);
}

/* Operations as they are numbered, with the fields of net.md. */
static uint32_t count_ops(const net *n, uint32_t levels) {
  uint32_t width = 16, count = 0;
  for (const uint8_t *at = n->data + 4; at < n->data + n->size; count++) {
    const uint32_t code = *at++;
    if (code == LINEAR) {
      const uint32_t outputs = at[0] | (uint32_t)at[1] << 8;
      at += 2 + outputs * width + 4 * outputs;
      width = outputs;
    } else {
      at += code == SAVE ? 0 : code == GATE ? levels * width : code == REQUANTISE ? 4 + width : width;
    }
  }
  return count;
}

/* Run a net on the 16 numbers of a chunk, as net.md says. */
static void run_slowly(const net *n, uint32_t level, const int64_t *latent, int64_t *out) {
  int64_t x[WIDEST], y[WIDEST] = {0}, z[WIDEST];
  const int64_t clip = n->data[0];
  uint32_t width = 16;
  for (int i = 0; i < 16; i++) x[i] = latent[i] < -clip ? -clip : latent[i] > clip ? clip : latent[i];
  const uint8_t *at = n->data + 4;
  for (uint32_t op = 0; op < n->data[3]; op++) {
    const uint32_t code = *at++;
    uint32_t outputs = width, used = width;
    if (code == LINEAR) {
      outputs = at[0] | (uint32_t)at[1] << 8;
      at += 2;
      for (uint32_t o = 0; o < outputs; o++) {
        int32_t bias;
        memcpy(&bias, at + outputs * width + 4 * o, 4);
        z[o] = bias;
        for (uint32_t i = 0; i < width; i++) z[o] += (int8_t)at[o * width + i] * x[i];
      }
      used = outputs * width + 4 * outputs;
    }
    const int64_t low = code == REQUANTISE ? at[0] | at[1] << 8 : 0, high = code == REQUANTISE ? at[2] | at[3] << 8 : 0;
    if (code == REQUANTISE) at += 4;
    for (uint32_t i = 0; i < width && code != LINEAR; i++) {
      const int64_t shifted = code == REQUANTISE ? (x[i] + ((1 << at[i]) >> 1)) >> at[i] : 0;
      z[i] = code == REQUANTISE ? (shifted < -low ? -low : shifted > high ? high : shifted)
             : code == GATE     ? x[i] * (int8_t)at[level * width + i]
             : code == RESIDUAL ? x[i] + y[i] * (1 << at[i])
                                : x[i];
      if (code == SAVE) y[i] = x[i];
    }
    at += code == SAVE ? 0 : code == GATE ? n->data[2] * width : used;
    width = outputs;
    memcpy(x, z, width * sizeof *x);
  }
  for (int i = 0; i < 16; i++) out[i] = latent[i] * (1 << n->data[1]) + x[i];
}

/* Any net on any latents: what its operations give one by one, with every instruction set. */
void try_net(void) {
  static net n;
  const uint32_t levels = 1 + below(3), cols = 1 + below(40), bands = below(4), chunks = cols * bands;
  make_net(&n, levels);
  n.data[3] = (uint8_t)count_ops(&n, levels);
  uint8_t *data = get(n.size), *of_columns = get(cols), *scratch;
  memcpy(data, n.data, n.size);
  float *latents = get(16ull * chunks * 4), *out = get(16ull * chunks * 4), *expected = get(16ull * chunks * 4);
  for (uint32_t i = 0; i < 16 * chunks; i++) latents[i] = (float)(int32_t)(below(1 << (1 + below(18))) - (below(2) ? 1 << 16 : 0));
  for (uint32_t i = 0; i < cols; i++) of_columns[i] = (uint8_t)below(levels);
  const uint32_t level = below(levels), each = below(2);
  for (uint32_t c = 0; c < chunks; c++) {
    int64_t latent[16], found[16];
    const uint64_t first = (uint64_t)c / cols * 16 * cols + c % cols;
    for (int j = 0; j < 16; j++) {
      if (latents[first + j * cols] >= 1 << 17) latents[first + j * cols] = 0;
      latent[j] = (int64_t)latents[first + j * cols];
    }
    run_slowly(&n, each ? of_columns[c % cols] : level, latent, found);
    for (int j = 0; j < 16; j++) expected[first + j * cols] = (float)found[j];
  }
  scratch = get(wcodec_net_scratch(data));
  for (int isa = WCODEC_SCALAR; isa <= WCODEC_AVX512; isa++) {
    wcodec_set_isa(isa);
    wcodec_run_net(data, latents, chunks, cols, each ? of_columns : NULL, level, scratch, out);
    check(wcodec_same(out, expected, 16ull * chunks * 4), "outputs of a net");
  }
  free(data), free(of_columns), free(latents), free(out), free(expected), free(scratch);
}
