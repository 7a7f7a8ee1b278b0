"""Codecs: each has a file and a spec page of its name, and its place in the table below.

The other files serve several of them. For all: ``base`` (what a codec is, and how sections are checked and decoded), ``params``.
Choosing: ``smallest``, ``lossless``, ``masking``, ``wide``, ``runs``. Shared by kinds of codecs: ``masks``, ``fills`` (random numbers),
``matrix``, ``factoring``. Encoding of one codec: ``splitting`` (planes), ``rans_encoder``.
"""

from wcodec.codecs.base import Codec, Env, check, decode, decode_all, unit
from wcodec.codecs.bitmap import Bitmap
from wcodec.codecs.bitpack import Bitpack
from wcodec.codecs.codebook import Codebook
from wcodec.codecs.concat import Concat
from wcodec.codecs.const import Const
from wcodec.codecs.draw import Draw
from wcodec.codecs.gaps import Gaps
from wcodec.codecs.gs import GatherScatter
from wcodec.codecs.lowrank import LowRank
from wcodec.codecs.mt19937 import Mt19937
from wcodec.codecs.nm import NofM
from wcodec.codecs.philox import Philox
from wcodec.codecs.planes import PlanesCodec
from wcodec.codecs.rans import Rans
from wcodec.codecs.raw import Raw
from wcodec.codecs.sparse import Sparse
from wcodec.codecs.sum import Sum
from wcodec.codecs.tensortrain import TensorTrain
from wcodec.codecs.uniform import Uniform
from wcodec.codecs.zstd import Zstd

OWN: tuple[Codec, ...] = (
    *(Raw(), Const(), Bitpack(), Rans(), Zstd(), PlanesCodec(), Concat()),  # any array
    *(Codebook(), Sparse()),  # arrays of few values, and mostly of one
    *(Gaps(), Bitmap(), NofM(), GatherScatter()),  # masks
    *(Philox(), Mt19937(), Draw()),  # random numbers and masks, from a seed
    *(Uniform(), Sum(), LowRank(), TensorTrain()),  # floats, approximately
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
