"""A module for every group of pages under `codecs/`; importing them enters their codecs."""

from . import codebook, linear, masks, nwc, plain, rans, seeds, sparse, trellis

__all__ = ["codebook", "linear", "masks", "nwc", "plain", "rans", "seeds", "sparse", "trellis"]
