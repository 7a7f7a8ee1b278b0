"""The hot verbs as Triton kernels: one launch over the blocks of many sections, the same bytes as numpy (spec/gpu.md)."""
