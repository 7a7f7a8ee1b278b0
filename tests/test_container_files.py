"""Atomic writing, and zstd frames that lie."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from containers import raw
from hypothesis import given, settings
from hypothesis import strategies as st

from wcodec.container import zstdframe
from wcodec.container.atomic import AtomicFile
from wcodec.container.reader import ContainerReader
from wcodec.container.writer import ContainerWriter
from wcodec.errors import Corrupt, Truncated
from wcodec.types import MemoryStream, Section, Spec

DIGEST = bytes(32)


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


class Broken:
    """A stream that fails while it is written."""

    size = 40 << 20

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def read(self, start, stop):
        if start:
            raise self.error
        return MemoryStream(np.zeros(self.size, np.uint8)).read(start, stop)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [None, b"old"])
def test_failed_write_leaves_no_file(tmp_path, error, old):
    path = tmp_path / "m.wcodec"
    if old:
        path.write_bytes(old)
    with pytest.raises(type(error)), ContainerWriter(path, force=True) as writer:
        writer.add("a", Spec.of("U8", 1), Section("x", {}, {"p": Broken(error)}), DIGEST)
    assert names_in(tmp_path) == (["m.wcodec"] if old else [])
    assert not old or path.read_bytes() == old
    buffer = io.BytesIO()
    with pytest.raises(type(error)), ContainerWriter(buffer) as writer:
        raise error
    assert buffer.getvalue() == b""


def test_a_writer_that_failed_cannot_be_closed(tmp_path):
    writer = ContainerWriter(tmp_path / "m.wcodec")
    with pytest.raises(OSError, match="full"):
        writer.add("a", Spec.of("U8", 1), Section("x", {}, {"p": Broken(OSError("full"))}), DIGEST)
    for call in (writer.close, lambda: writer.add("b", Spec.of("U8", 1), raw(1), DIGEST)):
        with pytest.raises(ValueError, match="incomplete"):
            call()
    writer.abort()
    writer.abort()
    assert not names_in(tmp_path)


def test_existing_files_are_left_alone(tmp_path):
    path = tmp_path / "m.wcodec"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        ContainerWriter(path)
    path.unlink()
    with pytest.raises(FileExistsError), ContainerWriter(path):
        path.write_bytes(b"came meanwhile")
    assert path.read_bytes() == b"came meanwhile" and names_in(tmp_path) == ["m.wcodec"]
    with ContainerWriter(path, force=True):
        pass
    ContainerReader(path).close()
    with pytest.raises(FileExistsError):
        ContainerWriter(tmp_path, force=True)
    with pytest.raises(FileNotFoundError):
        ContainerWriter(tmp_path / "missing" / "m.wcodec")


def test_links_are_not_written_through(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    with ContainerWriter(tmp_path / "link", force=True):
        pass
    assert (tmp_path / "target").read_bytes() == b"old" and not (tmp_path / "link").is_symlink()


def test_where_there_are_no_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    with ContainerWriter(tmp_path / "m"):
        pass
    with pytest.raises(FileExistsError), ContainerWriter(tmp_path / "n"):
        (tmp_path / "n").write_bytes(b"x")
    assert names_in(tmp_path) == ["m", "n"]


def test_failed_commit_leaves_no_file(tmp_path, monkeypatch):
    def fail(fd):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"), ContainerWriter(tmp_path / "m"):
        pass
    assert not names_in(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.wcodec"
    path.write_bytes(b"old")
    script = """
import sys, numpy as np
from wcodec.container.writer import ContainerWriter
from wcodec.types import MemoryStream, Section, Spec
writer = ContainerWriter(sys.argv[1], force=True)
for i in range(10**9):
    writer.add(str(i), Spec.of("U8", 1000), Section("raw", {}, {"data": MemoryStream(np.zeros(1000, np.uint8))}), bytes(32))
    print(i, flush=True)
