/* The Viterbi search: what callers see, and vectors that every machine has. */
#include <stdint.h>

#define LANES 4
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
#define less(a, b) ((a) < (b))
#define more_int(a, b) ((a) > (b))
#define choose_int(m, a, b) (((a) & ~(m)) | ((b) & (m)))
#define choose(m, a, b) ((floats)choose_int(m, (ints)(a), (ints)(b)))
#define mark(x, m, bit) ((x) | ((words)(m) & (bit)))
#define look_up(table, index) ((floats){(table)[(index)[0]], (table)[(index)[1]], (table)[(index)[2]], (table)[(index)[3]]})
#define look_up_word(table, index) ((words){(table)[(index)[0]], (table)[(index)[1]], (table)[(index)[2]], (table)[(index)[3]]})

#include "trellis_search.h"

WK_SEARCH_OF(scalar)

uint64_t wcodec_search_scratch(const wcodec_search *job) {
  const uint64_t per_step = job->v > 5 ? 1u << (job->v - 5) : 1;
  return WK_LINE + (((uint64_t)2 << job->v) + job->rows * (per_step + 2)) * 4 * 16; /* vectors of at most 16 lanes */
}

void wcodec_trellis_search(const wcodec_search *job, const void *x, const void *weights, void *out, uint64_t *counts,
                           int64_t *sums, void *scratch) {
  uint8_t *aligned = (uint8_t *)(((uintptr_t)scratch + WK_LINE - 1) & ~(uintptr_t)(WK_LINE - 1));
  wk_current()->search[job->v](job, x, weights, out, counts, sums, aligned);
}
