"""Typed constructors, one per codec: build sections from results that a method already has, and write them with ``wcodec.Writer``.

A part is given as an array (stored losslessly in the smallest way), as the ``Coded`` of another constructor, or as a ``Shared``
that several tensors use. Nothing is decided here: what is passed is what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.codecs import CODECS, Env, check
from wcodec.codecs.lossless import encode_part
from wcodec.errors import EncodeError
from wcodec.numpy import spec_of
from wcodec.types import DTYPES, Part, Resource, Section, Spec, UInts

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Coded:
    """An encoded array: what it decodes to, and its section."""

    spec: Spec
    section: Section


Shared: TypeAlias = Resource
"""A part that the file stores once, however many tensors use it (made by ``share``)."""
Child: TypeAlias = "Array | Coded | Shared"


def _env() -> Env:
    from wcodec.api.work import make_env

    return make_env()


def _storage(array: Array) -> tuple[Spec, UInts]:
    array = np.asarray(array)
    spec = spec_of(array)
    return spec, np.ascontiguousarray(array).reshape(-1).view(spec.dtype.storage)


def _child(child: Child, dtype: str | None = None) -> Coded | Shared:
    """Return a part; an array is converted to dtype, and stored losslessly."""
    if isinstance(child, Coded | Resource):
        return child
    from wcodec.numpy import numpy_dtype

    array = np.asarray(child) if dtype is None else np.asarray(child).astype(numpy_dtype(dtype), copy=False)
    spec, x = _storage(array)
    return Coded(spec, encode_part(x, spec, _env()))


def _part(coded: Coded | Shared) -> Part:
    return coded if isinstance(coded, Resource) else coded.section


def _made(codec: str, spec: Spec, params: Mapping[str, Any], parts: Mapping[str, Coded | Shared]) -> Coded:
    """Build and check a section. Raises WcodecError with the page's rule."""
    section = Section(codec, dict(params), {name: _part(part) for name, part in parts.items()})
    check(section, spec, _env())
    return Coded(spec, section)


def encoded(codec: str, array: Array, **options: Any) -> Coded:
    """Encode an array with a codec and its encoder options, as recipes do; ``codec="lossless"`` takes the smallest."""
    spec, x = _storage(array)
    return Coded(spec, encode_part(x, spec, _env(), {"codec": codec, **options}))


def share(child: Child) -> Shared:
    """Make a part that several tensors use: pass the result to each of their constructors."""
    coded = _child(child)
    return coded if isinstance(coded, Resource) else Resource(coded.spec, coded.section)


def lossless(array: Array) -> Coded:
    """Store any array without loss in the smallest way."""
    return encoded("lossless", array)


def raw(array: Array) -> Coded:
    """Store the bytes themselves (spec/codecs/raw.md)."""
    return encoded("raw", array)


def const(array: Array) -> Coded:
    """Store an array whose elements are all equal (spec/codecs/const.md)."""
    return encoded("const", array)


def bitpack(array: Array) -> Coded:
    """Store unsigned integers in as many bits as their spread needs (spec/codecs/bitpack.md)."""
    return encoded("bitpack", array)


def rans(array: Array, *, precision: int = 12, bits: int = 0) -> Coded:
    """Store U8, U16 or U32 entropy-coded; bits: raw low bits of each (spec/codecs/rans.md)."""
    return encoded("rans", array, precision=precision, bits=bits)


def zstd(array: Array) -> Coded:
    """Store the bytes as one zstd frame (spec/codecs/zstd.md)."""
    return encoded("zstd", array)


def planes(array: Array) -> Coded:
    """Store floats without loss, their exponents entropy-coded (spec/codecs/planes.md)."""
    return encoded("planes", array)


def concat(parts: Sequence[Child]) -> Coded:
    """Join parts of one dtype along axis 0 (spec/codecs/concat.md)."""
    made = [_child(part) for part in parts]
    if not made or not made[0].spec.shape:
        raise EncodeError("concat joins one or more arrays with at least one dimension")
    lengths = [part.spec.shape[0] for part in made]
    spec = Spec(made[0].spec.dtype, (int(np.sum(lengths)), *made[0].spec.shape[1:]))
    return _made("concat", spec, {"lengths": lengths}, {str(i): part for i, part in enumerate(made)})


