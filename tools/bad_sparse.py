"""The reject corpus of sparse tensors and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from bad_cases import bad, file_of
from golden_cases import raw

from wcodec.types import Section, Spec


def listed(*x: int, dtype: str = "u1") -> Section:
    return raw(np.array(x, dtype))


def case(rule: str, what: str, section: Section, spec: Spec, parts: Any = (), **params: Any) -> None:
    """A section in which parts and params are others; its digest is never reached."""
    kept = {key: value for key, value in {**section.params, **params}.items() if value is not None}
    bad(rule, what, lambda: file_of(Section(section.codec, kept, {**section.parts, **dict(parts)}), spec))


MASK, ROWS, VALUES = Spec.of("BOOL", 20), Spec.of("BOOL", 2, 6), Spec.of("U8", 4)
GAPS = Section("gaps", {"kept": 3, "block": 10}, {"counts": listed(2, 1, dtype="<u4"), "gaps": listed(4, 4, 9)})
BITMAP = Section("bitmap", {"block": 16}, {"bits": listed(1, 128, 9), "counts": listed(2, 2, dtype="<u4")})
NM = Section("nm", {"n": 2, "m": 4, "axis": 1}, {"patterns": listed(5, 0, 0, 0)})
GS = Section("gs", {"banks": 4, "per_row": 2, "groups": 1}, {"counts": listed(1, dtype="<u4"), "gaps": listed(0, 1, 2, 2)})
SPARSE = Section("sparse", {"kept": 2}, {"mask": listed(0, 1, 0, 1), "values": listed(7, 9)})

case("SPARSE-1", "kept", SPARSE, VALUES, kept=5)
case("SPARSE-1", "delta_type", SPARSE, VALUES, delta=1)
case("SPARSE-1", "delta_without_fill", SPARSE, VALUES, delta=True)
case("SPARSE-1", "delta_of_integers", SPARSE, VALUES, {"fill": listed(0, 0, 0, 0)}, delta=True)
case("SPARSE-1", "dtype", SPARSE, Spec.of("F4", 4))
case("SPARSE-2", "more", SPARSE, VALUES, {"mask": listed(1, 1, 0, 1)})
case("SPARSE-2", "fewer", SPARSE, VALUES, {"mask": listed(0, 0, 0, 1)})

case("GAPS-1", "kept", GAPS, MASK, kept=21)
case("GAPS-1", "block", GAPS, MASK, block=0)
case("GAPS-1", "bits", GAPS, MASK, bits=9)
case("GAPS-1", "dtype", GAPS, Spec.of("U8", 20))
case("GAPS-2", "sum", GAPS, MASK, {"counts": listed(2, 2, dtype="<u4")})
case("GAPS-3", "beyond_block", GAPS, MASK, {"gaps": listed(4, 5, 9)})
case("GAPS-3", "other_block", GAPS, MASK, {"counts": listed(1, 2, dtype="<u4")})
case("GAPS-3", "beyond_end", GAPS, Spec.of("BOOL", 19))

case("BITMAP-1", "block", BITMAP, MASK, block=12)
case("BITMAP-1", "dtype", BITMAP, Spec.of("I8", 20))
case("BITMAP-2", "moved", BITMAP, MASK, {"counts": listed(3, 1, dtype="<u4")})
case("BITMAP-2", "more", BITMAP, MASK, {"counts": listed(2, 3, dtype="<u4")})
case("BITMAP-3", "padding", BITMAP, MASK, {"bits": listed(1, 128, 25)})

case("NM-1", "n", NM, ROWS, n=5)
case("NM-1", "m", NM, ROWS, m=33)
case("NM-1", "axis", NM, ROWS, axis=2)
case("NM-1", "no_dimension", NM, Spec.of("BOOL"))
case("NM-2", "pattern", NM, ROWS, {"patterns": listed(6, 0, 0, 0)})
case("NM-2", "short_group", NM, ROWS, {"patterns": listed(5, 1, 0, 0)})

case("GS-1", "banks", GS, ROWS, banks=257)
case("GS-1", "per_row", GS, ROWS, per_row=3)
case("GS-1", "rows", GS, ROWS, per_row=1)
case("GS-1", "groups", GS, ROWS, groups=4)
case("GS-1", "scatter", GS, ROWS, scatter=1)
case("GS-2", "sum", GS, ROWS, {"counts": listed(2, dtype="<u4")})
case("GS-3", "beyond_bundle", GS, ROWS, {"gaps": listed(4, 1, 2, 2)})
case("GS-3", "beyond_columns", GS, ROWS, {"gaps": listed(0, 1, 1, 2)})
case("GS-3", "share", GS, ROWS, {"gaps": listed(0, 1, 0, 2)})
case("GS-4", "twice", GS, ROWS, {"rows": listed(0, 0, dtype="<u4")}, scatter=True)
case("GS-4", "beyond", GS, ROWS, {"rows": listed(0, 2, dtype="<u4")}, scatter=True)
