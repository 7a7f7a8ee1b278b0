"""Codecs: one file, one spec page and one line of this table each."""

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

OWN = (
    *(Raw(), Const(), Bitpack(), Rans(), Zstd(), PlanesCodec(), Concat()),
    *(Uniform(), Sum(), Codebook(), Sparse(), Gaps(), Bitmap(), NofM(), GatherScatter(), Draw(), Philox(), Mt19937()),
    *(LowRank(), TensorTrain()),
)

CODECS: dict[str, Codec] = {codec.name: codec for codec in OWN}


def register(codec: Codec) -> None:
    """Make a codec from outside known to this process; files never do that. Raises ValueError.

    Its name has a dot, such as ``org.example.delta``, so that it can never be one of the format's own.
    """
    if "." not in codec.name or codec.name in CODECS:
        raise ValueError(f"a codec's name needs a dot and must be new, not {codec.name!r}")
    CODECS[codec.name] = codec


__all__ = ["CODECS", "Codec", "Env", "check", "decode", "decode_all", "register", "unit"]
