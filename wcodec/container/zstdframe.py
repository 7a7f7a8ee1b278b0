"""Single zstd frames whose every claim is checked before it is believed (spec/container.md, C-9)."""

from __future__ import annotations

import zstandard

from wcodec.container.layout import BytesLike, octets
from wcodec.errors import Corrupt
from wcodec.types import U8

MAGIC = bytes.fromhex("28b52ffd")
WINDOW_LOG = 23
BLOCK = 1 << 17
_PIECE = 1 << 20
_RLE, _RESERVED = 1, 3


def compress(data: BytesLike, level: int) -> bytes:
    """Compress to one frame that states its content size, without dictionary, window at most 8 MiB. Spec: C-9."""
    view = octets(data)
    settings = zstandard.ZstdCompressionParameters.from_level(level, source_size=max(view.nbytes, 1))
    if settings.window_log > WINDOW_LOG:
        settings = zstandard.ZstdCompressionParameters.from_level(level, source_size=view.nbytes, window_log=WINDOW_LOG)
    return zstandard.ZstdCompressor(compression_params=settings).compress(view)


def decompress_into(data: BytesLike, out: U8, rule: str) -> None:
    """Decompress the frame that data is into out, a contiguous array of exactly its content's size.

    Raises Corrupt [rule] unless data is one frame as C-9 asks and decompresses to out.size bytes.
    """
    view, room = octets(data), octets(out)
    size = _content_size(view, rule)
    if size != out.size:
        raise Corrupt(f"zstd frame of {size} bytes, expected {out.size}", rule=rule)
    try:
        with _reader(view) as reader:
            at = 0
            while at < size and (got := reader.readinto(room[at:])):
                at += got
            # One more read makes the library finish the frame: its checksum comes after the last byte.
            if at != size or reader.read(1):
                raise Corrupt(f"zstd frame states {size} bytes and holds others", rule=rule)
    except zstandard.ZstdError as e:
        raise Corrupt(f"zstd: {e}", rule=rule) from e


def decompress(data: BytesLike, cap: int, rule: str = "C-9") -> bytes:
    """Decompress a frame whose content size only the frame knows, at most cap bytes.

    Memory grows with what the frame holds, not with what it states. Raises Corrupt [rule].
    """
    view = octets(data)
    size = _content_size(view, rule)
    if size > cap:
        raise Corrupt(f"zstd frame of {size} bytes, at most {cap} are allowed", rule=rule)
    pieces, total = [], 0
    try:
        with _reader(view) as reader:
            while piece := reader.read(_PIECE):
                pieces.append(piece)
                total += len(piece)
                if total > size:
                    break
    except zstandard.ZstdError as e:
        raise Corrupt(f"zstd: {e}", rule=rule) from e
    if total != size:
        raise Corrupt(f"zstd frame states {size} bytes and holds others", rule=rule)
    return b"".join(pieces)


def _reader(view: memoryview) -> zstandard.ZstdDecompressionReader:
    return zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG).stream_reader(view)


def _content_size(view: memoryview, rule: str) -> int:
    """Check the frame's header and that its blocks end where data ends; return the content size it states."""
    if view[:4] != MAGIC:
        raise Corrupt("not a zstd frame", rule=rule)
    try:
        frame = zstandard.get_frame_parameters(view)
        start = zstandard.frame_header_size(view)
    except zstandard.ZstdError as e:
        raise Corrupt(f"zstd: {e}", rule=rule) from e
    if frame.content_size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
        raise Corrupt("zstd frame does not state its content size", rule=rule)
    if frame.dict_id:
        raise Corrupt("zstd frame needs a dictionary", rule=rule)
    if frame.window_size > 1 << WINDOW_LOG:
        raise Corrupt(f"zstd frame needs a window of {frame.window_size} bytes", rule=rule)
    if _blocks_end(view, start, rule) + 4 * frame.has_checksum != view.nbytes:
        raise Corrupt("zstd frame is followed by other bytes or cut off", rule=rule)
    return frame.content_size


def _blocks_end(view: memoryview, at: int, rule: str) -> int:
    """Walk over the block headers: the library does not tell how much of its input it used."""
    while at + 3 <= view.nbytes:
        header = int.from_bytes(view[at : at + 3], "little")
        kind, size = header >> 1 & 3, header >> 3
        if kind == _RESERVED or size > BLOCK:
            raise Corrupt("zstd frame with a broken block", rule=rule)
        at += 3 + (1 if kind == _RLE else size)
        if header & 1:
            return at
    raise Corrupt("zstd frame is cut off", rule=rule)
