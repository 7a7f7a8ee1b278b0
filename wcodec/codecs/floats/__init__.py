"""Codecs of floats, bit for bit or approximately."""
