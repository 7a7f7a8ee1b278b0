/* Feeds the library jobs made from pseudo-random numbers, in arrays of exactly the size promised, for the sanitizers to
 * watch. Every instruction set must say the same about the same bytes, damaged or not, and what was encoded must
 * decode.
 *
 * As a program: wcodec_fuzz [seconds [seed]]. With clang it is a libFuzzer target, whose bytes steer the numbers.
 */
#include "fuzz.h"

#include <stdio.h>
#include <time.h>

static const uint8_t *steer;
static size_t steer_left;
static uint64_t state;

uint64_t any(void) {
  state += 0x9E3779B97F4A7C15ull;
  if (steer_left) {
    state += *steer++;
    steer_left--;
  }
  uint64_t z = state;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

uint32_t below(uint32_t n) { return (uint32_t)(any() % n); }

void check(int fine, const char *what) {
  if (!fine) {
    fprintf(stderr, "wrong: %s\n", what);
    abort();
  }
}

void *get(size_t size) {
  uint8_t *p = malloc(size ? size : 1);
  check(p != NULL, "memory");
  for (size_t i = 0; i < size; i++) p[i] = (uint8_t)(i * 37); /* not from any(): what is here must not matter */
  return p;
}

void fill(void *x, size_t size) {
  for (size_t i = 0; i < size; i++) ((uint8_t *)x)[i] = (uint8_t)any();
}

static void one(void) {
  static void (*const all[])(void) = {try_rans,   try_tables, try_bits, try_planes,      try_sampling, try_gather,
                                      try_philox, try_masks,  try_gaps, try_join_tokens, try_grid,     try_sums,
                                      try_bundles, try_search, try_net};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) all[i]();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  steer = data;
  steer_left = size;
  state = 0;
  one();
  return 0;
}

#if !defined(WCODEC_LIBFUZZER)
int main(int argc, char **argv) {
  const double seconds = argc > 1 ? atof(argv[1]) : 10;
  const time_t end = time(NULL) + (time_t)seconds;
  unsigned long jobs = 0;
  for (state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1; time(NULL) < end; jobs++) one();
  printf("%lu jobs\n", jobs);
  return 0;
}
#endif
