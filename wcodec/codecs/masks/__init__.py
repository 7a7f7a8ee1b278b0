"""Codecs of masks, and the choice of the smallest."""
