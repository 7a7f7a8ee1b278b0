"""The verbs that codecs call, each defined by numpy; a faster backend overrides some and must give the same bytes."""

from __future__ import annotations

from wcodec.backends.numpy.masks import MaskVerbs
from wcodec.backends.numpy.memory import MemoryVerbs
from wcodec.backends.numpy.net import NetVerbs
from wcodec.backends.numpy.random import RandomVerbs
from wcodec.backends.numpy.search import SearchVerbs
from wcodec.backends.numpy.trellis import TrellisVerbs


class Backend(MemoryVerbs, MaskVerbs, RandomVerbs, SearchVerbs, TrellisVerbs, NetVerbs):
    """The numpy backend: reference for all others. ``TrellisVerbs`` brings those of entropy coding and floats with it.

    Arrays are one-dimensional and contiguous; callers have checked sizes and ranges. What a file can still get wrong, the verbs
    find out: damaged words [E-6, E-7], indices [CODEBOOK-2], symbols [UNIFORM-3], terms of a sum [SUM-2].
    """

    name = "numpy"
