/* Decoding with AVX-512 and GFNI, for processors whose gathers are as fast as scalar loads: they leave the ports for shuffles free, so
 * that four blocks in flight are faster than two. */
#include "rans_decode_avx512.h"

WK_INLINE void no_classes(wk_stream *s, const int k, const wk_model *m, uint64_t groups) {
  if (m->context == WCODEC_NONE) decode(s, k, WCODEC_NONE, 1, 0, m, groups);
  else if (m->used) decode(s, k, WCODEC_TRELLIS, 1, 0, m, groups);
  else decode(s, k, WCODEC_TRELLIS, 1, 1, m, groups);
}

void wk_decode_gfni(wk_stream *s, int k, const wk_model *m, uint64_t groups) {
  if (k == 4) no_classes(s, 4, m, groups);
  else if (k == 3) no_classes(s, 3, m, groups);
  else if (k == 2) any_context(s, 2, 1, m, groups);
  else any_context(s, 1, 1, m, groups);
}
