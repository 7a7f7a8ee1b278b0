"""Decode a .wcodec file with the decoder written from the specification.

    python tools/refdecode FILE.wcodec [OUT.safetensors]

The exit code is 0 for a good file and 1 for a refused one, which prints `RULE: message`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from refdecode import Refused, check_shards, decode_all, open_file
from refdecode.records import Record
from refdecode.source import content_digest, rebuild_source


def read(path: Path, output: Path | None) -> dict[str, Record]:
    if path.name.endswith(".index.json"):
        return check_shards(path)
    container = open_file(path)
    decode_all(container)
    if output:
        output.write_bytes(rebuild_source(container))
    return container.targets()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("output", type=Path, nargs="?", help="where to write the source, a safetensors file")
    options = parser.parse_args()
    try:
        records = read(options.file, options.output)
    except Refused as refused:
        print(refused)
        return 1
    except FileNotFoundError as error:
        print(f"MISSING: {error.filename}")
        return 1
    for name, record in records.items():
        print(f"{name}\t{record.dtype}\t{list(record.shape)}\t{record.digest.hex()}")
    print(f"content digest {content_digest(records)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
