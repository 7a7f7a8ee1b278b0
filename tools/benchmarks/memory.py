"""Private memory of a process that encodes and decodes a big generated checkpoint file to file."""

from __future__ import annotations

import json
import struct
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.pool import Setup, Worker, WorkerError
from benchmarks.report import Report, rate

MIB = 1 << 20
TENSOR = 64 * MIB
KNOWN = Path("/proc/self/smaps_rollup").exists()


def generate(path: Path, size: int) -> int:
    """Write a safetensors file of `size` // 64 MiB tensors, three of four BF16 and the fourth F32, no two equal; return their number."""
    import numpy as np

    count = max(size // TENSOR, 2)
    width = {"BF16": 2, "F32": 4}
    kinds = ["F32" if index % 4 == 3 else "BF16" for index in range(count)]
    records: dict[str, Any] = {}
    for index, kind in enumerate(kinds):
        rows = TENSOR // width[kind] // 4096
        records[f"layers.{index:03d}.weight"] = {
            "dtype": kind,
            "shape": [rows, 4096],
            "data_offsets": [index * TENSOR, (index + 1) * TENSOR],
        }
    header = json.dumps(records).encode()
    header += b" " * (-len(header) % 8)
    values = (np.random.default_rng(7).standard_normal(TENSOR // 2, np.float32) * np.float32(0.02)).view(np.uint32)
    base = {"BF16": (values >> 16).astype(np.uint16), "F32": values[: TENSOR // 4].copy()}
    del values
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for index, kind in enumerate(kinds):
            file.write(np.roll(base[kind], 4099 * (index + 1)).data)
    return count


def fields(pid: int, name: str) -> dict[str, int]:
    """Numbers of a /proc file of the shape ``Key:   123 kB``, in bytes."""
    found = {}
    for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
        words = line.replace(":", " ").split()
        if len(words) == 3 and words[2] == "kB" and words[1].isdigit():
            found[words[0]] = int(words[1]) * 1024
    return found


def private(pid: int) -> int:
    values = fields(pid, "smaps_rollup")
    return values["Private_Clean"] + values["Private_Dirty"]


class Sampler(threading.Thread):
    """Watches another process from outside, so that its interpreter is not disturbed."""

    def __init__(self, pid: int, pause: float = 0.004) -> None:
        super().__init__(daemon=True)
        self.pid, self.pause, self.peak, self.samples = pid, pause, 0, 0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(self.pause):
            try:
                self.peak = max(self.peak, private(self.pid))
            except (OSError, KeyError):
                return
            self.samples += 1

    def stop(self) -> None:
        self.ended.set()
        self.join()


def same(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while block := left.read(8 * MIB):
            if block != right.read(8 * MIB):
                return False
    return True


def run(setup: Setup, report: Report) -> None:
    if not KNOWN:
        print("\n## memory\nneeds /proc/PID/smaps_rollup, which this system does not have")
        return
    source, packed, back = (setup.disk / name for name in ("big.safetensors", "big.wcodec", "big.back.safetensors"))
    rows: list[list[Any]] = []
    try:
        count = generate(source, setup.checkpoint)
        for threads in setup.threads:
            for action, origin, target in (("encode", source, packed), ("decode", packed, back)):
                rows.append(measure(setup, report, threads, action, origin, target))
            if not same(source, back):
                raise WorkerError("wcodec: the checkpoint did not come back")
        note = f"{count} tensors of 64 MiB, {source.stat().st_size:,} bytes to {packed.stat().st_size:,}, and back byte for byte."
    except WorkerError as error:
        report.absent("wcodec", str(error))
        note = str(error)
    finally:
        for path in (source, packed, back):
            path.unlink(missing_ok=True)
    report.table(
        "memory",
        "private memory above the process after imports, file to file",
        ("action", "workers", "peak MiB", "growth of VmHWM MiB", "MB/s", "samples"),
        rows,
        note + "\nPeak: Private_Clean + Private_Dirty, sampled from outside; VmHWM counts shared and file pages too, and misses nothing.",
    )


def measure(setup: Setup, report: Report, threads: int, action: str, origin: Path, target: Path) -> list[Any]:
    with Worker(setup, "none", origin, threads=threads, warm=False, preload=["wcodec.api.encoder", "wcodec.api.decoder"]) as worker:
        before, high = private(worker.pid), fields(worker.pid, "status")["VmHWM"]
        sampler = Sampler(worker.pid)
        sampler.start()
        began = time.perf_counter()
        try:
            worker.ask("convert", action=action, target=str(target))
        finally:
            seconds = time.perf_counter() - began
            sampler.stop()
        grown = fields(worker.pid, "status")["VmHWM"] - high
    peak = (sampler.peak - before) / MIB
    limit = (2.5 * TENSOR) / MIB + 64 * threads
    report.at_most(f"memory {action}, {threads} worker{'s' * (threads > 1)}", peak, limit, "MiB", 0)
    size = max(origin.stat().st_size, target.stat().st_size)
    return [action, str(threads), f"{peak:.0f}", f"{grown / MIB:.0f}", rate(size, seconds), str(sampler.samples)]
