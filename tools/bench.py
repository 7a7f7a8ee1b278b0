"""Measures wcodec beside its peers, in one run on one machine, and prints each of the project's targets with the measured value.

parts:
  size     whole files against zipnn, OpenZL, pcodec and zstd, and against the order-0 entropy of the exponents
  decode   into memory already touched, beside memcpy of the output
  encode   file to file, with and without reading back
  load     load_file from page cache, everything included, beside zipnn's whole load and safetensors
  open     a file of 1,000 tensors; import; --help
  codecs   one line per codec, lossy ones too, on matrices of MiniLM, beside what would be picked instead (--long: big matrices too)
  memory   private memory on a big generated checkpoint (takes minutes and 3 x --size of disk; only when named)

Run it with the interpreter of the environment that check.py makes: .venv/bin/python tools/bench.py

The peers are optional; a row says so when one is missing. They install beside wcodec, or into an environment of their own
that --peers-python names (it needs numpy there):
  pip install torch==2.13.0 && pip install zipnn==0.5.4 openzl==0.3.0 pcodec==1.1.0 ml_dtypes
(torch first and as a CPU build: zipnn asks for any torch.)
Every codec runs in its own process; repetitions are interleaved (A B C A B C), the first round is dropped, medians are shown.
zipnn gets the same number of threads as wcodec in every comparison, and a fresh copy of its input, which it overwrites.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import models
from benchmarks import codecs, memory, opening, size, speed
from benchmarks.pool import Setup
from benchmarks.report import Report, show_stamp, stamp

PARTS: dict[str, Callable[[Setup, Report], None]] = {
    "size": size.run,
    "decode": speed.decode,
    "encode": speed.encode,
    "load": speed.load,
    "open": opening.run,
    "codecs": codecs.run,
    "memory": memory.run,
}
PEERS = ("zipnn", "openzl", "openzl-huffman", "pcodec", "zstd")
USUAL = ("size", "decode", "encode", "load", "open", "codecs")


def default_scratch() -> Path:
    """A folder in memory where there is one, so that writing back to a disk does not disturb."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", help=f"which parts (default: {' '.join(USUAL)})")
    parser.add_argument("--files", default="", help="only files whose name contains one of these (bf16,minilm.f32)")
    parser.add_argument("--peers", default=",".join(PEERS), help="which peers, separated by commas (default: %(default)s)")
    parser.add_argument("--peers-python", default=sys.executable, help="interpreter in which the peers are installed (default: this one)")
    parser.add_argument("--threads", default="1,2", help="numbers of threads to measure (default: %(default)s)")
    parser.add_argument("--reps", type=int, default=7, help="repetitions after the warm-up (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="count CPU seconds of all threads, for a machine that is busy with other work")
    parser.add_argument("--cache", type=Path, default=models.CACHE, help="folder of the models, filled where they are missing")
    parser.add_argument("--scratch", type=Path, default=default_scratch(), help="folder for encoded files (default: %(default)s)")
    parser.add_argument("--disk", type=Path, help="folder for the big checkpoint of 'memory' (default: the cache)")
    parser.add_argument("--size", type=float, default=4.0, metavar="GIB", help="size of that checkpoint (default: %(default)s)")
    parser.add_argument("--long", action="store_true", help="let 'codecs' encode 100 M weights by k-means and factor a big matrix")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there as JSON too")
    parser.add_argument("--fail", action="store_true", help="exit with 1 when a target is missed")
    options = parser.parse_args()
    unknown = [part for part in options.part if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}: choose from {', '.join(PARTS)}")
    if not all(count.isdigit() and int(count) > 0 for count in options.threads.split(",")):
        parser.error("--threads takes numbers above 0, separated by commas")
    return options


def main() -> int:
    options = arguments()
    parts = options.part or list(USUAL)
    threads = tuple(int(count) for count in options.threads.split(","))
    report = Report()
    heading = stamp(options.peers_python, threads)
    show_stamp(heading)
    try:
        files = models.prepare(options.cache) if set(parts) & {"size", "decode", "encode", "load", "codecs"} else []
    except models.ModelError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    wanted = [text for text in options.files.split(",") if text]
    files = [path for path in files if not wanted or any(text in path.name for text in wanted)]
    with tempfile.TemporaryDirectory(prefix="wcodec-bench-", dir=options.scratch) as scratch:
        disk = options.disk or options.cache
        disk.mkdir(parents=True, exist_ok=True)
        peers = tuple(name for name in options.peers.split(",") if name)
        checkpoint = int(options.size * (1 << 30))
        setup = Setup(
            tuple(files), Path(scratch), disk, options.peers_python, options.reps, threads, checkpoint, peers, options.cpu, options.long
        )
        for part in parts:
            if part == "memory" and shutil.disk_usage(disk).free < 3 * checkpoint:
                print(f"\nbench: 'memory' needs {3 * checkpoint:,} bytes free in {disk}; use --disk or --size", file=sys.stderr)
                continue
            since = len(report.checks)
            PARTS[part](setup, report)
            report.show_checks(since, f"targets: {part}")
            sys.stdout.flush()
    for codec, why in report.missing.items():
        print(f"\n{codec}: {why}")
    passed = sum(check.passed for check in report.checks)
    print(f"\n{passed} of {len(report.checks)} targets reached")
    if options.json:
        options.json.write_text(json.dumps(report.document(heading), indent=1) + "\n")
    return int(options.fail and passed < len(report.checks))


if __name__ == "__main__":
    sys.exit(main())
