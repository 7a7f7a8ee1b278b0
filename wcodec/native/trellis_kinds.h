/* The choice among the loops of an instruction set: included after its `run`. */

WK_INLINE void any_parts(const wk_lattice *l, const uint8_t *symbols, const uint8_t *z0, uint64_t n, float step,
                         const wk_f32 *columns, const uint32_t kind, uint8_t *out) {
  if (columns && l->n_points) run(l, symbols, z0, n, step, columns, 1, 1, kind, out);
  else if (columns) run(l, symbols, z0, n, step, columns, 1, 0, kind, out);
  else if (l->n_points) run(l, symbols, z0, n, step, columns, 0, 1, kind, out);
  else run(l, symbols, z0, n, step, columns, 0, 0, kind, out);
}

static void any_kind(const wk_lattice *l, const uint8_t *symbols, const uint8_t *z0, uint64_t n, float step,
                     const wk_f32 *columns, uint8_t *out) {
  if (l->kind == WCODEC_BF16) any_parts(l, symbols, z0, n, step, columns, WCODEC_BF16, out);
  else if (l->kind == WCODEC_F32) any_parts(l, symbols, z0, n, step, columns, WCODEC_F32, out);
  else any_parts(l, symbols, z0, n, step, columns, WCODEC_F16, out);
}
