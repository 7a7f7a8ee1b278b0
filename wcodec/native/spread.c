/* The shuffles of spread.h, worked out by the compiler. */
#include "spread.h"

_Alignas(64) const uint8_t wk_spread[256][16] = ROWS256(SPREAD);
_Alignas(64) const uint8_t wk_pack[256][16] = ROWS256(PACK);
