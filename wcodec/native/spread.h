/* Shuffles between packed words and the lanes (of eight) that take or give them. */
#ifndef WCODEC_SPREAD_H
#define WCODEC_SPREAD_H

#include <stdint.h>

#define BELOW(m, i) __builtin_popcount((unsigned)(m) & ((1u << (i)) - 1))

/* Row m: lane i receives word number "lanes below i in m" if it is in m, else 0. */
#define LANE(m, i) (((m) >> (i)) & 1 ? 2 * BELOW(m, i) : 0x80), (((m) >> (i)) & 1 ? 2 * BELOW(m, i) + 1 : 0x80)
#define SPREAD(m) {LANE(m, 0), LANE(m, 1), LANE(m, 2), LANE(m, 3), LANE(m, 4), LANE(m, 5), LANE(m, 6), LANE(m, 7)}

/* Row m: the words of the lanes in m, in order, at the upper end. The n-th set bit has n - 1 set bits below it: count
 * the bits that do not exceed n. */
#define UPTO(m, i, n) (BELOW(m, (i) + 1) <= (n))
#define NTH(m, n) \
  (UPTO(m, 0, n) + UPTO(m, 1, n) + UPTO(m, 2, n) + UPTO(m, 3, n) + UPTO(m, 4, n) + UPTO(m, 5, n) + UPTO(m, 6, n))
#define FROM(m, k) ((k) - 8 + BELOW(m, 8))
#define WORD(m, k) \
  (FROM(m, k) < 0 ? 0x80 : 2 * NTH(m, FROM(m, k))), (FROM(m, k) < 0 ? 0x80 : 2 * NTH(m, FROM(m, k)) + 1)
#define PACK(m) {WORD(m, 0), WORD(m, 1), WORD(m, 2), WORD(m, 3), WORD(m, 4), WORD(m, 5), WORD(m, 6), WORD(m, 7)}

#define ROWS4(row, m) row(m), row((m) + 1), row((m) + 2), row((m) + 3)
#define ROWS16(row, m) ROWS4(row, m), ROWS4(row, (m) + 4), ROWS4(row, (m) + 8), ROWS4(row, (m) + 12)
#define ROWS64(row, m) ROWS16(row, m), ROWS16(row, (m) + 16), ROWS16(row, (m) + 32), ROWS16(row, (m) + 48)
#define ROWS256(row) {ROWS64(row, 0), ROWS64(row, 64), ROWS64(row, 128), ROWS64(row, 192)}

extern const uint8_t wk_spread[256][16];
extern const uint8_t wk_pack[256][16];

#endif
