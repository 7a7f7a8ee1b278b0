/* Kernels of wcodec as a plain C library: entropy coding, bit planes and bit packing of one window of one section.
 *
 * The format is described in spec/entropy.md, spec/codecs/planes.md and spec/codecs/bitpack.md; rule ids (E-6, ...) are
 * those of the specification. All functions are thread safe, keep no state but the choice of the instruction set, and
 * allocate nothing. Arrays may be unaligned; they must not overlap. Machines are little-endian.
 *
 * Decoding is safe for any content of `words`, `states` and `offsets`: nothing outside the arrays is read or written.
 * Everything else (parameters, the look-up, classes, array sizes) is checked by the caller, as the specification says.
 */
#ifndef WCODEC_H
#define WCODEC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define WCODEC_API __declspec(dllexport)
#else
#define WCODEC_API __attribute__((visibility("default")))
#endif

/* Grows with every change of a struct or function below. */
#define WCODEC_ABI 14

/* Results of the decoders: 0, or the sum of the rules that the bytes break. */
enum { WCODEC_E6 = 1, WCODEC_E7 = 2, WCODEC_RANS3 = 4 };

/* Instruction sets. */
enum { WCODEC_SCALAR = 0, WCODEC_AVX2 = 1, WCODEC_AVX512 = 2 };

/* Contexts (entropy.md section 5). */
enum { WCODEC_NONE = 0, WCODEC_CLASSES = 1, WCODEC_TRELLIS = 2 };

/* Whole blocks of one section, coded in one call (a window).
 *
 * Linear order: block k holds symbols k * block ... Tiled order (block = 0): a matrix of count / cols rows, cut into
 * tiles.
 */
typedef struct {
  uint64_t count;          /* symbols of the window */
  uint64_t start;          /* flat index of its first symbol in the section (classes) */
  uint64_t cols;           /* columns of the section's matrix (tiled order, classes) */
  uint32_t lanes;          /* W: 1, 4 or 32 */
  uint32_t precision;      /* P: 8 ... 12 */
  uint32_t block;          /* symbols per block, a multiple of 128 and at most 2^17; 0: tiled */
  uint32_t tile_rows;      /* R */
  uint32_t tile_cols;      /* C, a multiple of 4 W; R * C at most 2^17 */
  uint32_t context;        /* WCODEC_NONE, ... */
  uint32_t trellis;        /* v: 2 ... 8 */
  uint32_t tables;         /* number of tables; tables << precision is at most 2^16 */
  uint32_t column_classes; /* columns of map */
  const uint8_t *map;      /* table of [row class][column class]; with a trellis, pair of tables of [row class] or NULL */
  const uint8_t *rows;     /* class of every row of the section's matrix; NULL: all 0 */
  const uint8_t *columns;  /* class of every column; NULL: all 0 */
} wcodec_job;

/* How elements of `bytes` bytes (1, 2, 4 or 8) split into a symbol and rest planes (planes.md), and how tokens stand
 * for symbols. wcodec_split_planes and wcodec_join_planes look at the first three only.
 */
typedef struct {
  uint32_t bytes;
  uint32_t rest;   /* bits of the rest; (rest + 7) / 8 planes; a symbol has at most 16 bits */
  uint32_t sign;   /* where the top bit went: 0: it stayed, 1: below the rest, 2: lowest bit of the symbol */
  uint32_t base;   /* symbol = token + base */
  uint32_t zero;   /* 1: but 0 for token 0 */
  uint32_t packed; /* 1: the top rest plane, of rest % 8 bits, is packed without gaps; linear order only */
} wcodec_split;

/* Float types, by the number that the functions below take. */
enum { WCODEC_F32 = 0, WCODEC_F16 = 1, WCODEC_BF16 = 2, WCODEC_F64 = 3 };

/* Elements start ... start + count - 1 of a section of uniform.md: which step an element has. The step of an element
 * in row r and column c is number r * stride + c / group; steps begin with that of the first element, or, with
 * stride = 0, with that of column 0. */
