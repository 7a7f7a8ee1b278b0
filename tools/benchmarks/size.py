"""Sizes: whole file against whole file, and the order-0 bound of the exponents."""

from __future__ import annotations

from pathlib import Path

from benchmarks import layout
from benchmarks.pool import Setup, Worker, WorkerError
from benchmarks.report import Report

EXPONENT = {"BF16": (7, 8), "F16": (10, 5), "F32": (23, 8)}
"""Mantissa bits and exponent bits."""


def bound(path: Path) -> float:
    """Bytes of the file if every float cost its sign and mantissa bits and the order-0 entropy of its tensor's exponents."""
    import numpy as np

    file = layout.read(path)
    total = float(file.header)
    for tensor in file.tensors:
        if tensor.dtype not in EXPONENT or not tensor.size:
            total += tensor.size
            continue
        mantissa, exponent = EXPONENT[tensor.dtype]
        width = layout.WIDTH[tensor.dtype]
        values = np.fromfile(path, f"u{width}", tensor.size // width, offset=file.header + tensor.start)
        counts = np.bincount((values >> mantissa) & ((1 << exponent) - 1))
        counts = counts[counts > 0].astype(np.float64)
        bits = (1 + mantissa) * values.size + values.size * np.log2(values.size) - float((counts * np.log2(counts)).sum())
        total += float(bits) / 8
    return total


def run(setup: Setup, report: Report) -> None:
    codecs = ("wcodec", *setup.peers, "openzl-planes") if "openzl" in setup.peers else ("wcodec", *setup.peers)
    rows: list[list[str | int]] = []
    for path in setup.files:
        original = path.stat().st_size
        sizes: dict[str, int] = {}
        for codec in codecs:
            try:
                with Worker(setup, codec, path) as worker:
                    sizes[codec] = int(worker.ask("size")["size"])
            except WorkerError as error:
                report.absent(codec, str(error))
        limit = bound(path)
        cells = [f"{sizes[codec]:,} ({sizes[codec] / original:.4f})" if codec in sizes else report.missing[codec] for codec in codecs]
        rows.append([path.stem, original, f"{limit / original:.4f}", *cells])
        form = layout.read(path).form
        if "wcodec" not in sizes:
            continue
        own = sizes["wcodec"] / original * 100
        if form == "BF16":
            report.at_most(f"size {path.stem}: % of the original, bound + 0.2", own, limit / original * 100 + 0.2, "%", 3)
        others = [sizes[codec] for codec in sizes if codec.startswith(("zipnn", "openzl", "pcodec"))]
        if form in ("BF16", "F16") and others:
            report.at_most(f"size {path.stem}: % of the original, smallest peer", own, min(others) / original * 100, "%", 3)
    report.table(
        "size",
        "size in bytes (share of the original)",
        ("file", "original", "exponent bound", *codecs),
        rows,
        "Whole files. Peers: data as one buffer plus the safetensors header as it is. Bound: sign and mantissa raw, exponents at their\n"
        "order-0 entropy per tensor, no cost for tables.",
    )
