"""Codecs of integers and bytes, and the choice of the smallest."""
