"""Codecs: each has a file and a spec page of its name, and its place in the table below.

``base``: what a codec is, and how sections are checked and decoded. ``lossless``: the smallest exact section of any array. By kind:
``integers`` and bytes, ``floats``, ``masks``, ``random`` numbers, ``factors``; what composes others stands here.
"""

from wcodec.codecs.base import Codec, Env, check, decode, decode_all, unit
from wcodec.codecs.codebook import Codebook
from wcodec.codecs.concat import Concat
from wcodec.codecs.factors.lowrank import LowRank
from wcodec.codecs.factors.tensortrain import TensorTrain
from wcodec.codecs.floats.nwc import Nwc
from wcodec.codecs.floats.planes import PlanesCodec
from wcodec.codecs.floats.trellis import Trellis
from wcodec.codecs.floats.uniform import Uniform
from wcodec.codecs.integers.bitpack import Bitpack
from wcodec.codecs.integers.const import Const
from wcodec.codecs.integers.rans import Rans
from wcodec.codecs.integers.raw import Raw
from wcodec.codecs.integers.zstd import Zstd
from wcodec.codecs.masks.bitmap import Bitmap
from wcodec.codecs.masks.draw import Draw
from wcodec.codecs.masks.gaps import Gaps
from wcodec.codecs.masks.gs import GatherScatter
from wcodec.codecs.masks.nm import NofM
from wcodec.codecs.random.mt19937 import Mt19937
from wcodec.codecs.random.philox import Philox
from wcodec.codecs.sparse import Sparse
from wcodec.codecs.sum import Sum

OWN: tuple[Codec, ...] = (
    *(Raw(), Const(), Bitpack(), Rans(), Zstd(), PlanesCodec(), Concat()),  # any array
    *(Codebook(), Sparse()),  # arrays of few values, and mostly of one
    *(Gaps(), Bitmap(), NofM(), GatherScatter()),  # masks
    *(Philox(), Mt19937(), Draw()),  # random numbers and masks, from a seed
    *(Uniform(), Trellis(), Nwc(), Sum(), LowRank(), TensorTrain()),  # floats, approximately
)
"""The codecs of the format."""

CODECS: dict[str, Codec] = {codec.name: codec for codec in OWN}
"""Every codec that this process knows, by name."""


def register(codec: Codec) -> None:
    """Make a codec from outside known to this process; files never do that. Raises ValueError.

    Its name has a dot, such as ``org.example.delta``, so that it can never be one of the format's own.
    """
    if "." not in codec.name or codec.name in CODECS:
        raise ValueError(f"a codec's name needs a dot and must be new, not {codec.name!r}")
    CODECS[codec.name] = codec


__all__ = ["CODECS", "Codec", "Env", "check", "decode", "decode_all", "register", "unit"]
