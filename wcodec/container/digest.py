"""The digest of a file's content, whatever file holds it (spec/container.md section 8)."""

from __future__ import annotations

from collections.abc import Iterable
from struct import pack

from blake3 import blake3

from wcodec.types import Spec


def content_digest(items: Iterable[tuple[str, Spec, bytes]]) -> bytes:
    """BLAKE3-256 over names, specs and digests of all tensors, in any order. Spec: section 8."""
    state = blake3()
    for name, spec, digest in sorted(items, key=lambda item: item[0]):
        text, dtype, rank = name.encode(), spec.dtype.name.encode(), len(spec.shape)
        state.update(pack("<I", len(text)) + text + pack("B", len(dtype)) + dtype + pack(f"<B{rank}Q", rank, *spec.shape) + digest)
    return bytes(state.digest())
