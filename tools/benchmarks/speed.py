"""Encoding, decoding and loading speed, always interleaved with the peers on the same file."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from benchmarks import layout
from benchmarks.pool import Setup, Step, Worker, WorkerError, interleave, start
from benchmarks.report import Report, rate

Key = tuple[str, int]
"""A codec and its number of threads."""


def threads_of(key: Key) -> str:
    return f"{key[1]} thread" + ("s" if key[1] > 1 else "")


def label(key: Key, what: str = "") -> str:
    return f"{key[0]} {key[1]} {what}"


def against(seconds: dict[Key, float], key: Key, own: float) -> str:
    """How many times as fast as zipnn with the same number of threads."""
    peer = seconds.get(("zipnn", key[1]))
    return f"{peer / own:.2f}" if peer else "-"


def missing_rows(report: Report, codecs: Iterable[str], columns: int) -> list[list[Any]]:
    return [[codec, report.missing[codec], *["-"] * (columns - 2)] for codec in codecs if codec in report.missing]


def scaling(report: Report, what: str, seconds: dict[Key, float], cpu: bool) -> None:
    """Two threads against one."""
    if not cpu and ("wcodec", 2) in seconds and ("wcodec", 1) in seconds:
        report.at_least(f"{what}: two threads / one", seconds["wcodec", 1] / seconds["wcodec", 2], 1.7)


def decode(setup: Setup, report: Report) -> None:
    """Decoding into memory that was touched before, against memcpy of the output measured in the same process between repetitions."""
    codecs = ("wcodec", *setup.peers)
    for path in setup.files:
        file = layout.read(path)
        with ExitStack() as stack:
            workers = start(stack, setup, report, path, codecs)
            steps: list[Step] = []
            for key, worker in workers.items():
                steps += [(label(key), worker, "decode", {}), (label(key, "memcpy"), worker, "memcpy", {})]
            taken = interleave(steps, setup, report)
        seconds = {key: taken[label(key)]["seconds"] for key in workers if label(key) in taken}
        copies = {key: taken[label(key, "memcpy")]["seconds"] for key in workers if label(key) in taken}
        rows: list[list[Any]] = []
        for key, own in seconds.items():
            copied = f"{file.data / copies[key] / 1e9:.1f}"
            rows.append([key[0], threads_of(key), rate(file.data, own), copied, f"{copies[key] / own:.3f}", against(seconds, key, own)])
        rows += missing_rows(report, codecs, 6)
        report.table(
            "decode",
            f"decode {path.stem}",
            ("codec", "threads", "MB/s", "memcpy GB/s", "x memcpy", "x zipnn"),
            rows,
            "wcodec: from an open file in memory, checksums checked, every tensor into reused arrays.\n"
            "Peers: from one buffer in memory to one in reused heap.",
        )
        one = seconds.get(("wcodec", 1))
        if one and file.form == "BF16":
            report.at_least(f"decode {path.stem}: 1 thread / memcpy", copies["wcodec", 1] / one, 0.25)
        if one and ("zipnn", 1) in seconds:
            target = 1.5 if file.form == "BF16" else 1.1
            report.at_least(f"decode {path.stem}: 1 thread / zipnn", seconds["zipnn", 1] / one, target)
        scaling(report, f"decode {path.stem}", seconds, setup.cpu)


def encode(setup: Setup, report: Report) -> None:
    """Encoding file to file, against the peers' compression in memory followed by writing the result."""
    codecs = ("wcodec", *setup.peers)
    for path in setup.files:
        file = layout.read(path)
        with ExitStack() as stack:
            workers = start(stack, setup, report, path, codecs)
            steps: list[Step] = []
            for key, worker in workers.items():
                if key[0] == "wcodec":
                    steps.append((label(key, "readback"), worker, "encode", {"readback": True}))
                steps.append((label(key), worker, "encode", {"readback": False}))
            taken = interleave(steps, setup, report)
        seconds = {key: taken[label(key)]["seconds"] for key in workers if label(key) in taken}
        checked = {key: taken[label(key, "readback")]["seconds"] for key in seconds if key[0] == "wcodec"}
        rows: list[list[Any]] = []
        for key, own in seconds.items():
            alone = taken[label(key)].get("compress")
            only = rate(file.data, alone) if alone else "-"
            rows.append([key[0], threads_of(key), rate(file.data, own), only, against(seconds, key, own)])
            if key in checked:
                again = checked[key]
                rows.append(["wcodec, read back", threads_of(key), rate(file.data, again), "-", against(seconds, key, again)])
        rows += missing_rows(report, codecs, 5)
        report.table(
            "encode",
            f"encode {path.stem}",
            ("codec", "threads", "MB/s", "compression alone", "x zipnn"),
            rows,
            "wcodec: file to file, that is reading the source, compressing, checksums, digests, writing.\n"
            "Peers: from a buffer that is already filled, compress and write; 'compression alone' is without the writing.",
        )
        for threads in setup.threads:
            if ("wcodec", threads) in seconds and ("zipnn", threads) in seconds:
                what, zipnn = f"encode {path.stem}: {threads_of(('', threads))}", seconds["zipnn", threads]
                report.at_least(f"{what}, no read-back / zipnn", zipnn / seconds["wcodec", threads], 1.0)
                report.at_least(f"{what}, read back / zipnn", zipnn / checked["wcodec", threads], 0.7)
        scaling(report, f"encode {path.stem}, no read-back", seconds, setup.cpu)