def uniform(
    symbols: Child,
    steps: Child | float,
    *,
    dtype: str = "F32",
    levels: int,
    zero: int,
    per: Literal["tensor", "row", "column", "group"] = "tensor",
    group: int | None = None,
) -> Coded:
    """Store step · (symbol − zero) (spec/codecs/uniform.md).

    symbols: unsigned integers below levels, of the tensor's shape. steps: one, or one per row, column or group of a row, as ``per`` says.
    """
    width = "U8" if levels <= 256 else "U16" if levels <= 65536 else "U32"
    its, step = _child(symbols, width), _child(np.atleast_1d(steps) if isinstance(steps, float | np.ndarray) else steps, "F32")
    params = {"levels": levels, "zero": zero} | ({} if per == "tensor" else {"per": per}) | ({} if group is None else {"group": group})
    return _made("uniform", Spec(DTYPES[dtype], its.spec.shape), params, {"symbols": its, "steps": step})


def trellis(
    symbols: Child,
    step: float,
    *,
    zero: int,
    dtype: str = "F32",
    states: int = 32,
    tile: tuple[int, int] | None = None,
    rows: Child | None = None,
    columns: Child | None = None,
    points: Sequence[int] = (),
) -> Coded:
    """Store step · k, k = 2 · (symbol − zero) + z0, z0 by a trellis that the parities of symbols drive (spec/codecs/trellis.md).

    symbols: unsigned integers whose parities follow the trellises of ``states`` states, one for every column of tiles (R, C), or of rows
    of 128 in linear order; or a ``rans`` of them. rows, columns: U8 codes of factors of the step. points: in 256ths of a step.
    """
    if not isinstance(symbols, Coded | Resource):
        array = np.asarray(symbols)
        kind = np.uint8 if not array.size or int(array.max()) < 256 else np.uint16
        order = {} if tile is None else {"tile": tile}
        bits = max(0, int(array.max(initial=0)).bit_length() - 8)
        symbols = encoded("rans", array.astype(kind), trellis=states.bit_length() - 1, bits=bits, **order)
    its = _child(symbols)
    params: dict[str, Any] = {"zero": zero, "step": int(np.float32(step).view(np.uint32))}
    params |= ({"wide": True} if its.spec.dtype.name == "U16" else {}) | ({"points": list(points)} if points else {})
    parts = {"symbols": its}
    for name, codes in (("rows", rows), ("columns", columns)):
        if codes is not None:
            params[name], parts[name] = True, _child(codes, "U8")
    return _made("trellis", Spec(DTYPES[dtype], its.spec.shape), params, parts)


def sum(layers: Sequence[Child], *, dtype: str = "F32") -> Coded:
    """Add float32 layers in order; a reader may stop after any (spec/codecs/sum.md)."""
    from wcodec.codecs.base import exact

    made = [_child(layer, "F32") for layer in layers]
    precise = all(exact(_part(layer), _env()) for layer in made)
    params = {"layers": len(made)} | ({} if precise else {"tolerant": True})
    return _made("sum", Spec(DTYPES[dtype], made[0].spec.shape), params, {str(i): layer for i, layer in enumerate(made)})


def codebook(indices: Child, centroids: Child, *, shape: Sequence[int] | None = None) -> Coded:
    """Store indices into centroids [K] or [K, d] (spec/codecs/codebook.md).

    indices: U8 up to 256 centroids, else U16, of the tensor's shape; for d > 1 [rows, ⌈columns / d⌉], and shape is the tensor's.
    """
    book = _child(centroids)
    its = _child(indices, "U8" if book.spec.shape[0] <= 256 else "U16")
    width = book.spec.shape[1] if len(book.spec.shape) == 2 else 1
    if width > 1 and shape is None:
        raise EncodeError("codebooks of blocks need the shape of the tensor")
    params = {"centroids": book.spec.shape[0]} | ({"width": width} if width > 1 else {})
    whole = tuple(its.spec.shape if shape is None else shape)
    return _made("codebook", Spec(book.spec.dtype, whole), params, {"centroids": book, "indices": its})


