"""Codecs: one file, one spec page and one line of this table each."""

from collections.abc import Mapping

from wcodec.codecs.base import Codec, Env, check, decode, decode_all, unit
from wcodec.codecs.bitpack import Bitpack
from wcodec.codecs.concat import Concat
from wcodec.codecs.const import Const
from wcodec.codecs.draw import Draw
from wcodec.codecs.mt19937 import Mt19937
from wcodec.codecs.philox import Philox
from wcodec.codecs.planes import PlanesCodec
from wcodec.codecs.rans import Rans
from wcodec.codecs.raw import Raw
from wcodec.codecs.zstd import Zstd

_ALL = (Raw(), Const(), Bitpack(), Rans(), Zstd(), PlanesCodec(), Concat(), Draw(), Philox(), Mt19937())

CODECS: Mapping[str, Codec] = {codec.name: codec for codec in _ALL}

__all__ = ["CODECS", "Codec", "Env", "check", "decode", "decode_all", "unit"]
