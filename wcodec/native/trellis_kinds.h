/* The choice among the loops of an instruction set: included after its `run`. */

WK_INLINE void any_parts(const wk_lattice *l, const wk_piece *p, const wk_f32 *steps, const wk_f32 *columns, uint64_t n,
                         const uint32_t bytes, const uint32_t kind) {
  if (columns && l->n_points) run(l, p, steps, columns, n, 1, 1, bytes, kind);
  else if (columns) run(l, p, steps, columns, n, 1, 0, bytes, kind);
  else if (l->n_points) run(l, p, steps, columns, n, 0, 1, bytes, kind);
  else run(l, p, steps, columns, n, 0, 0, bytes, kind);
}

WK_INLINE void any_kind(const wk_lattice *l, const wk_piece *p, const wk_f32 *steps, const wk_f32 *columns, uint64_t n,
                        const uint32_t bytes) {
  if (l->kind == WCODEC_BF16) any_parts(l, p, steps, columns, n, bytes, WCODEC_BF16);
  else if (l->kind == WCODEC_F32) any_parts(l, p, steps, columns, n, bytes, WCODEC_F32);
  else any_parts(l, p, steps, columns, n, bytes, WCODEC_F16);
}

/* The first n columns of every row of a piece. */
static void any_piece(const wk_lattice *l, const wk_piece *p, const wk_f32 *steps, const wk_f32 *columns, uint64_t n) {
  if (p->bytes == 1) any_kind(l, p, steps, columns, n, 1);
  else any_kind(l, p, steps, columns, n, 2);
}
