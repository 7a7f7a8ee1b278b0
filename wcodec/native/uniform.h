/* Float32 arithmetic of uniform.md and sum.md, for the compiler to vectorise: included once per instruction set. */
#include "rounding.h"

static void round_any(const wk_f32 *x, uint64_t count, uint32_t kind, void *out) {
  if (kind == WCODEC_BF16)
    for (uint64_t i = 0; i < count; i++) ((wk_u16 *)out)[i] = wk_to_bf16(x[i]);
  else if (kind == WCODEC_F16)
    for (uint64_t i = 0; i < count; i++) ((wk_u16 *)out)[i] = wk_to_f16(x[i]);
  else
    for (uint64_t i = 0; i < count; i++) ((wk_f64 *)out)[i] = x[i];
}

/* steps: one for all elements, or one each. Returns the largest symbol. */
#define DEQUANTISE(type, name)                                                                                        \
  static uint32_t name(const type *s, uint64_t count, const wk_f32 *steps, int each, uint32_t zero, wk_f32 *out) {    \
    uint32_t most = 0;                                                                                                \
    if (each)                                                                                                         \
      for (uint64_t i = 0; i < count; i++) {                                                                          \
        out[i] = steps[i] * (float)(int32_t)((uint32_t)s[i] - zero);                                                  \
        most = s[i] > most ? s[i] : most;                                                                             \
      }                                                                                                               \
    else {                                                                                                            \
      const float step = steps[0];                                                                                    \
      for (uint64_t i = 0; i < count; i++) {                                                                          \
        out[i] = step * (float)(int32_t)((uint32_t)s[i] - zero);                                                      \
        most = s[i] > most ? s[i] : most;                                                                             \
      }                                                                                                               \
    }                                                                                                                 \
    return most;                                                                                                      \
  }

DEQUANTISE(uint8_t, dequantise_8)
DEQUANTISE(wk_u16, dequantise_16)
DEQUANTISE(wk_u32, dequantise_32)

static uint32_t dequantise_any(const void *symbols, uint32_t bytes, uint64_t count, const wk_f32 *steps, int each,
                               uint32_t zero, wk_f32 *out) {
  if (bytes == 1) return dequantise_8((const uint8_t *)symbols, count, steps, each, zero, out);
  if (bytes == 2) return dequantise_16((const wk_u16 *)symbols, count, steps, each, zero, out);
  return dequantise_32((const wk_u32 *)symbols, count, steps, each, zero, out);
}

/* Clipped before it is rounded: the bounds are integers, so that the order does not matter. */
WK_INLINE uint32_t nearest(float x, float step, uint32_t zero, uint32_t levels) {
  const float low = -(float)zero, high = (float)(levels - 1 - zero);
  float k = step == 0 ? 0 : x / step;
  k = k < low ? low : k;
  k = k > high ? high : k;
  return (uint32_t)((int32_t)__builtin_rintf(k) + (int32_t)zero);
}

#define QUANTISE(type, name)                                                                                          \
  static void name(const wk_f32 *x, uint64_t count, const wk_f32 *steps, int each, uint32_t zero, uint32_t levels,    \
                   type *out) {                                                                                       \
    const float step = steps[0];                                                                                      \
    if (each)                                                                                                         \
      for (uint64_t i = 0; i < count; i++) out[i] = (type)nearest(x[i], steps[i], zero, levels);                      \
    else                                                                                                              \
      for (uint64_t i = 0; i < count; i++) out[i] = (type)nearest(x[i], step, zero, levels);                          \
  }

QUANTISE(uint8_t, quantise_8)
QUANTISE(wk_u16, quantise_16)
QUANTISE(wk_u32, quantise_32)

static void quantise_any(const wk_f32 *x, uint64_t count, const wk_f32 *steps, int each, uint32_t zero, uint32_t levels,
                         uint32_t bytes, void *out) {
  if (bytes == 1) quantise_8(x, count, steps, each, zero, levels, (uint8_t *)out);
  else if (bytes == 2) quantise_16(x, count, steps, each, zero, levels, (wk_u16 *)out);
  else quantise_32(x, count, steps, each, zero, levels, (wk_u32 *)out);
}

/* Returns 1 when part holds an infinity or a NaN. */
static int add_any(wk_f32 *total, const wk_f32 *part, uint64_t count) {
  uint32_t most = 0;
  for (uint64_t i = 0; i < count; i++) {
    const uint32_t size = wk_bits(part[i]) & 0x7FFFFFFF;
    most = size > most ? size : most;
    total[i] = total[i] + part[i];
  }
  return most >= 0x7F800000;
}

/* Symbols of trellis.md, of one or two bytes; columns: whether they have factors. The loops have no branches. */
WK_INLINE void lattice_run(const wk_lattice *l, const void *symbols, const int bytes, const uint8_t *z0, uint64_t n,
                           float step, const int with_columns, const wk_f32 *columns, wk_f32 *out) {
  for (uint64_t i = 0; i < n; i++) {
    const uint32_t u = bytes == 1 ? ((const uint8_t *)symbols)[i] : ((const wk_u16 *)symbols)[i];
    float m;
    if (bytes == 1) {
      m = l->value[2 * u + z0[i]];
    } else {
      const int32_t k = 2 * ((int32_t)u - (int32_t)l->zero) + z0[i];
      const uint32_t size = (uint32_t)(k < 0 ? -k : k), near = 0u - (size < 65);
      const uint32_t point = wk_bits(l->magnitude[size & near & 127]), far = wk_bits((float)size);
      m = wk_float(((point & near) | (far & ~near)) | ((uint32_t)k & 0x80000000u));
    }
    out[i] = (with_columns ? step * columns[i] : step) * m;
  }
}

/* Without points, of one byte. */
WK_INLINE void plain_run(const uint8_t *symbols, const uint8_t *z0, uint64_t n, int32_t zero, float step,
                         const int with_columns, const wk_f32 *columns, wk_f32 *out) {
  for (uint64_t i = 0; i < n; i++) {
    const float m = (float)(2 * ((int32_t)symbols[i] - zero) + z0[i]);
    out[i] = (with_columns ? step * columns[i] : step) * m;
  }
}

static void lattice_any(const wk_lattice *l, const void *symbols, uint32_t bytes, const uint8_t *z0, uint64_t n, float step,
                        const wk_f32 *columns, wk_f32 *out) {
  if (bytes == 2 && columns) lattice_run(l, symbols, 2, z0, n, step, 1, columns, out);
  else if (bytes == 2) lattice_run(l, symbols, 2, z0, n, step, 0, columns, out);
  else if (l->n_points && columns) lattice_run(l, symbols, 1, z0, n, step, 1, columns, out);
  else if (l->n_points) lattice_run(l, symbols, 1, z0, n, step, 0, columns, out);
  else if (columns) plain_run((const uint8_t *)symbols, z0, n, (int32_t)l->zero, step, 1, columns, out);
  else plain_run((const uint8_t *)symbols, z0, n, (int32_t)l->zero, step, 0, columns, out);
}

/* Elements of a row: each by the row's step times its column's factor; columns is NULL: by the step. */
static void scale_any(const wk_f32 *x, uint64_t n, float step, const wk_f32 *columns, wk_f32 *out) {
  if (columns)
    for (uint64_t i = 0; i < n; i++) out[i] = step * columns[i] * x[i];
  else
    for (uint64_t i = 0; i < n; i++) out[i] = step * x[i];
}

#define WK_FLOATS_OF(isa) \
  const wk_floats wk_floats_##isa = {dequantise_any, quantise_any, round_any, add_any, lattice_any, scale_any};
