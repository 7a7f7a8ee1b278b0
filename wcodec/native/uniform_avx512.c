/* Float32 arithmetic with AVX-512. */
#include "uniform.h"

WK_FLOATS_OF(avx512)
