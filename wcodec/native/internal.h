/* What the source files of the library share. */
#ifndef WCODEC_INTERNAL_H
#define WCODEC_INTERNAL_H

#include <string.h>

#include "wcodec.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "wcodec's kernels are for little-endian machines"
#endif

#if (defined(__x86_64__) || defined(__amd64__)) && !defined(WCODEC_SCALAR_ONLY)
#define WK_X86 1
#else
#define WK_X86 0
#endif

#define WK_INLINE static inline __attribute__((always_inline))

/* Arrays of callers may be unaligned, and are read as bytes and as numbers. */
typedef uint16_t __attribute__((aligned(1), may_alias)) wk_u16;
typedef uint32_t __attribute__((aligned(1), may_alias)) wk_u32;
typedef uint64_t __attribute__((aligned(1), may_alias)) wk_u64;
typedef float __attribute__((aligned(1), may_alias)) wk_f32;
typedef double __attribute__((aligned(1), may_alias)) wk_f64;

enum {
  WK_LOW = 1 << 16, /* lower bound of a state, and its first and last value */
  WK_WIDE = 32,     /* lanes that the vector code takes */
  WK_GROUP = 128,   /* symbols of four steps of that many lanes */
  WK_READ = 256,    /* bytes of words that a vector group may touch from where it starts, at most */
  WK_PARTS = 8,     /* histograms side by side: equal neighbours would wait for each other's store */
  WK_FLIGHT = 4,      /* blocks decoded side by side, at most */
  WK_LINE = 64,     /* bytes of a cache line */
  WK_LARGE = 1 << 20, /* bytes of output that would only drive other things out of the caches */
  WK_MANY = 1 << 14,  /* symbols that are worth a look at all of the tables */
  WK_CHUNK = 4096,  /* elements that are worked on at once, in the first-level cache */
  WK_TURN = 1024,   /* symbols of a block that are decoded before something else is done with them: look-ups and other blocks need room, too */
  WK_BURST = 256,   /* the same before a codebook: stores past the caches go on while the next ones are decoded */
};

/* The parity polynomials of entropy.md section 5, shifted right by 1: what a bit of the register's input adds. */
extern const uint8_t wk_polynomials[9][2];

/* ---- Order ------------------------------------------------------------------------------------------------------- */

/* A block is `rows` runs of `cols` symbols; run r starts at element `element` + r * the matrix's columns. */
typedef struct {
  uint64_t element;
  uint32_t rows, cols;
} wk_shape;

wk_shape wk_shape_of(const wcodec_job *job, uint64_t block);

/* Positions from one run of a block to the next; also the number of trellises in tiled order. */
WK_INLINE uint32_t wk_span(const wcodec_job *job) { return job->block ? job->block : job->tile_rows * job->tile_cols; }

WK_INLINE uint32_t wk_trellises(const wcodec_job *job) { return job->block ? 4 * job->lanes : job->tile_cols; }

/* ---- Contexts ---------------------------------------------------------------------------------------------------- */

/* Write the tables of n symbols from element (of the window) on: context `classes`. */
void wk_classes(const wcodec_job *job, uint64_t element, uint64_t n, uint8_t *table);

/* The first table of a row of the matrix: context `trellis`. */
WK_INLINE uint32_t wk_first_table(const wcodec_job *job, uint64_t row) {
  return job->map ? 2u * job->map[job->rows ? job->rows[row] : 0] : 0;
}

/* Write the tables of a run of n known tokens of one row, and step the trellises: state[0] is that of the first position. */
void wk_trellis_run(const wcodec_job *job, uint64_t element, uint8_t *state, const uint8_t *token, uint64_t n,
                    uint8_t *table);

/* ---- Decoding ---------------------------------------------------------------------------------------------------- */

