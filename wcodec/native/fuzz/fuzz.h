/* What the parts of the driver share: numbers that steer a test, memory of exact size, and a check that stops. */
#ifndef WCODEC_FUZZ_H
#define WCODEC_FUZZ_H

#include <stdlib.h>
#include <string.h>

#include "../wcodec.h"

/* The next pseudo-random number; one below n; one of them as bytes. */
uint64_t any(void);
uint32_t below(uint32_t n);
void fill(void *x, size_t size);

/* Stop the program with `what` unless fine. */
void check(int fine, const char *what);

/* Memory of exactly this size, with something in it that must not matter. */
void *get(size_t size);

/* What wcodec_rans_join does with the tokens, in its own steps. */
void join_slowly(const wcodec_split *split, const uint8_t *tokens, const uint8_t *const *rest, uint64_t count, void *out);

/* One test of each topic, made from any(). */
void try_rans(void);
void try_tables(void);
void try_bits(void);
void try_planes(void);
void try_sampling(void);
void try_gather(void);
void try_philox(void);
void try_masks(void);
void try_gaps(void);
void try_bundles(void);
void try_join_tokens(void);
void try_grid(void);
void try_sums(void);
void try_search(void);
void try_net(void);

#endif
