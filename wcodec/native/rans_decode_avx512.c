/* Decoding with AVX-512, table entries by scalar loads. */
#include "rans_decode_avx512.h"

void wk_decode_avx512(wk_stream *s, int k, const wk_model *m, uint64_t groups) {
  if (k == 2) any_context(s, 2, 0, m, groups);
  else any_context(s, 1, 0, m, groups);
}