/* A block while it is decoded. */
typedef struct {
  uint32_t x[WK_WIDE];
  const uint8_t *at;    /* next word */
  const uint8_t *end;   /* end of the block's words */
  const uint8_t *limit; /* a vector group may start at or below */
  uint8_t *token;       /* where the next tokens go */
  uint8_t *table;       /* tables of the next symbols (classes), or where their z0 goes (trellis) */
  uint8_t *trellis;     /* trellises of the next symbols */
  uint32_t width;       /* number of trellises after which they begin anew */
  const uint32_t *first; /* where in the look-up the tables of every group begin (trellis) */
  int number;           /* of those decoded together */
  int bad;              /* rules broken so far */
  const wk_u32 *escaped, *escaped_end; /* values of the next escaped symbols of a trellis */
  uint8_t tail[2 * WK_READ];
} wk_stream;

/* Constant for a call. */
typedef struct {
  const uint32_t *lut;
  uint32_t precision, context;
  uint8_t h0, h1;
  int used; /* all tables are: with a trellis, nothing else is looked out for */
} wk_model;

/* Make the next vector group safe: called when s->at > s->limit. */
void wk_refill(wk_stream *s);

/* Decode n symbols of a run: groups of 4 * lanes, the last one perhaps cut off, all of the first group's tables. Exactly
 * what the specification says. */
void wk_decode_scalar(wk_stream *s, const wk_model *m, uint32_t lanes, uint64_t n);

/* ---- Encoding ---------------------------------------------------------------------------------------------------- */

/* A block while it is encoded, last symbol first. */
typedef struct {
  uint32_t x[WK_WIDE];
  uint8_t *at;          /* words are written below */
  const uint8_t *token; /* first token of the groups to be encoded */
  const uint8_t *table; /* their tables; NULL: all 0 */
} wk_writer;

/* packed: frequency (at least 1) | start << 16 of [table][token]. reciprocal: floor(2^32 / frequency).
 * planes: the bytes of packed of the first table, lowest first; the tokens used differ modulo `modulus`, which is 64, 128
 * or 256, and so do their places. */
typedef struct {
  const uint32_t *packed;
  const uint64_t *reciprocal;
  uint32_t precision, modulus;
  uint8_t planes[4][256];
} wk_coder;

/* Encode the n symbols of a run from w->token on. */
void wk_encode_scalar(wk_writer *w, const wk_coder *c, uint32_t lanes, uint64_t n);

/* ---- Codebooks --------------------------------------------------------------------------------------------------- */

/* A codebook as look-up needs it. Byte k of entry i is also plane[k][i] where there are at most 256 entries of at most 8
 * bytes. */
typedef struct {
  const uint8_t *entries;
  uint32_t count, bytes;
  uint8_t plane[8][256];
} wk_book;

void wk_open_book(wk_book *book, const void *centroids, uint32_t count, uint32_t bytes);

/* ---- Trellises --------------------------------------------------------------------------------------------------- */

/* A lattice as dequantising needs it. magnitude: in place of |k| up to 64. value: of k = 2 * (u - zero) + z0, for symbols u
 * of one byte, at 2 * u + z0. */
typedef struct wk_lattice {
  const wk_f32 *rows, *columns;
  uint64_t cols;
  uint32_t n_points, each, zero, kind;
  wk_f32 magnitude[65], value[512];
  wk_book book;
  uint8_t entries[256 * 8];
  int joins; /* tokens become values by join_lattice, with this in it */
  uint16_t offset;
} wk_lattice;

/* Raw bits of the elements of a piece, `stride` bytes from row to row: packed, or a byte each. */
typedef struct {
  const uint8_t *data;
  uint64_t stride;
  uint32_t bits;
  int packed;
} wk_raw;

/* Symbols of `bytes` bytes (1 or 2), and z0 of each: [rows][n]. stride: bytes from row to row of out. past: store past the
 * caches, where rows of out are aligned to WK_LINE. */
typedef struct {
  const uint8_t *symbols, *z0;
  uint32_t bytes;
  uint64_t rows, n, stride;
  int past;
  uint8_t *out;
} wk_piece;

void wk_open_lattice(wk_lattice *l, const wcodec_lattice *lattice, const wcodec_job *job);