typedef struct {
  uint64_t start, count;
  uint64_t cols;   /* columns of the matrix; at least 1 */
  uint64_t group;  /* at least 1 */
  uint64_t stride; /* 0: every row has the same steps */
  uint32_t zero;
  uint32_t levels; /* levels - zero and zero are at most 2^24 */
} wcodec_grid;

/* Columns of scaled weights to be searched for the cheapest path through a trellis each (entropy.md section 5). A symbol i
 * that follows z0 stands for the point 2 i + z0 (+ its shift); entry e of a table is symbol first + e, its first and last
 * entry also all that lie beyond. */
typedef struct {
  uint64_t rows, cols;    /* rows are steps, columns are trellises */
  uint64_t stride;        /* elements from a row of the output to the next */
  uint32_t v;             /* 2 ... 8 */
  uint32_t entries;       /* of a table; at least 1 */
  int32_t first;
  uint32_t zero, bytes;   /* symbol i is written as i + zero in 1 or 2 bytes */
  float low, high;        /* weights are cut off there: then all symbols looked at fit these bytes, and 16 bits */
  const float *costs;     /* [tables][entries] in squared steps: 2 tables, or 2 for every class of rows */
  const float *shifts;    /* [tables][entries]; NULL: all 0 */
  const uint8_t *classes; /* class of every row; NULL: all 0 */
} wcodec_search;

/* What the symbols of a window of trellis.md stand for. */
typedef struct {
  const void *rows;    /* float32 step of every row, the first one being that of the window's first element */
  const void *columns; /* float32 factor of every column of the matrix; NULL: none */
  const void *points;  /* float32 magnitudes [n_points] in place of |k| = 1, 2, ...; at most 64 */
  uint32_t n_points;
  uint32_t each; /* 0: rows has one step, for all rows */
  uint32_t zero;
  uint32_t kind; /* WCODEC_F32, ... */
} wcodec_lattice;

/* What the tokens of a trellis stand for (rans.md): symbols of `bytes` bytes, (h << bits | raw bits) << 1 | token mod 2, where h is
 * an outlier for tokens `escape` and `escape` + 1, else token / 2 + base, or 0 for tokens 0 and 1 when `zero`. */
typedef struct {
  const void *raw;          /* raw bits of the window's symbols, in element order: numbers of raw_bytes bytes */
  const uint32_t *outliers; /* h of the escaped symbols, block after block, by position in a block */
  const uint32_t *first;    /* [blocks + 1]: number of the first one of every block, and of all of them; not decreasing */
  uint32_t bytes;           /* 1 or 2 */
  uint32_t bits;            /* 0 ... 16 */
  uint32_t raw_bytes;       /* 1 or 2; 0: each number has `bits` bits, without gaps */
  uint32_t base, zero;
  uint32_t escape;          /* even; 256: there are none */
} wcodec_symbols;

/* The ABI number of this library: WCODEC_ABI when it was built. */
WCODEC_API int wcodec_abi(void);

/* Use the best instruction set of this CPU that is at most `cap`, in all threads; returns it. Not called: the best. */
WCODEC_API int wcodec_set_isa(int cap);

/* Number of blocks of a window. */
WCODEC_API uint64_t wcodec_blocks(const wcodec_job *job);

/* Bytes of scratch that decoding, encoding and counting of this window need. */
WCODEC_API uint64_t wcodec_decode_scratch(const wcodec_job *job);
WCODEC_API uint64_t wcodec_encode_scratch(const wcodec_job *job);

/* Read tables from their bytes: frequencies [tables][256] and the look-up [tables << precision] that decoding takes.
 * Returns the bytes that they take, 0 when one breaks a rule of entropy.md section 1.
 */
WCODEC_API uint64_t wcodec_read_tables(const uint8_t *data, uint64_t size, uint32_t tables, uint32_t precision,
                                       uint16_t *frequencies, uint32_t *lut);

/* Make frequencies [tables][256] that sum to 2^precision from counts [tables][256], every counted token getting one: those
 * of wcodec/coding/tables.py. */
WCODEC_API void wcodec_fit_tables(const uint64_t *counts, uint32_t tables, uint32_t precision, uint16_t *frequencies);

