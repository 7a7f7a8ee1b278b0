/* Choice of the instruction set, and the functions that need no more than that. */
#include <stdatomic.h>

#include "internal.h"

#if WK_X86
#include <cpuid.h>
#endif

/* Kernels of an instruction set that stand in files of its own. */
#define WK_OWN(isa) \
  .split = wk_split_##isa, .tokens = wk_tokens_##isa, .join = wk_join_##isa, .philox = wk_philox_##isa, .floats = &wk_floats_##isa, \
  .search = wk_search_##isa

static const wk_kernels scalar = {.flight = 1, .mark = wk_mark_scalar, .gather = wk_gather_scalar, .net = wk_net_scalar, .symbols = wk_symbols_scalar, .escapes = wk_escapes_scalar, WK_OWN(scalar)};
#if WK_X86
#define WK_BYTES .look_up = wk_look_up_avx2, .unpack = wk_unpack_avx2, .pack = wk_pack_avx2
#define WK_VBMI \
  .encode = wk_encode_vbmi, .mark = wk_mark_vbmi, .take_apart = wk_take_apart_vbmi, .gather = wk_gather_vbmi, \
  .look_up_lattice = wk_look_up_lattice_vbmi, \
  .look_up = wk_look_up_avx2, .pack = wk_pack_avx2, .dequantise = wk_dequantise_avx512, .symbols = wk_symbols_avx512, .escapes = wk_escapes_avx512, .net = wk_net_vnni, WK_OWN(avx512)

static const wk_kernels avx2 = {
    .flight = 2, .decode = wk_decode_avx2, .encode = wk_encode_avx2, .mark = wk_mark_scalar, .gather = wk_gather_avx2, .dequantise = wk_dequantise_avx2, .symbols = wk_symbols_avx2, .escapes = wk_escapes_avx2, .net = wk_net_avx2, WK_BYTES, WK_OWN(avx2)};
static const wk_kernels avx512 = {
    .flight = 2, .decode = wk_decode_avx512, .encode = wk_encode_avx512, .mark = wk_mark_scalar, .gather = wk_gather_avx2, .dequantise = wk_dequantise_avx512, .symbols = wk_symbols_avx512, .escapes = wk_escapes_avx512, .net = wk_net_avx512, WK_BYTES, WK_OWN(avx512)};
static const wk_kernels vbmi = {.flight = 2, .decode = wk_decode_avx512, .unpack = wk_unpack_avx2, WK_VBMI};
static const wk_kernels gathering = {.flight = 4, .decode = wk_decode_gfni, .unpack = wk_unpack_vbmi, .join_lattice = wk_join_lattice_vbmi, WK_VBMI};

/* Every processor with VBMI2 has VNNI, too; a virtual machine may hide it. */
static int has_vbmi(void) {
  return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vnni");
}

/* Intel's processors with AVX512-FP16 gather without the microcode against data sampling, and fast; they have VBMI, GFNI and BF16, too. */
static int gathers_fast(void) {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 23 & 1 && c >> 1 & 1 && c >> 8 & 1 && __builtin_cpu_supports("avx512bf16") &&
         __builtin_cpu_is("intel");
}
#endif

static _Atomic(const wk_kernels *) current;

int wcodec_abi(void) { return WCODEC_ABI; }

static int best_isa(void) {
#if WK_X86
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("popcnt") ||
      !__builtin_cpu_supports("f16c"))
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
  if (isa == WCODEC_AVX512) found = !has_vbmi() ? &avx512 : gathers_fast() ? &gathering : &vbmi;
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
