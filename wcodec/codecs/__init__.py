"""Codecs: one file, one spec page and one line of this table each."""

from collections.abc import Mapping

from wcodec.codecs.base import Codec, Env, check, decode, decode_all, unit
from wcodec.codecs.bitmap import Bitmap
from wcodec.codecs.bitpack import Bitpack
from wcodec.codecs.concat import Concat
from wcodec.codecs.const import Const
from wcodec.codecs.gaps import Gaps
from wcodec.codecs.gs import GatherScatter
from wcodec.codecs.nm import NofM
from wcodec.codecs.planes import PlanesCodec
from wcodec.codecs.rans import Rans
from wcodec.codecs.raw import Raw
from wcodec.codecs.sparse import Sparse
from wcodec.codecs.zstd import Zstd

CODECS: Mapping[str, Codec] = {
    codec.name: codec
    for codec in (
        Raw(),
        Const(),
        Bitpack(),
        Rans(),
        Zstd(),
        PlanesCodec(),
        Concat(),
        Sparse(),
        Gaps(),
        Bitmap(),
        NofM(),
        GatherScatter(),
    )
}

__all__ = ["CODECS", "Codec", "Env", "check", "decode", "decode_all", "unit"]
