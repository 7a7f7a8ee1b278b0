/* Planes for any processor, and what is made of several kernels. */
#include "planes.h"

void wk_split_scalar(const wcodec_split *split, const void *x, uint64_t count, void *symbol, uint8_t *const *rest) {
  split_any(split, x, count, symbol, rest);
}

void wk_tokens_scalar(const void *symbol, uint32_t symbol_bytes, uint64_t count, uint32_t base, uint8_t *token,
                      uint32_t *range) {
  tokens_any(symbol, symbol_bytes, count, base, token, range);
}

void wk_join_scalar(const wcodec_split *split, const void *symbol, uint32_t symbol_bytes, const uint8_t *const *rest,
                    uint64_t count, int past, void *out) {
  (void)past;
  join_any(split, symbol, symbol_bytes, rest, count, out);
}

void wcodec_split_planes(const wcodec_split *split, const void *x, uint64_t count, void *symbol, uint8_t *const *rest) {
  wk_current()->split(split, x, count, symbol, rest);
}

void wcodec_join_planes(const wcodec_split *split, const void *symbol, uint32_t symbol_bytes,
                        const uint8_t *const *rest, uint64_t count, void *out) {
  const wcodec_split plain = {split->bytes, split->rest, split->sign, 0, 0, 0};
  wk_current()->join(&plain, symbol, symbol_bytes, rest, count, 0, out);
}

void wk_mark_scalar(const uint8_t *token, uint64_t n, uint8_t *flags) {
  for (uint64_t i = 0; i < n; i++) flags[token[i]] = 1;
}

void wcodec_split_tokens(const wcodec_split *split, const void *x, uint64_t count, uint32_t every,
                         uint8_t *tokens, uint8_t *const *rest, uint64_t *counts, uint8_t *seen, uint32_t *range) {
  const wk_kernels *kernels = wk_current();
  const uint32_t planes = (split->rest + 7) / 8, width = split->rest % 8,
                 symbol_bytes = 8 * split->bytes - split->rest > 8 ? 2 : 1;
  uint32_t part[WK_PARTS][256] = {{0}};
  uint16_t symbol[WK_CHUNK];
  uint8_t top[WK_CHUNK];
  for (uint64_t at = 0, since = 0; at < count; at += WK_CHUNK) { /* chunk by chunk, through the first-level cache */
    const uint64_t n = count - at < WK_CHUNK ? count - at : WK_CHUNK;
    uint8_t *p[8] = {NULL};
    for (uint32_t k = 0; k < planes; k++) p[k] = rest[k] + at;
    if (width) p[planes - 1] = top;
    const uint8_t *its = (const uint8_t *)x + at * split->bytes;
    const uint64_t done = kernels->take_apart ? kernels->take_apart(split, its, n, tokens + at, p, range) : 0;
    if (done < n) {
      uint8_t *q[8] = {NULL};
      for (uint32_t k = 0; k < planes; k++) q[k] = p[k] + done;
      kernels->split(split, its + done * split->bytes, n - done, symbol, q);
      kernels->tokens(symbol, symbol_bytes, n - done, split->base, tokens + at + done, range);
    }
    const uint64_t counted = n < WK_CHUNK / every ? n : WK_CHUNK / every;
    wk_count(tokens + at, counted, part);
    kernels->mark(tokens + at + counted, n - counted, seen);
    if (width) wcodec_pack_bits(top, 1, n, width, 0, rest[planes - 1] + at * width / 8);
    since += n;
    if (since >= 1u << 30) {
      wk_count_up(part, counts);
      since = 0;
    }
  }
  wk_count_up(part, counts);
}