def sparse(mask: Child, values: Child, *, fill: Child | None = None, delta: bool = False) -> Coded:
    """Store values where a mask keeps them, and a fill (zeros) everywhere else (spec/codecs/sparse.md).

    mask: bool, of the tensor's shape, or one of ``gaps bitmap nm gs draw``. values: one per kept element, in C order; with delta,
    differences to the fill. fill: an array, ``philox`` or ``mt19937``.
    """
    if isinstance(mask, np.ndarray):
        from wcodec.codecs.masks.smallest_mask import smallest_mask

        its = Spec(DTYPES["BOOL"], mask.shape)
        mask = Coded(its, smallest_mask(np.ascontiguousarray(mask, bool).reshape(-1).view(np.uint8), its, _env()))
    kept = _child(values)
    parts = {"mask": _child(mask), "values": kept} | ({} if fill is None else {"fill": _child(fill)})
    params = {"kept": prod(kept.spec.shape)} | ({"delta": True} if delta else {})
    return _made("sparse", Spec(kept.spec.dtype, parts["mask"].spec.shape), params, parts)


def gaps(mask: Array) -> Coded:
    """Store a mask as distances between kept elements (spec/codecs/gaps.md)."""
    return encoded("gaps", np.asarray(mask, bool))


def bitmap(mask: Array) -> Coded:
    """Store a mask as one bit per element (spec/codecs/bitmap.md)."""
    return encoded("bitmap", np.asarray(mask, bool))


def nm(mask: Array, n: int = 2, m: int = 4, axis: int | None = None) -> Coded:
    """Store a mask that keeps n of every m neighbours along an axis, the last by default (spec/codecs/nm.md)."""
    mask = np.asarray(mask, bool)
    return encoded("nm", mask, n=n, m=m, axis=mask.ndim - 1 if axis is None else axis)


def gs(mask: Array, banks: int, per_row: int) -> Coded:
    """Store a gather–scatter mask GS(B, k): banks B, per_row k (spec/codecs/gs.md)."""
    return encoded("gs", np.asarray(mask, bool), banks=banks, per_row=per_row)


def draw(shape: Sequence[int], *, seed: int, threshold: int, id: int = 0, stream: int = 0) -> Coded:
    """Store a mask that chance drew: kept where the Philox word is below threshold (spec/codecs/draw.md)."""
    return _made("draw", Spec.of("BOOL", *shape), {"seed": seed, "id": id, "stream": stream, "threshold": threshold}, {})


def philox(
    shape: Sequence[int],
    *,
    seed: int,
    scale: float,
    kind: Literal["uniform", "normal"] = "uniform",
    id: int = 0,
    stream: int = 0,
    decay: float = 1.0,
    dtype: str = "F32",
) -> Coded:
    """Store random numbers as their seed (spec/rng.md): uniform within ± scale, or normal with that deviation."""
    codec, spec = CODECS["philox"], Spec.of(dtype, *shape)
    params = codec.wire(seed=seed, id=id, stream=stream, kind=kind, scale=scale, decay=decay)  # type: ignore[attr-defined]
    return _made("philox", spec, params, {})


def mt19937(shape: Sequence[int], *, seed: int, offset: int, low: float, high: float, dtype: str = "F32") -> Coded:
    """Store what torch's CPU generator draws uniformly after a seed (spec/rng.md); offset: words drawn before."""
    codec, spec = CODECS["mt19937"], Spec.of(dtype, *shape)
    return _made("mt19937", spec, codec.wire(seed=seed, offset=offset, low=low, high=high), {})  # type: ignore[attr-defined]


def lowrank(left: Child, right: Child, *, shape: Sequence[int] | None = None, dtype: str = "F32") -> Coded:
    """Store left [rows, k] · right [k, columns] (spec/codecs/lowrank.md); shape: the tensor's when it is not a matrix."""
    a, b = _child(left, "F32"), _child(right, "F32")
    whole = (a.spec.shape[0], b.spec.shape[1]) if shape is None else tuple(shape)
    return _made("lowrank", Spec(DTYPES[dtype], whole), {"rank": a.spec.shape[1]}, {"left": a, "right": b})


def tensortrain(cores: Sequence[Child], shape: Sequence[int], *, dtype: str = "F32") -> Coded:
    """Store a matrix product operator of cores [χ, o, i, χ′] (spec/codecs/tensortrain.md); shape: the tensor's."""
    made = [_child(core, "F32") for core in cores]
    shapes = [core.spec.shape for core in made]
    params = {"rows": [s[1] for s in shapes], "columns": [s[2] for s in shapes], "bonds": [s[3] for s in shapes[:-1]]}
    return _made("tensortrain", Spec(DTYPES[dtype], tuple(shape)), params, {str(i): core for i, core in enumerate(made)})