/* Write what symbols stand for, the first one being in a row of the window and a column of the matrix: in several rows, or on to
 * the next ones where the piece has one. In the float mode that wk_exact_mode sets. */
void wk_dequantise(const wk_lattice *l, uint64_t row, uint64_t column, const wk_piece *piece);

/* What tokens stand for, as numbers of 16 bits: ((token / 2 + base) & ~(zero where token < 2)) * factor + (raw & mask) * 2 + token
 * mod 2, cut off. packed: raw has no gaps. */
typedef struct {
  const wcodec_symbols *wire;
  uint64_t cols;
  uint32_t raw_bytes;
  int packed;
  uint16_t base, zero, factor, mask, cut;
} wk_alphabet;

void wk_open_alphabet(wk_alphabet *a, const wcodec_symbols *symbols, const wcodec_job *job);

/* Choose how the tokens of a look-up [count] of tables become values: by a codebook with an entry for every token and z0, where there is
 * one step and few tokens; or by join_lattice, where all numbers are far from their limits. a: NULL where tokens are symbols. */
void wk_open_tokens(wk_lattice *l, const wk_alphabet *a, const wcodec_job *job, const uint32_t *lut, uint64_t count);

/* Write what the tokens of a piece, at most WK_TURN of them, stand for: wk_dequantise of their symbols, element `at` of the window
 * being the first. Escaped values are those of the stream, which is marked bad when it has too few. */
void wk_dequantise_tokens(const wk_lattice *l, const wk_alphabet *a, wk_stream *s, uint64_t at, uint64_t row, uint64_t column,
                          const wk_piece *piece);

WK_INLINE uint32_t wk_float_size(uint32_t kind) { return kind == WCODEC_F64 ? 8 : kind == WCODEC_F32 ? 4 : 2; }

/* Callers may run with subnormal numbers flushed to zero, or another rounding. Returns what wk_restore_mode takes. */
uint64_t wk_exact_mode(void);
void wk_restore_mode(uint64_t mode);

/* ---- Random numbers ---------------------------------------------------------------------------------------------- */

enum { WK_UNIFORM, WK_NORMAL, WK_DRAW };
enum { WK_NORMALS = 4096 };

/* The multipliers of a round. */
#define WK_PHILOX_0 0xD2511F53u
#define WK_PHILOX_1 0xCD9E8D57u

/* What a stream of words becomes. keys: of every round. */
typedef struct {
  int kind;
  uint32_t type; /* of the floats: WCODEC_F32, ... */
  uint32_t id, stream, threshold;
  uint32_t keys[10][2];
  float scale, decay;     /* uniform: scale * 2^-23 */
  const uint32_t *normal; /* the bits of WK_NORMALS finished magnitudes, F32 where the type is F64 */
} wk_philox;

/* ---- Trellis search ---------------------------------------------------------------------------------------------- */

/* wcodec_trellis_search for one number of states; scratch is aligned to WK_LINE. */
typedef void (*wk_search)(const wcodec_search *job, const float *x, const float *weights, void *out, uint64_t *counts,
                          int64_t *sums, uint8_t *scratch);

/* ---- Nets -------------------------------------------------------------------------------------------------------- */

enum { WK_LINEAR = 1, WK_REQUANTISE, WK_GATE, WK_SAVE, WK_RESIDUAL };

enum {
  WK_NET_CHUNKS = 32, /* chunks that a net runs at once */
  WK_NET_BLOCK = 16,  /* numbers of a chunk that are worked on at once; widths are rounded up to it, with zeros */
  WK_NET_MANY = 64,   /* outputs of a linear operation that are summed up at once, as long as there are so many */
};

/* An operation of net.md with the requantisation after it, if one follows. width: numbers before it, rounded up; outputs: after it.
 * limits: without requantisation none that matters. Linear: inputs are packed as `group` neighbours in each of `groups` numbers of 32
 * bits: four bytes where no input can be negative, or two halves. narrow: numbers before it fit in 16 bits.
 * table: what is added before the shift, shifts to the right, and then factors of all levels or shifts to the left; of a linear
 * operation the same and the groups of weights for WK_NET_MANY outputs, for the next ones, and for every block of the rest. */
