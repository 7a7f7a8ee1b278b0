"""Make the fixtures: golden files that every later version must decode, and files that every version must refuse.

    python tools/make_fixtures.py [--force] [--only GLOB]

The only writer of ``fixtures/``. Everything is made from seeds, with the numpy backend. A golden case is never changed once a version has
shipped it; --force overwrites cases all the same, for use before that. ``fixtures/sizes.csv`` holds what today's encoder makes of the
golden tensors, and is always written anew: a ratio regression shows as a diff.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import tempfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import bad_codebook  # noqa: F401 - adds its cases to BAD
import bad_codecs  # noqa: F401 - adds its cases to BAD
import bad_linear  # noqa: F401 - adds its cases to BAD
import bad_nwc  # noqa: F401 - likewise
import bad_rng  # noqa: F401 - adds its cases to BAD
import bad_sparse  # noqa: F401 - likewise
import bad_trellis  # noqa: F401 - likewise
import golden_codebook  # noqa: F401 - adds its cases to GOOD
import golden_linear  # noqa: F401 - adds its cases to GOOD
import golden_nwc  # noqa: F401 - likewise
import golden_rng  # noqa: F401 - adds its cases to GOOD
import golden_sparse  # noqa: F401 - adds its cases to GOOD
import golden_trellis  # noqa: F401 - likewise
from bad_cases import BAD
from golden_cases import GOOD

import wcodec

FIXTURES = Path(__file__).parents[1] / "fixtures"
LARGEST = 100_000


def sizes() -> str:
    """What today's encoder makes of the golden tensors."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["case", "source", "streams", "file"])
    with tempfile.TemporaryDirectory() as folder:
        for case in sorted((FIXTURES / "v1").iterdir()):
            target = Path(folder) / "x.wcodec"
            report = wcodec.encode(case / "expect.safetensors", target, threads=1, kernels="numpy", force=True)
            table.writerow([case.name, report.source_size, sum(row.size for row in report.tensors), report.size])
    return out.getvalue()


def write(folder: Path, files: Mapping[str, bytes], force: bool) -> None:
    """Write the files of a case. Raises SystemExit when it exists."""
    if folder.exists() and not force:
        sys.exit(f"{folder} exists; fixtures are not changed once shipped (--force overwrites)")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, data in files.items():
        assert len(data) <= LARGEST, f"{folder.name}/{name} has {len(data)} bytes"
        (folder / name).write_bytes(data)


def as_json(**fields: Any) -> bytes:
    return (json.dumps(fields, indent=2, ensure_ascii=False) + "\n").encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--force", action="store_true", help="overwrite cases")
    parser.add_argument("--only", default="*", help="glob on names of cases; cases that exist are left alone without it")
    options = parser.parse_args()
    for name, (about, make) in GOOD.items():
        if fnmatchcase(name, options.only):
            data, source = make()
            files = {"case.wcodec": data, "expect.safetensors": source, "case.json": as_json(about=about)}
            write(FIXTURES / "v1" / name, files, options.force)
    for name, (error, rule, make) in BAD.items():
        if fnmatchcase(name, options.only):
            found = make()
            files = dict(found) if isinstance(found, dict) else {"case.wcodec": found}
            write(FIXTURES / "bad" / name, files | {"case.json": as_json(error=error, rule=rule)}, options.force)
    (FIXTURES / "sizes.csv").write_text(sizes())
    total = sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file())
    print(f"{len(GOOD)} golden and {len(BAD)} bad cases, {total} bytes")


if __name__ == "__main__":
    main()
