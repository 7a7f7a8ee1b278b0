"""The shared library of ``wcodec/native``: where it lies, its structures and functions (wcodec.h), and its instruction set."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from wcodec.errors import BackendUnavailable

ABI = 14
"""WCODEC_ABI of wcodec.h that the declarations below follow."""

ISAS = ("scalar", "avx2", "avx512")
"""Instruction sets, by the number that the library gives them."""

CONTEXTS = {"none": 0, "classes": 1, "trellis": 2}
"""Contexts of entropy coding, by the number that the library gives them."""

KINDS = {"F32": 0, "F16": 1, "BF16": 2, "F64": 3}
"""Float dtypes, by the number that the library gives them."""


class Job(Structure):
    """wcodec_job."""

    _fields_ = (
        ("count", c_uint64), ("start", c_uint64), ("cols", c_uint64),
        ("lanes", c_uint32), ("precision", c_uint32), ("block", c_uint32), ("tile_rows", c_uint32), ("tile_cols", c_uint32),
        ("context", c_uint32), ("trellis", c_uint32), ("tables", c_uint32), ("column_classes", c_uint32),
        ("map", c_void_p), ("rows", c_void_p), ("columns", c_void_p),
    )  # fmt: skip


class Split(Structure):
    """wcodec_split."""

    _fields_ = (
        ("bytes", c_uint32), ("rest", c_uint32), ("sign", c_uint32), ("base", c_uint32), ("zero", c_uint32), ("packed", c_uint32),
    )  # fmt: skip


class Philox(Structure):
    """wcodec_philox."""

    _fields_ = (("seed", c_uint64), ("id", c_uint32), ("stream", c_uint32))


class Grid(Structure):
    """wcodec_grid."""

    _fields_ = (
        ("start", c_uint64), ("count", c_uint64), ("cols", c_uint64), ("group", c_uint64), ("stride", c_uint64),
        ("zero", c_uint32), ("levels", c_uint32),
    )  # fmt: skip


class Search(Structure):
    """wcodec_search."""

    _fields_ = (
        ("rows", c_uint64), ("cols", c_uint64), ("stride", c_uint64),
        ("v", c_uint32), ("entries", c_uint32), ("first", c_int32), ("zero", c_uint32), ("bytes", c_uint32),
        ("low", c_float), ("high", c_float), ("costs", c_void_p), ("shifts", c_void_p), ("classes", c_void_p),
    )  # fmt: skip


class Lattice(Structure):
    """wcodec_lattice."""

    _fields_ = (
        ("rows", c_void_p), ("columns", c_void_p), ("points", c_void_p),
        ("n_points", c_uint32), ("each", c_uint32), ("zero", c_uint32), ("kind", c_uint32),
    )  # fmt: skip


class Symbols(Structure):
    """wcodec_symbols."""

    _fields_ = (
        ("raw", c_void_p), ("outliers", c_void_p), ("first", c_void_p),
        ("bytes", c_uint32), ("bits", c_uint32), ("raw_bytes", c_uint32), ("base", c_uint32), ("zero", c_uint32), ("escape", c_uint32),
    )  # fmt: skip


_P, _N, _I = c_void_p, c_uint64, c_uint32
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "wcodec_set_isa": (c_int, (c_int,)),
    "wcodec_decode_scratch": (_N, (POINTER(Job),)),
    "wcodec_encode_scratch": (_N, (POINTER(Job),)),
    "wcodec_read_tables": (_N, (_P, _N, _I, _I, _P, _P)),
    "wcodec_rans_decode": (c_int, (POINTER(Job), _P, _P, _P, _P, _N, _P, _P)),
    "wcodec_rans_join": (c_int, (POINTER(Job), _P, _P, _P, _P, _N, _P, POINTER(Split), _P, _P)),
    "wcodec_rans_gather": (c_int, (POINTER(Job), _P, _P, _P, _P, _N, _P, _P, _I, _I, _P)),
    "wcodec_trellis_decode": (c_int, (POINTER(Job), _P, _P, _P, _P, _N, _P, POINTER(Symbols), POINTER(Lattice), _P)),
    "wcodec_trellis_dequantise": (None, (POINTER(Job), _P, _I, _P, POINTER(Lattice), _P)),
    "wcodec_fit_tables": (None, (_P, _I, _I, _P)),
    "wcodec_pack_tables": (_N, (_P, _I, _P)),
    "wcodec_choose_split": (None, (_P, _I, _N, _I, _P)),
    "wcodec_is_noise": (c_int, (_P, _N)),
    "wcodec_rans_encode": (_N, (POINTER(Job), _P, _P, _P, _P, _P, _P, _N)),
    "wcodec_rans_histogram": (None, (POINTER(Job), _P, _P, _P)),
    "wcodec_split_planes": (None, (POINTER(Split), _P, _N, _P, _P)),
    "wcodec_split_tokens": (None, (POINTER(Split), _P, _N, _I, _P, _P, _P, _P, _P)),
    "wcodec_join_planes": (None, (POINTER(Split), _P, _I, _P, _N, _P)),
    "wcodec_gather": (c_int, (_P, _I, _I, _P, _I, _N, _P)),
    "wcodec_pack_bits": (None, (_P, _I, _N, _I, _N, _P)),
    "wcodec_unpack_bits": (None, (_P, _I, _N, _I, _N, _P)),
    "wcodec_count_kept": (_N, (_P, _N, _I)),
    "wcodec_kept_positions": (None, (_P, _N, _I, _P, _N)),
    "wcodec_gap_positions": (c_int, (_P, _I, _P, _N, _N, _P)),
    "wcodec_bundle_mask": (c_int, (_P, _I, _P, _N, _I, _I, _N, _P)),
    "wcodec_scatter": (None, (_P, _N, _P, _I, _P, _N, c_int)),
    "wcodec_join_tokens": (None, (_P, _P, _I, _N, _I, _I, _I, _I, _I, _P)),
    "wcodec_philox_fill": (None, (POINTER(Philox), _P, c_float, c_float, _N, _N, _I, _P)),
    "wcodec_philox_draw": (_N, (POINTER(Philox), _I, _N, _N, _P)),
    "wcodec_dequantise": (c_int, (POINTER(Grid), _P, _I, _P, _I, _P)),
    "wcodec_quantise": (None, (POINTER(Grid), _P, _P, _I, _P)),
    "wcodec_round": (None, (_P, _N, _I, _P)),
    "wcodec_add": (c_int, (_P, _P, _N)),
    "wcodec_search_scratch": (_N, (POINTER(Search),)),
    "wcodec_trellis_search": (None, (POINTER(Search), _P, _P, _P, _P, _P, _P)),
    "wcodec_scale": (None, (_P, _N, _N, _N, POINTER(Lattice), _P)),
    "wcodec_net_scratch": (_N, (_P,)),
    "wcodec_run_net": (None, (_P, _P, _N, _N, _P, _I, _P, _P)),
    "wcodec_same": (c_int, (_P, _P, _N)),
}

_BRIEF = ("wcodec_decode_scratch", "wcodec_encode_scratch", "wcodec_read_tables", "wcodec_fit_tables", "wcodec_pack_tables")
"""Functions that take microseconds: letting other threads run meanwhile would cost more, and wait for them longer."""


def _candidates() -> Iterator[Path]:
    """Yield where the library may be: beside the package, or where an editable install put it."""
    names = ("_wcodec.so", "_wcodec.dll")
    for place in (Path(__file__).parents[2], *map(Path, sys.modules["wcodec"].__path__)):
        yield from (place.absolute() / "native" / name for name in names)
    from importlib.metadata import PackageNotFoundError, files  # slow to import, and seldom needed

    try:
        found = files("wcodec") or []
    except PackageNotFoundError:
        return
    yield from (Path(str(file.locate())) for file in found if file.name in names)


class Library:
    """The functions of the library, each declared when it is first used: a process needs few of them."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._long, self._brief = library, ctypes.PyDLL(library._name, handle=library._handle)

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._brief if name in _BRIEF else self._long, name)
        function.restype, function.argtypes = _FUNCTIONS[name]
        setattr(self, name, function)
        return function