typedef struct {
  uint32_t code, width, outputs, low, high, group, groups;
  int narrow;
  const uint8_t *bytes, *shifts;
  const int32_t *table;
} wk_net_op;

typedef struct {
  uint32_t clip, shift, levels, count, widest;
  wk_net_op ops[255];
} wk_net;

/* wcodec_run_net; scratch is aligned to WK_LINE. */
typedef void (*wk_run_net)(const wk_net *net, const wk_f32 *latents, uint64_t chunks, uint64_t cols, const uint8_t *levels,
                           uint8_t level, uint8_t *scratch, wk_f32 *out);

#define WK_NET(isa)                                                                                                   \
  void wk_net_##isa(const wk_net *net, const wk_f32 *latents, uint64_t chunks, uint64_t cols, const uint8_t *levels, \
                    uint8_t level, uint8_t *scratch, wk_f32 *out);

WK_NET(scalar)
WK_NET(avx2)
WK_NET(avx512)
WK_NET(vnni)

/* ---- Instruction sets -------------------------------------------------------------------------------------------- */

/* Float32 arithmetic; steps: one for all elements, or one each. */
typedef struct {
  /* step * (symbol - zero); returns the largest symbol. */
  uint32_t (*dequantise)(const void *symbols, uint32_t bytes, uint64_t count, const wk_f32 *steps, int each, uint32_t zero,
                         wk_f32 *out);
  void (*quantise)(const wk_f32 *x, uint64_t count, const wk_f32 *steps, int each, uint32_t zero, uint32_t levels,
                   uint32_t bytes, void *out);
  void (*round)(const wk_f32 *x, uint64_t count, uint32_t kind, void *out);
  int (*add)(wk_f32 *total, const wk_f32 *part, uint64_t count);
  /* Values of n symbols of a row; columns: factors of their columns, NULL: none. */
  void (*lattice)(const wk_lattice *l, const void *symbols, uint32_t bytes, const uint8_t *z0, uint64_t n,
                  float step, const wk_f32 *columns, wk_f32 *out);
  /* Elements of a row by its step, or by that times the factors of their columns. */
  void (*scale)(const wk_f32 *x, uint64_t n, float step, const wk_f32 *columns, wk_f32 *out);
} wk_floats;

