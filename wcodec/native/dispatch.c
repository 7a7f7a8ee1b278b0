/* Choice of the instruction set, and the functions that need no more than that. */
#include <stdatomic.h>

#include "internal.h"

#if WK_X86
#include <cpuid.h>
#endif

static const wk_kernels scalar = {1, NULL, NULL, NULL, NULL, NULL, wk_split_scalar, wk_tokens_scalar, wk_join_scalar};
#if WK_X86
static const wk_kernels avx2 = {2, wk_decode_avx2, wk_encode_avx2, wk_look_up_avx2, wk_unpack_avx2,
                                wk_pack_avx2,   wk_split_avx2,  wk_tokens_avx2,  wk_join_avx2};
static const wk_kernels avx512 = {2, wk_decode_avx512, wk_encode_avx512, wk_look_up_avx2,  wk_unpack_avx2,
                                  wk_pack_avx2,     wk_split_avx512,  wk_tokens_avx512, wk_join_avx512};
static const wk_kernels avx512_gather = {4, wk_decode_avx512_gather, wk_encode_avx512, wk_look_up_avx2,  wk_unpack_avx2,
                                         wk_pack_avx2,            wk_split_avx512,  wk_tokens_avx512, wk_join_avx512};

/* Intel's processors with AVX512-FP16 gather without the microcode against data sampling, and fast. */
static int gathers_fast(void) {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 23 & 1 && __builtin_cpu_is("intel");
}
#endif

static _Atomic(const wk_kernels *) current;

int wcodec_abi(void) { return WCODEC_ABI; }

static int best_isa(void) {
#if WK_X86
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("popcnt"))
    return WCODEC_SCALAR;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
    return WCODEC_AVX2;
  return WCODEC_AVX512;
#else
  return WCODEC_SCALAR;
#endif
}

int wcodec_set_isa(int cap) {
  int isa = best_isa();
  if (isa > cap) isa = cap < WCODEC_SCALAR ? WCODEC_SCALAR : cap;
  const wk_kernels *found = &scalar;
#if WK_X86
  if (isa == WCODEC_AVX2) found = &avx2;
  if (isa == WCODEC_AVX512) found = gathers_fast() ? &avx512_gather : &avx512;
#endif
  atomic_store_explicit(&current, found, memory_order_release);
  return isa;
}

const wk_kernels *wk_current(void) {
  const wk_kernels *found = atomic_load_explicit(&current, memory_order_acquire);
  if (found) return found;
  wcodec_set_isa(WCODEC_AVX512);
  return atomic_load_explicit(&current, memory_order_acquire);
}

int wk_isa(void) {
  const wk_kernels *kernels = wk_current();
#if WK_X86
  return kernels == &scalar ? WCODEC_SCALAR : kernels == &avx2 ? WCODEC_AVX2 : WCODEC_AVX512;
#else
  (void)kernels;
  return WCODEC_SCALAR;
#endif
}

int wcodec_same(const void *a, const void *b, uint64_t size) { return size == 0 || memcmp(a, b, size) == 0; }
