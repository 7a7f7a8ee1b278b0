"""The public battery: it passes the format's codecs and one from outside, and finds the faults of a wrong one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from battery import make_env

import wcodec
from wcodec.codecs import CODECS, register
from wcodec.codecs.base import Codec, stream_of
from wcodec.errors import Corrupt, UnknownCodec
from wcodec.testing import check_codec, stored
from wcodec.types import MemoryStream, Section, Spec


class Xor(Codec):
    """Every byte with its bits turned, as a codec from outside would be written."""

    name = "test.xor"

    def parts(self, section, spec):
        from wcodec.codecs.base import StreamOf

        return {"data": StreamOf(spec.size)}

    def decode(self, section, spec, env, start, stop, out):
        size = spec.dtype.storage.itemsize
        with stream_of(section, "data").read(start * size, stop * size) as data:
            out[:] = np.frombuffer(np.bitwise_not(data), out.dtype)

    def encode(self, x, spec, env, **options: Any):
        return Section(self.name, {}, {"data": MemoryStream(np.bitwise_not(x.view(np.uint8)))})


class Shifted(Xor):
    """Forgets where a window starts."""

    name = "test.shifted"

    def decode(self, section, spec, env, start, stop, out):
        super().decode(section, spec, env, 0, stop - start, out)


@pytest.mark.parametrize("name", ["raw", "bitpack", "planes"])
def test_own_codecs_pass(name):
    assert check_codec(CODECS[name], CODECS[name].examples[:1]) > 30


def test_outside_codec_passes():
    assert check_codec(Xor()) > 200


def test_wrong_windows_are_found():
    with pytest.raises(AssertionError, match="other values"):
        check_codec(Shifted())


def test_register():
    spec, x = Spec.of("U8", 300), np.arange(300, dtype=np.uint8)
    data = stored(Xor().encode(x, spec, make_env()), spec, x)
    with wcodec.safe_open(data) as f, pytest.raises(UnknownCodec, match=r"test\.xor"):
        f.get_tensor("x")
    register(Xor())
    try:
        with wcodec.safe_open(data) as f:
            assert np.array_equal(f.get_tensor("x"), x)
        with pytest.raises(ValueError, match="new"):
            register(Xor())
    finally:
        del CODECS["test.xor"]
    with pytest.raises(ValueError, match="dot"):
        register(CODECS["raw"])


def test_files_are_checked_by_the_format_first():
    """A codec's own check only sees sections whose bytes are whole."""
    spec, x = Spec.of("U8", 3000), np.arange(3000, dtype=np.uint16).astype(np.uint8)
    data = bytearray(stored(Xor().encode(x, spec, make_env()), spec, x))
    data[100] ^= 1
    register(Xor())
    try:
        with wcodec.safe_open(bytes(data)) as f, pytest.raises(Corrupt):
            f.get_tensor("x")
    finally:
        del CODECS["test.xor"]
