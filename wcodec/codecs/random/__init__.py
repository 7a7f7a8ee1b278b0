"""Codecs of random numbers: a seed stands for an array."""
