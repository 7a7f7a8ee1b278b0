"""One line per codec on one array of real weights, beside what a user would pick instead; and how long big matrices take to encode."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import layout, lines
from benchmarks.pool import Setup, Worker, WorkerError
from benchmarks.report import Report

SUFFIX = "intermediate.dense.weight"
"""Six matrices of MiniLM, below each other: 3.5 million weights."""
ROUNDS = 5
"""Interleaved repetitions for each one asked for: they take milliseconds, and the least time of them counts."""
LONG: dict[str, tuple[str, Mapping[str, tuple[int, int]]]] = {
    "gwk, 100 M weights": ("gwk:values=16", {"0.weight": (10_000, 10_000)}),
    "joint-rank-k, 4096 x 8192": ("joint-rank-k", {f"0.{name}_proj.weight": (4096, 4096) for name in ("q", "k")}),
}
"""What --long encodes file to file, two threads: recipe and matrices. Queries and keys are one matrix of 8192 rows there."""


def run(setup: Setup, report: Report) -> None:
    for path in setup.files:
        if path.stem.startswith("minilm") and layout.read(path).form in ("F32", "BF16"):
            try:
                one_array(setup, report, path)
            except WorkerError as error:
                report.absent("wcodec", str(error))
    if setup.long:
        rows = [[what, *encode_long(setup, report, what, *job)] for what, job in LONG.items()]
        report.table(
            "codecs",
            "big matrices, float32, encoded file to file with two threads",
            ("what", "seconds", "of the processor", "size, % of float32"),
            rows,
        )


def millions(rate: float | None) -> str:
    return "-" if rate is None else f"{rate / 1e6:,.0f}" if rate >= 1e7 else f"{rate / 1e6:,.1f}"


def one_array(setup: Setup, report: Report, path: Path) -> None:
    with Worker(setup, "none", path) as worker:
        found = worker.ask("codecs", suffix=SUFFIX, repetitions=ROUNDS * setup.repetitions, cpu=setup.cpu)
    rans, memcpy = found["rans"], found["memcpy"]
    rows = [cells(row, rans) for row in found["rows"]]
    shape = " x ".join(map(str, found["shape"]))
    report.table(
        "codecs",
        f"codecs {path.stem}, {shape}",
        ("codec", "bits", "error", "encode M/s", "decode M/s", "x rANS", "instead", "its bits", "its decode M/s"),
        rows,
        f"One thread, million weights a second, least time of interleaved repetitions. Plain rANS of 16 symbols: {millions(rans)};\n"
        f"memcpy of the array: {millions(memcpy)}. Bits per weight; error: root mean square, relative to that of the weights.",
    )
    named: dict[str, dict[str, Any]] = {row["name"]: row for row in found["rows"]}
    report.at_least(f"codecs {path.stem}: codebook decode / plain rANS", named[lines.BOOK]["decode"] / rans, 0.7)
    report.at_least(f"codecs {path.stem}: 90 % sparse decode", named[lines.TENTH]["decode"] / 1e9, 1.0, "G weights/s")
    report.at_least(f"codecs {path.stem}: Philox fill", named[lines.UNIFORM_FILL]["decode"] / 1e9, 1.0, "G weights/s")


def cells(row: Mapping[str, Any], rans: float) -> list[str]:
    error = "-" if row["error"] is None else f"{row['error']:.4f}"
    own = [row["name"], f"{row['bits']:.2f}", error, millions(row["encode"]), millions(row["decode"]), f"{row['decode'] / rans:.2f}"]
    if row["rival"] is None:
        return [*own, "-", "-", "-"]
    return [*own, row["rival"], f"{row['rival bits']:.2f}", millions(row["rival decode"])]


def encode_long(setup: Setup, report: Report, what: str, recipe: str, matrices: Mapping[str, tuple[int, int]]) -> list[str]:
    """Encode Gaussian matrices once, and return seconds, those of the processor (both cores), and size."""
    source = setup.scratch / "long.safetensors"
    target = source.with_suffix(".wcodec")
    write(source, matrices)
    try:
        with Worker(setup, "none", source, threads=2) as worker:
            taken = worker.ask("convert", action="encode", target=str(target), recipe=recipe)
        report.at_most(f"codecs: {what}", taken["cpu" if setup.cpu else "seconds"], 60, "s")
        return [f"{taken['seconds']:.1f}", f"{taken['cpu']:.1f}", f"{100 * target.stat().st_size / source.stat().st_size:.1f}"]
    except WorkerError as error:
        return [str(error), "-", "-"]
    finally:
        source.unlink()
        target.unlink(missing_ok=True)


def write(path: Path, matrices: Mapping[str, tuple[int, int]]) -> None:
    """Write a safetensors file of Gaussian float32 matrices."""
    import numpy as np

    records, at, random = {}, 0, np.random.default_rng(7)
    for name, (rows, cols) in matrices.items():
        records[name] = {"dtype": "F32", "shape": [rows, cols], "data_offsets": [at, at + 4 * rows * cols]}
        at += 4 * rows * cols
    header = json.dumps(records).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for rows, cols in matrices.values():
            file.write((random.standard_normal((rows, cols), np.float32) * np.float32(0.02)).data)