def open_library() -> Library:
    """Open the first library of the right ABI. Raises BackendUnavailable with the reason."""
    reason = "wcodec was installed without its native library (no C compiler was found, or this is a source tree)"
    for path in _candidates():
        if not path.is_file():
            continue
        try:
            library = ctypes.CDLL(str(path))
            library.wcodec_abi.restype, library.wcodec_abi.argtypes = c_int, ()
            abi = library.wcodec_abi()
        except (OSError, AttributeError) as error:
            reason = f"the native library does not load: {error}"
            continue
        if abi == ABI:
            return Library(library)
        reason = f"the native library {path} is stale (ABI {abi}, this wcodec needs {ABI}): install wcodec again"
    raise BackendUnavailable(reason)


class Native:
    """What the native verbs share: the library, and the instruction set that it uses."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._isa = 0
        self.set_isa(ISAS[-1])

    @property
    def isa(self) -> str:
        """Instruction set in use."""
        return ISAS[self._isa]

    def set_isa(self, cap: str) -> str:
        """Use the best instruction set of this CPU up to ``cap``, in all threads; return it."""
        if cap not in ISAS:
            raise BackendUnavailable(f"WCODEC_ISA is {cap!r}, not one of {', '.join(ISAS)}")
        self._isa = self._library.wcodec_set_isa(ISAS.index(cap))
        return self.isa
