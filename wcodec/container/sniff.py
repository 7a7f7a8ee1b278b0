"""Say what a wrong file looks like, so that an error names the likely mistake."""

from __future__ import annotations

import re

from wcodec.container.layout import MAGIC

_STARTS = (
    (b"GGUF", "a GGUF file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file: decompress it first"),
    (b"\x1f\x8b", "a gzip file: decompress it first"),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer: the file itself was not downloaded (git lfs pull)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array"),
)
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


def describe(head: bytes, size: int) -> str:
    """Describe a file by its first bytes (4 KiB serve best) and its size, as the end of a sentence: "a GGUF file"."""
    if not size or not head:
        return "an empty file"
    if head.startswith(MAGIC) or (size < len(MAGIC) and MAGIC.startswith(head)):
        return "a wcodec file" if size >= 96 else "a wcodec file that was cut off"
    for start, what in _STARTS:
        if head.startswith(start):
            return what
    if head.startswith(_ZIP):
        torch = re.search(rb"[^/]{1,200}/(data\.pkl|version|byteorder|\.format_version)", head[30:300])
        return "a PyTorch checkpoint (pickle in a zip): convert it to safetensors first" if torch else "a zip file"
    length = int.from_bytes(head[:8], "little")
    if len(head) > 8 and head[8:9] == b"{" and length <= 100_000_000:
        return "a safetensors file" if length <= size - 8 else "a safetensors file that was cut off"
    if re.match(rb"\x80[\x02-\x05]", head):
        return "a pickle, perhaps an old PyTorch checkpoint: convert it to safetensors first"
    return _text(head, size)


def _text(head: bytes, size: int) -> str:
    if not head.strip(b"\0"):
        return "nothing but zeros at its beginning"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page: the download failed or needs a login"
    if start.startswith(b"<?xml"):
        return "an XML document, perhaps a server's error message"
    if start.startswith((b"{", b"[")):
        error = re.search(rb'"(error|message|detail|errors)"', start) and size < 65536
        return "a server's error message in JSON: the download failed" if error else "a JSON document"
    try:
        head[: max(1, len(head) - 3)].decode()
    except UnicodeDecodeError:
        return f"unknown bytes {head[:8].hex(' ')}"
    return "unknown bytes" if re.search(rb"[\x00-\x08]", head) else "a text file"
