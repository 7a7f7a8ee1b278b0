"""Make wcodec/coding/normal.bin: the 4,096 magnitudes of normal numbers (spec/rng.md section 3), by decimal arithmetic alone.

python tools/make_normal_table.py [--check]
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from decimal import Decimal, localcontext
from pathlib import Path

TABLE = Path(__file__).parents[1] / "wcodec" / "coding" / "normal.bin"
COUNT, SCALE = 4096, 1 << 22


def half_integral(z: Decimal) -> Decimal:
    """Return the integral of exp(−t²/2) from 0 to z, by its power series."""
    term, total, k = z, z, 0
    while abs(term) > Decimal("1e-45"):
        k += 1
        term *= -z * z / (2 * k)
        total += term / (2 * k + 1)
    return total


def magnitudes() -> list[int]:
    """Return n_i = round(2^22 · z_i), z_i the (i + ½) / 4096 quantile of |N(0, 1)|."""
    with localcontext() as context:
        context.prec = 60
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
        whole = (pi / 2).sqrt()
        z, found = Decimal(0), []
        for i in range(COUNT):
            target = whole * (2 * i + 1) / (2 * COUNT)
            for _ in range(50):  # Newton, from the quantile before
                step = (half_integral(z) - target) * (z * z / 2).exp()
                z -= step
                if abs(step) < Decimal("1e-25"):
                    break
            found.append(int((z * SCALE).to_integral_value()))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    options = parser.parse_args()
    data = b"".join(n.to_bytes(4, "little") for n in magnitudes())
    if options.check:
        sys.exit(0 if TABLE.read_bytes() == data else f"{TABLE} is not what this makes")
    TABLE.write_bytes(data)
    print(hashlib.sha256(data).hexdigest())


if __name__ == "__main__":
    main()