/* Write the bytes of tables to out, which has room for 514 of each; returns how many they are. */
WCODEC_API uint64_t wcodec_pack_tables(const uint16_t *frequencies, uint32_t tables, uint8_t *out);

/* Choose by a sample how x[count] of `bytes` bytes splits, symbols having at most `widest` (up to 11) bits besides the sign:
 * found[0 ... 2] are rest bits, place of the sign and highest symbol seen. count is not 0. */
WCODEC_API void wcodec_choose_split(const void *x, uint32_t bytes, uint64_t count, uint32_t widest, uint32_t *found);

/* 1 when a sample of bytes looks as if they had 8 bits of entropy each, else 0. */
WCODEC_API int wcodec_is_noise(const uint8_t *plane, uint64_t count);

/* Decode a window into out[count], in element order.
 *
 * lut: [tables << precision], for every slot of every table: frequency | (slot - start) << 12 | token << 24, 0 in
 * unused tables. states: [blocks][lanes]. offsets: [blocks + 1], in words, the last one being the end of the last
 * block. words: 2 * n_words bytes; what follows them need not be readable. Returns 0 or the rules broken (then out
 * holds nothing of use).
 */
WCODEC_API int wcodec_rans_decode(const wcodec_job *job, const uint32_t *lut, const uint32_t *states,
                                  const uint32_t *offsets, const uint8_t *words, uint64_t n_words, uint8_t *scratch,
                                  uint8_t *out);

/* The same, then join the symbol of every token with rest planes into out[count] elements. */
WCODEC_API int wcodec_rans_join(const wcodec_job *job, const uint32_t *lut, const uint32_t *states,
                                const uint32_t *offsets, const uint8_t *words, uint64_t n_words, uint8_t *scratch,
                                const wcodec_split *split, const uint8_t *const *rest, void *out);

/* Decode and look up in a codebook: wcodec_rans_decode and wcodec_gather in one pass. Every token of the look-up must be
 * below `entries`. */
WCODEC_API int wcodec_rans_gather(const wcodec_job *job, const uint32_t *lut, const uint32_t *states,
                                  const uint32_t *offsets, const uint8_t *words, uint64_t n_words, uint8_t *scratch,
                                  const void *centroids, uint32_t entries, uint32_t bytes, void *out);

/* Decode and dequantise. symbols: what tokens stand for; NULL: they are symbols of one byte. The context is WCODEC_TRELLIS. */
WCODEC_API int wcodec_trellis_decode(const wcodec_job *job, const uint32_t *lut, const uint32_t *states,
                                     const uint32_t *offsets, const uint8_t *words, uint64_t n_words, uint8_t *scratch,
                                     const wcodec_symbols *symbols, const wcodec_lattice *lattice, void *out);

/* Dequantise symbols[count] of `bytes` bytes (1 or 2). Scratch as for decoding. */
WCODEC_API void wcodec_trellis_dequantise(const wcodec_job *job, const void *symbols, uint32_t bytes, uint8_t *scratch,
                                          const wcodec_lattice *lattice, void *out);

/* Encode tokens[count], all of which have a frequency in their table.
 *
 * frequencies: [tables][256]. states: [blocks][lanes], per_block: [blocks], words: room for `room` words; count always
 * suffice. Returns the number of words; when there are more than room, words holds nothing of use.
 */
WCODEC_API uint64_t wcodec_rans_encode(const wcodec_job *job, const uint16_t *frequencies, const uint8_t *tokens,
                                       uint8_t *scratch, uint32_t *states, uint32_t *per_block, uint8_t *words,
                                       uint64_t room);

/* Add the number of symbols of every token to counts[tables][256]; precision is not looked at. Scratch as for decoding.
 */
WCODEC_API void wcodec_rans_histogram(const wcodec_job *job, const uint8_t *tokens, uint8_t *scratch, uint64_t *counts);

/* Split x[count] into symbols (bytes, or 16-bit numbers when they have more than 8 bits) and rest planes, lowest first.
 */
