/* Float32 arithmetic with AVX2. */
#include "uniform.h"

WK_FLOATS_OF(avx2)