/* Kernels of an instruction set. */
typedef struct {
  int flight; /* blocks that decode takes at once: 2, or 4 */
  /* Decode whole groups of k (1 ... flight, with classes 1 or 2) blocks with 32 lanes. A damaged block ends up marked bad, or with states or words
   * that show it; which rule it breaks is for the scalar code to say, with which the caller decodes it again.
   * NULL: scalar. */
  void (*decode)(wk_stream *s, int k, const wk_model *m, uint64_t groups);
  /* Encode whole groups of k blocks with 32 lanes; precision at least 10. NULL: scalar. */
  void (*encode)(wk_writer *w, int k, const wk_coder *c, uint64_t groups);
  /* table[i] = map[class[i]], map having at most 16 entries. NULL: none. */
  void (*look_up)(const uint8_t *map, uint32_t entries, const uint8_t *class, uint64_t n, uint8_t *table);
  /* Unpack n bytes of width bits (1 ... 7) from bit 0 of data on, reading no more than they take. NULL: scalar. */
  void (*unpack)(const uint8_t *data, uint32_t width, uint64_t n, uint8_t *out);
  /* The inverse, of the low bits of x. NULL: scalar. */
  void (*pack)(const uint8_t *x, uint32_t width, uint64_t n, uint8_t *out);
  void (*split)(const wcodec_split *split, const void *x, uint64_t count, void *symbol, uint8_t *const *rest);
  /* Symbols to tokens, and the range of the symbols: wcodec_split_tokens. */
  void (*tokens)(const void *symbol, uint32_t symbol_bytes, uint64_t count, uint32_t base, uint8_t *token,
                 uint32_t *range);
  /* Both in one pass, the top plane not packed. Returns the elements done, none of most layouts. NULL: none. */
  uint64_t (*take_apart)(const wcodec_split *split, const void *x, uint64_t count, uint8_t *token,
                         uint8_t *const *plane, uint32_t *range);
  /* flags[token[i]] = 1 */
  void (*mark)(const uint8_t *token, uint64_t n, uint8_t *flags);
  /* Join with symbol[i] + split->base, or 0 where split->zero and symbol[i] = 0. past: store past the caches, out being
   * aligned to WK_LINE. */
  void (*join)(const wcodec_split *split, const void *symbol, uint32_t symbol_bytes, const uint8_t *const *rest,
               uint64_t count, int past, void *out);
  /* Entries at n indices of index_bytes (1 or 2) each, all of them below book->count. past: as for join. */
  void (*gather)(const wk_book *book, const void *index, uint32_t index_bytes, uint64_t n, int past, uint8_t *out);
  /* Elements start ... of a stream: floats, or mask bytes, whose sum is returned. */
  uint64_t (*philox)(const wk_philox *p, uint64_t start, uint64_t count, void *out);
  const wk_floats *floats;
  /* Symbols that n tokens of a row stand for, as a says; raw: numbers of raw_bytes bytes, 0: none. */
  void (*symbols)(const wk_alphabet *a, const uint8_t *tokens, const void *raw, uint32_t raw_bytes, uint64_t n, wk_u16 *out);
  /* Values of a piece's symbols, rounded to l->kind. steps: those of its rows, or one where l->each is 0; columns: factors of its
   * columns, NULL: none. Returns how many columns it has written. NULL: none. */
  uint64_t (*dequantise)(const wk_lattice *l, const wk_piece *piece, const wk_f32 *steps, const wk_f32 *columns);
  /* Entries 2 * token + z0 of a codebook of 64, 128 or 256, modulo that. NULL: none. */
  void (*look_up_lattice)(const wk_book *book, const wk_piece *piece);
  /* Values of a piece's tokens in rows of whole lines, for l->joins. NULL: none. */
  void (*join_lattice)(const wk_lattice *l, const wk_piece *piece, const wk_raw *raw, const wk_f32 *steps, const wk_f32 *columns);
  /* Whether one of n tokens is `escape` or the next. */
  int (*escapes)(const uint8_t *tokens, uint64_t n, uint8_t escape);
  const wk_search *search; /* by v */
  wk_run_net net;
} wk_kernels;

const wk_kernels *wk_current(void);

/* The instruction set in use: WCODEC_SCALAR, ... */
int wk_isa(void);

/* Pack bytes of 1 to 7 bits without vectors: also the ends of longer runs. */
void wk_pack_scalar(const uint8_t *x, uint32_t width, uint64_t n, uint8_t *out);

void wk_mark_scalar(const uint8_t *token, uint64_t n, uint8_t *flags);

/* Count n tokens, at most 2^30 until the counts are added up. */
void wk_count(const uint8_t *tokens, uint64_t n, uint32_t part[WK_PARTS][256]);
void wk_count_up(uint32_t part[WK_PARTS][256], uint64_t *counts);

/* Positions of the kept among mask elements from ... count - 1 (64 per word): wcodec_kept_positions. */
void wk_bits_scalar(const uint8_t *mask, uint64_t from, uint64_t count, uint32_t *out);
void wk_bytes_scalar(const uint8_t *mask, uint64_t from, uint64_t count, uint32_t *out);

#define WK_PLANES(isa)                                                                         \
  void wk_split_##isa(const wcodec_split *, const void *, uint64_t, void *, uint8_t *const *); \
  void wk_tokens_##isa(const void *, uint32_t, uint64_t, uint32_t, uint8_t *, uint32_t *);     \
  void wk_join_##isa(const wcodec_split *, const void *, uint32_t, const uint8_t *const *, uint64_t, int, void *);