WCODEC_API void wcodec_split_planes(const wcodec_split *split, const void *x, uint64_t count, void *symbol,
                                    uint8_t *const *rest);

/* Split x[count] into tokens max(symbol - base, 0) mod 256 and rest planes, the top one packed where split says so.
 * Adds the first 4096 / every of every 4096 tokens to counts[256], and sets seen[256] to 1 for the others. range[0], range[1]: lowest symbol above 0 and highest one
 * so far; start with 2^8 or 2^16 (symbols of up to 8, or more bits) and 0. */
WCODEC_API void wcodec_split_tokens(const wcodec_split *split, const void *x, uint64_t count, uint32_t every,
                                    uint8_t *tokens, uint8_t *const *rest, uint64_t *counts, uint8_t *seen,
                                     uint32_t *range);

/* Join symbols of `symbol_bytes` bytes (1 or 2) with rest planes; base, zero and packed are not looked at. */
WCODEC_API void wcodec_join_planes(const wcodec_split *split, const void *symbol, uint32_t symbol_bytes,
                                   const uint8_t *const *rest, uint64_t count, void *out);

/* Pack the low `width` bits of (x - base) for x[count] of `bytes` bytes each into (count * width + 7) / 8 bytes. */
WCODEC_API void wcodec_pack_bits(const void *x, uint32_t bytes, uint64_t count, uint32_t width, uint64_t base,
                                 uint8_t *out);

/* The inverse; reads (count * width + 7) / 8 bytes. */
WCODEC_API void wcodec_unpack_bits(const uint8_t *data, uint32_t bytes, uint64_t count, uint32_t width, uint64_t base,
                                   void *out);

/* out[i] = centroids[index[i]] for `count` centroids of `bytes` bytes each and n indices of index_bytes (1 or 2) each.
 * Returns 1, or 0 when an index is not below count. */
WCODEC_API int wcodec_gather(const void *centroids, uint32_t count, uint32_t bytes, const void *index,
                             uint32_t index_bytes, uint64_t n, void *out);
/* Number of kept elements of a mask: bytes that are not zero, or, with `bits`, set bits, lowest of byte 0 first. */
WCODEC_API uint64_t wcodec_count_kept(const uint8_t *mask, uint64_t count, uint32_t bits);

/* Their ascending positions. out: room for `room` numbers, at least wcodec_count_kept; count is at most 2^32. */
WCODEC_API void wcodec_kept_positions(const uint8_t *mask, uint64_t count, uint32_t bits, uint32_t *out, uint64_t room);

/* Positions from gaps of `bytes` bytes (1, 2 or 4): in every block of `block` elements, at least 1, counts[b] of them,
 * each the position less the previous one (-1 before the first) less 1. blocks * block is at most 2^32.
 * Returns 1 when all lie in their blocks, else 0 (then out holds nothing of use). */
WCODEC_API int wcodec_gap_positions(const void *gaps, uint32_t bytes, const uint32_t *counts, uint64_t blocks,
                                    uint64_t block, uint32_t *out);

/* Write the mask bytes of bundles of gs.md, each of `high` rows of `cols` elements, from gaps of `bytes` bytes: in every one of
 * the `banks` lanes of bundle b, counts[b] of them. Returns 1 when all lie in their
 * bundles and every row keeps counts[b] * banks / high elements, else 0 (then the mask holds nothing of use). */
WCODEC_API int wcodec_bundle_mask(const void *gaps, uint32_t bytes, const uint32_t *counts, uint64_t bundles, uint32_t banks,
                                  uint32_t high, uint64_t cols, uint8_t *mask);

/* Write values[n] of `bytes` bytes (1, 2, 4 or 8) to ascending positions below count of out; with `clear`, zeros
 * everywhere else. */
WCODEC_API void wcodec_scatter(const uint32_t *positions, uint64_t n, const void *values, uint32_t bytes, void *out,
                               uint64_t count, int clear);

/* Turn tokens into integers of `bytes` bytes (1, 2 or 4): (token + base) << bits | raw low bits (rans.md), 0 for token 0
 * when `zero`; with a trellis, the token's lowest bit goes below all. raw: integers of raw_bytes bytes, 1 or 2; 0: bits is 0 and there are none. */
