"""The Triton backend: kernels for the hot verbs, torch's operations for the others."""

from __future__ import annotations

from wcodec.backends.torch import TorchBackend
from wcodec.backends.triton.bits import TritonBits
from wcodec.backends.triton.codebook import TritonCodebook
from wcodec.backends.triton.floats import TritonFloats
from wcodec.backends.triton.masks import TritonMasks
from wcodec.backends.triton.net import TritonNet
from wcodec.backends.triton.patterns import TritonPatterns
from wcodec.backends.triton.planes import TritonPlanes
from wcodec.backends.triton.random import TritonRandom
from wcodec.backends.triton.rans import TritonRans
from wcodec.backends.triton.tokens import TritonTokens


class TritonBackend(
    TritonRans,
    TritonTokens,
    TritonCodebook,
    TritonPlanes,
    TritonBits,
    TritonMasks,
    TritonPatterns,
    TritonRandom,
    TritonFloats,
    TritonNet,
    TorchBackend,
):
    """Verbs on tensors of one device, the hot ones as one launch over the blocks of all sections of a batch."""

    name = "triton"
