/* Random numbers of Philox4x32-10 (rng.md). */
#include "internal.h"

static void words(const wk_philox *p, uint64_t counter, uint64_t n, uint32_t *out) {
  for (; n; n--, counter++, out += 4) {
    uint32_t x0 = (uint32_t)counter, x1 = (uint32_t)(counter >> 32), x2 = p->id, x3 = p->stream;
    for (int round = 0; round < 10; round++) {
      const uint64_t a = (uint64_t)WK_PHILOX_0 * x0, b = (uint64_t)WK_PHILOX_1 * x2;
      x0 = (uint32_t)(b >> 32) ^ x1 ^ p->keys[round][0];
      x1 = (uint32_t)b;
      x2 = (uint32_t)(a >> 32) ^ x3 ^ p->keys[round][1];
      x3 = (uint32_t)a;
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
  }
}

#include "philox.h"

uint64_t wk_philox_scalar(const wk_philox *p, uint64_t start, uint64_t count, void *out) {
  return wk_run(p, start, count, out);
}

static wk_philox prepare(const wcodec_philox *key, int kind) {
  wk_philox p = {.kind = kind, .id = key->id, .stream = key->stream};
  uint32_t low = (uint32_t)key->seed, high = (uint32_t)(key->seed >> 32);
  for (int round = 0; round < 10; round++, low += 0x9E3779B9u, high += 0xBB67AE85u) {
    p.keys[round][0] = low;
    p.keys[round][1] = high;
  }
  return p;
}

void wcodec_philox_fill(const wcodec_philox *key, const uint32_t *normal, float scale, float decay, uint64_t start,
                        uint64_t count, uint32_t kind, void *out) {
  wk_philox p = prepare(key, normal ? WK_NORMAL : WK_UNIFORM);
  uint32_t values[WK_NORMALS];
  p.type = kind;
  p.scale = scale * 0x1p-23f; /* exact, as is the product of numbers below and a power of two */
  p.decay = decay;
  p.normal = values;
  if (normal)
    for (int i = 0; i < WK_NORMALS; i++) {
      const float value = (float)(int32_t)normal[i] * 0x1p-22f * scale * decay;
      values[i] = kind == WCODEC_F16 ? wk_to_f16(value) : kind == WCODEC_BF16 ? wk_to_bf16(value) : wk_bits(value);
    }
  wk_current()->philox(&p, start, count, out);
}

uint64_t wcodec_philox_draw(const wcodec_philox *key, uint32_t threshold, uint64_t start, uint64_t count, uint8_t *out) {
  wk_philox p = prepare(key, WK_DRAW);
  p.threshold = threshold;
  return wk_current()->philox(&p, start, count, out);
}
