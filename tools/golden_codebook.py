"""The golden cases of codebooks: what recipes make of networks, and everything that the page allows."""

from __future__ import annotations

from typing import Any

import numpy as np
from golden_cases import ENV, Builder, good, resource

from wcodec.codecs import CODECS
from wcodec.coding.tables import Tables
from wcodec.types import DTYPES, Section, Spec


@good("codebook-dtypes", "codebooks of elements and of runs of every dtype, rows that runs do not fill, and arrays of few elements")
def _() -> Any:
    b = Builder()
    for dtype, its in DTYPES.items():
        if its.bits < 8:
            continue
        few = b.noise(Spec.of(dtype, 6).size).view(its.storage).reshape(6, -1)
        for width, shape in ((1, (7, 10)), (2, (7, 10)), (3, (7, 10)), (8, (70,)), (10, (3, 2, 10)), (1, ()), (1, (0, 3)), (1, (3, 0))):
            count = int(np.prod(shape))
            b.add(
                f"{dtype}.{width}.{'x'.join(map(str, shape))}",
                dtype,
                shape,
                few[b.rng.integers(0, 6, count)],
                codec="codebook",
                width=width,
            )
    return b.done()


@good("codebook-indices", "indices of every codec, 1 to 256 centroids in 8 bits and more in 16, centroids that nothing names")
def _() -> Any:
    b = Builder()
    for count in (1, 2, 16, 64, 65, 128, 129, 256, 257, 1000):
        book = b.weights("BF16", 1, count)
        for codec in ("rans", "bitpack", "raw", "zstd"):
            index = np.minimum(b.rng.geometric(6 / (count + 5), 300) - 1, count - 1).astype(np.uint8 if count <= 256 else np.uint16)
            options = {"codec": codec, "bits": 4} if codec == "rans" and count > 256 else {"codec": codec}
            b.add(f"{count}.{codec}", "BF16", (300,), book[index], codec="codebook", book=book, assigned=index, indices=options)
    return b.done()


@good(
    "codebook-network",
    "one codebook and one entropy table for several matrices, as WFN makes them; blocks of 8 as product quantisation does",
)
def _() -> Any:
    b = Builder()
    index = [np.minimum(b.rng.geometric(0.2, count) - 1, 29).astype(np.uint8) for count in (2700, 1000, 300)]
    tables = Tables.fit(np.bincount(np.concatenate(index), minlength=256).astype(np.uint64).reshape(1, 256), 12)
    book = b.weights("F32", 1, 30)
    shared, table = resource(b, "F32", book), resource(b, "U8", np.frombuffer(tables.pack(), np.uint8))
    for i, (its, shape) in enumerate(zip(index, ((27, 100), (4, 250), (2, 3, 50)), strict=True)):
        coded = CODECS["rans"].encode(its, Spec.of("U8", *shape), ENV, tables=(tables, table))
        section = Section("codebook", {"centroids": 30}, {"centroids": shared, "indices": coded})
        b.add(f"layers.{i}.weight", "F32", shape, book[its], section)
    blocks = b.weights("BF16", 40, 8).reshape(40, 8)
    x = blocks[np.minimum(b.rng.geometric(0.1, 60 * 13) - 1, 39)].reshape(60, 104)[:, :100]
    b.add("product", "BF16", (60, 100), x, codec="codebook", width=8)
    return b.done()