WCODEC_API void wcodec_join_tokens(const uint8_t *tokens, const void *raw, uint32_t raw_bytes, uint64_t count,
                                   uint32_t base, uint32_t zero, uint32_t bits, uint32_t trellis, uint32_t bytes,
                                   void *out);

/* A stream of random words (rng.md): key and the two fixed words of the counter. */
typedef struct {
  uint64_t seed;
  uint32_t id, stream;
} wcodec_philox;

/* Write elements start ... start + count - 1 of a stream of random numbers, rounded to a float type: uniform, or normal when
 * `normal` holds the 4096 integers of rng.md. scale and decay must be in the ranges of philox.md, so that no product is
 * subnormal. */
WCODEC_API void wcodec_philox_fill(const wcodec_philox *key, const uint32_t *normal, float scale, float decay,
                                   uint64_t start, uint64_t count, uint32_t kind, void *out);

/* Write 1 where the word of an element is below threshold, else 0; return the number of ones. */
WCODEC_API uint64_t wcodec_philox_draw(const wcodec_philox *key, uint32_t threshold, uint64_t start, uint64_t count,
                                       uint8_t *out);
/* step * (symbol - zero), rounded to a float type. Symbols have 1, 2 or 4 bytes. Returns 1 when one is not below levels;
 * out then holds nothing of use. */
WCODEC_API int wcodec_dequantise(const wcodec_grid *grid, const void *symbols, uint32_t symbol_bytes, const void *steps,
                                 uint32_t kind, void *out);

/* The symbols nearest to x / step, ties to even, cut off at 0 and levels - 1; zero where the step is 0. */
WCODEC_API void wcodec_quantise(const wcodec_grid *grid, const void *x, const void *steps, uint32_t symbol_bytes,
                                void *symbols);

/* Round float32 numbers to F16, BF16 or F64, ties to even. */
WCODEC_API void wcodec_round(const void *x, uint64_t count, uint32_t kind, void *out);

/* Add float32 numbers to others. Returns 1 when one that is added is infinite or no number. */
WCODEC_API int wcodec_add(void *total, const void *part, uint64_t count);

/* Bytes of scratch that the search needs. */
WCODEC_API uint64_t wcodec_search_scratch(const wcodec_search *job);

/* Write the symbols of the path with the least sum of weight * (x - point)^2 + cost of every column, by the float32
 * operations of wcodec/coding/trellis_search.py. x, weights (NULL: all 1): [rows][cols]. counts, sums [tables][entries]: NULL,
 * or incremented by the number of symbols, and by their (x - (2 i + z0)) * 65536, cut to integers. */
WCODEC_API void wcodec_trellis_search(const wcodec_search *job, const void *x, const void *weights, void *out,
                                      uint64_t *counts, int64_t *sums, void *scratch);

/* Multiply x[count], elements start ... of a matrix, by the step of their row times the factor of their column, and round to
 * lattice->kind. Only rows, columns, each and kind of the lattice are looked at; cols is not 0. */
WCODEC_API void wcodec_scale(const void *x, uint64_t start, uint64_t count, uint64_t cols, const wcodec_lattice *lattice,
                             void *out);

/* Bytes of scratch that running a net needs. data: the bytes of a net that keeps all rules of net.md. */
WCODEC_API uint64_t wcodec_net_scratch(const uint8_t *data);

/* Run a net on `chunks` chunks of a float32 matrix of integers below 2^17, of `cols` columns: chunk b * cols + c is column c of
 * rows 16 b ... 16 b + 15. levels: of every column; NULL: all have `level`. out, of the same shape, may be latents. */
WCODEC_API void wcodec_run_net(const uint8_t *data, const void *latents, uint64_t chunks, uint64_t cols, const uint8_t *levels,
                               uint32_t level, uint8_t *scratch, void *out);

/* 1 when two arrays of `size` bytes are equal, else 0. */
WCODEC_API int wcodec_same(const void *a, const void *b, uint64_t size);

#ifdef __cplusplus
}
#endif
#endif
