"""Run the command line: ``python -m wcodec``."""

from __future__ import annotations

import sys

from wcodec.cli import main

if __name__ == "__main__":
    sys.exit(main())
