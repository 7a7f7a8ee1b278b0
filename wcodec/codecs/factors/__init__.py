"""Codecs of matrices and tensors as products, tolerant."""