FACES = {
    "pt": {"wcodec": ("torch", "wcodec.torch"), "zipnn": ("torch",), "safetensors": ("torch", "safetensors.torch")},
    "np": {"wcodec": ("wcodec.numpy",), "zipnn": ("ml_dtypes",), "safetensors": ("safetensors.numpy", "ml_dtypes")},
}
"""What each worker imports before the clock starts, by framework."""


def load(setup: Setup, report: Report) -> None:
    """From a file in page cache to tensors, in a process whose imports are done but whose memory is fresh."""
    for path in setup.files:
        file = layout.read(path)
        rows: list[list[Any]] = []
        for framework, modules in FACES.items():
            name = "torch" if framework == "pt" else "numpy"
            with ExitStack() as stack:
                workers: dict[Key, Worker] = {}
                for codec, preload in modules.items():
                    fitting = replace(setup, threads=(1,)) if codec == "safetensors" else setup
                    try:
                        started = start(stack, fitting, report, path, [codec], warm=False, preload=preload)
                        for worker in started.values():
                            worker.ask("store")
                        workers |= started
                    except WorkerError as error:
                        report.absent(codec, str(error))
                steps: list[Step] = [(label(key), worker, "load", {"framework": framework}) for key, worker in workers.items()]
                taken = interleave(steps, setup, report)
            seconds = {key: taken[label(key)]["seconds"] for key in workers if label(key) in taken}
            for key, own in seconds.items():
                threads = "-" if key[0] == "safetensors" else threads_of(key)
                rows.append([name, key[0], threads, rate(file.data, own), f"{own * 1000:.1f}", against(seconds, key, own)])
                if key[0] == "wcodec" and ("zipnn", key[1]) in seconds:
                    report.at_least(f"load {path.stem}: {name}, {threads_of(key)} / zipnn", seconds["zipnn", key[1]] / own, 1.3)
        rows += [["-", codec, why, "-", "-", "-"] for codec, why in report.missing.items() if codec in FACES["pt"]]
        report.table(
            "load",
            f"load {path.stem}",
            ("into", "codec", "threads", "MB/s", "ms", "x zipnn"),
            rows,
            "File in page cache to tensors, every page of them touched, each repetition in a newly forked process.\n"
            "zipnn: read, decompress the data as one buffer, build tensors on it. safetensors: the uncompressed file.",
        )