#define WK_TRELLIS(isa)                                                                                                    \
  void wk_symbols_##isa(const wk_alphabet *a, const uint8_t *tokens, const void *raw, uint32_t raw_bytes, uint64_t n,      \
                        wk_u16 *out);                                                                                      \
  int wk_escapes_##isa(const uint8_t *tokens, uint64_t n, uint8_t escape);                                                 \
  uint64_t wk_dequantise_##isa(const wk_lattice *l, const wk_piece *piece, const wk_f32 *steps, const wk_f32 *columns);

int wk_escapes_scalar(const uint8_t *tokens, uint64_t n, uint8_t escape);
void wk_symbols_scalar(const wk_alphabet *a, const uint8_t *tokens, const void *raw, uint32_t raw_bytes, uint64_t n, wk_u16 *out);
WK_PLANES(scalar)
void wk_gather_scalar(const wk_book *book, const void *index, uint32_t index_bytes, uint64_t n, int past, uint8_t *out);
uint64_t wk_philox_scalar(const wk_philox *p, uint64_t start, uint64_t count, void *out);
extern const wk_floats wk_floats_scalar, wk_floats_avx2, wk_floats_avx512;
extern const wk_search wk_search_scalar[9], wk_search_avx2[9], wk_search_avx512[9];
#if WK_X86
void wk_gather_avx2(const wk_book *book, const void *index, uint32_t index_bytes, uint64_t n, int past, uint8_t *out);
void wk_look_up_lattice_vbmi(const wk_book *book, const wk_piece *piece);
void wk_join_lattice_vbmi(const wk_lattice *l, const wk_piece *piece, const wk_raw *raw, const wk_f32 *steps, const wk_f32 *columns);
void wk_gather_vbmi(const wk_book *book, const void *index, uint32_t index_bytes, uint64_t n, int past, uint8_t *out);
uint64_t wk_philox_avx2(const wk_philox *p, uint64_t start, uint64_t count, void *out);
uint64_t wk_philox_avx512(const wk_philox *p, uint64_t start, uint64_t count, void *out);
WK_PLANES(avx2)
WK_PLANES(avx512)
void wk_bits_avx512(const uint8_t *mask, uint64_t count, uint32_t *out, uint64_t room);
uint64_t wk_count_bits_avx512(const uint8_t *bits, uint64_t count);
void wk_bytes_avx512(const uint8_t *mask, uint64_t count, uint32_t *out, uint64_t room);
void wk_decode_avx2(wk_stream *s, int k, const wk_model *m, uint64_t groups);
void wk_decode_avx512(wk_stream *s, int k, const wk_model *m, uint64_t groups);
void wk_decode_gfni(wk_stream *s, int k, const wk_model *m, uint64_t groups);
WK_TRELLIS(avx2)
WK_TRELLIS(avx512)
void wk_encode_avx2(wk_writer *w, int k, const wk_coder *c, uint64_t groups);
void wk_encode_avx512(wk_writer *w, int k, const wk_coder *c, uint64_t groups);
uint64_t wk_take_apart_vbmi(const wcodec_split *split, const void *x, uint64_t count, uint8_t *token,
                            uint8_t *const *plane, uint32_t *range);
void wk_mark_vbmi(const uint8_t *token, uint64_t n, uint8_t *flags);
void wk_encode_vbmi(wk_writer *w, int k, const wk_coder *c, uint64_t groups);
void wk_look_up_avx2(const uint8_t *map, uint32_t entries, const uint8_t *class, uint64_t n, uint8_t *table);
void wk_unpack_avx2(const uint8_t *data, uint32_t width, uint64_t n, uint8_t *out);
void wk_unpack_vbmi(const uint8_t *data, uint32_t width, uint64_t n, uint8_t *out);
void wk_pack_avx2(const uint8_t *x, uint32_t width, uint64_t n, uint8_t *out);
#endif
#endif