"""
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == b"0\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"
    (left,) = (p for p in tmp_path.iterdir() if p != path)
    with pytest.raises(Truncated):
        ContainerReader(left)


def test_atomic_file_reads_back(tmp_path):
    file = AtomicFile(tmp_path / "x")
    file.write(b"hello")
    file.write(np.arange(5, dtype=np.uint8)[:0])
    out = np.empty(3, np.uint8)
    file.read_into(1, out)
    assert out.tobytes() == b"ell" and file.size == 5
    with pytest.raises(Truncated):
        file.read_into(3, out)
    file.commit()
    file.abort()
    assert (tmp_path / "x").read_bytes() == b"hello"


@settings(max_examples=50)
@given(st.binary(max_size=2000).map(lambda b: b * 3), st.integers(1, 22))
def test_zstd_round_trip(data, level):
    packed = zstdframe.compress(data, level)
    out = np.zeros(len(data), np.uint8)
    zstdframe.decompress_into(packed, out, "ZSTD-1")
    assert out.tobytes() == data == zstdframe.decompress(packed, len(data))
    for size in {0, len(data) - 1, len(data) + 1} - {-1, len(data)}:
        with pytest.raises(Corrupt, match="ZSTD-1"):
            zstdframe.decompress_into(packed, np.zeros(size, np.uint8), "ZSTD-1")


def test_zstd_frames_that_lie():
    import zstandard

    data = np.random.default_rng(0).integers(0, 9, 300_000, np.uint8).tobytes()
    good = zstdframe.compress(data, 3)
    checked = zstandard.ZstdCompressor(write_checksum=True).compress(data)
    out = np.empty(len(data), np.uint8)
    zstdframe.decompress_into(checked, out, "R")
    assert out.tobytes() == data
    wide = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters.from_level(3, window_log=24))
    dictionary = zstandard.ZstdCompressionDict(data[:5000], dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    named = zstandard.train_dictionary(3000, [data[i : i + 500] for i in range(0, 100_000, 500)])
    stated = bytearray(good)
    assert good[4] >> 6 == 2  # a content size of four bytes, after the window's byte
    stated[6:10] = (len(data) - 1).to_bytes(4, "little")
    bomb = bytearray(zstdframe.compress(bytes(300_000), 3))
    bomb[6:10] = (100).to_bytes(4, "little")
    huge = bytearray(good)
    huge[6:10] = (2**32 - 1).to_bytes(4, "little")
    lies = {
        "empty": b"",
        "no frame": b"x" * 20,
        "skippable": b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + good,
        "two frames": good + zstdframe.compress(b"", 3),
        "tail": good + b"\0",
        "no size": zstandard.ZstdCompressor(write_content_size=False).compress(data),
        "window": wide.compress(bytes(20_000_000)),
        "dictionary": zstandard.ZstdCompressor(dict_data=dictionary).compress(data[:5000]),
        "named dictionary": zstandard.ZstdCompressor(dict_data=named).compress(data),
        "checksum": checked[:-1] + bytes([checked[-1] ^ 1]),
        "stated less": bytes(stated),
        "stated far less": bytes(bomb),
        "stated more": bytes(huge),
        **{f"cut at {n}": good[:n] for n in (3, 4, 5, 9, 12, 100, len(good) - 1)},
    }
    for what, frame in lies.items():
        for size in (len(data), len(data) - 1, 100, 5000):
            with pytest.raises(Corrupt) as caught:
                zstdframe.decompress_into(frame, np.empty(size, np.uint8), "R")
            assert caught.value.rule == "R", what
        if what not in ("window",):
            with pytest.raises(Corrupt):
                zstdframe.decompress(frame, 2**40)


def test_zstd_window_stays_small():
    data = np.random.default_rng(0).integers(0, 256, 9_000_000, np.uint8)
    packed = zstdframe.compress(data, 22)
    out = np.empty_like(data)
    zstdframe.decompress_into(np.frombuffer(packed, np.uint8), out, "R")
    assert np.array_equal(out, data)


@settings(max_examples=300)
@given(st.integers(0, 10**6), st.integers(1, 255), st.integers(0, 10**6))
def test_zstd_damage(at, flip, stop):
    frame = bytearray(FRAME)
    frame[at % len(frame)] ^= flip
    out = np.zeros(4000, np.uint8)
    with contextlib.suppress(Corrupt):
        zstdframe.decompress_into(bytes(frame[: stop % len(frame) + 1]) if stop % 2 else bytes(frame), out, "R")


FRAME = zstdframe.compress(bytes(i * i % 251 for i in range(4000)), 3)
