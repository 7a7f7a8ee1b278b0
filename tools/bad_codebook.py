"""The reject corpus: codebooks that break a rule of spec/codecs/codebook.md."""

from __future__ import annotations

import numpy as np
from bad_cases import ENV, X, coded, raw, section, with_params

from wcodec.codecs import CODECS
from wcodec.types import Section, Spec


def book(indices: Section, centroids: Section, count: int, **params: int) -> Section:
    return Section("codebook", {"centroids": count, **params}, {"centroids": centroids, "indices": indices})


for _what, _params in {
    "none": {"centroids": 0},
    "more": {"centroids": 65537},
    "type": {"centroids": True},
    "width": {"width": 1},
    "wide": {"width": 301},
}.items():
    section("CODEBOOK-1", _what, lambda p=_params: with_params(coded("codebook"), **p))
section("CODEBOOK-1", "absent", lambda: Section("codebook", {}, coded("codebook").parts))
section("CODEBOOK-1", "dtype", lambda: book(raw(bytes(2)), raw(b"\0"), 2), Spec.of("F4", 2), x=b"\0")

_FEW = raw(bytes(range(int(X.max()))))
section("CODEBOOK-2", "raw", lambda: book(raw(), _FEW, int(X.max())))
section("CODEBOOK-2", "rans", lambda: book(CODECS["rans"].encode(X, Spec.of("U8", 300), ENV), _FEW, int(X.max())))
section("CODEBOOK-2", "wide", lambda: book(raw(np.full(300, 257, "<u2").tobytes()), raw(bytes(257)), 257))
section(
    "CODEBOOK-2", "blocks", lambda: book(raw(bytes([0, 1, 2, 0])), raw(bytes(4)), 2, width=2), Spec.of("U8", 2, 3), x=bytes(6)
)  # fmt: skip
