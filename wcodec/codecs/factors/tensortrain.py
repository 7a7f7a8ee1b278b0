"""tensortrain: a matrix as a train of small cores (spec/codecs/tensortrain.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.codecs import base
from wcodec.codecs.base import F64, MAX_PARTS, Codec, Env, Expected
from wcodec.codecs.factors.factoring import bond_limits, factorise, train_size, tt_svd
from wcodec.codecs.factors.lowrank import encode_factor, finite, magnitudes, rounding
from wcodec.codecs.matrix import approximable, matrix_shape
from wcodec.codecs.params import uints
from wcodec.coding.numbers import LOSSY
from wcodec.coding.uniform import F32
from wcodec.errors import Corrupt, EncodeError
from wcodec.types import Params, Part, Section, Spec, UInts

SITES = 3
Array: TypeAlias = npt.NDArray[Any]


def _shapes(params: Params, spec: Spec) -> list[tuple[int, int, int, int]]:
    """Check the params and return the shapes of the cores. Raises Corrupt [TENSORTRAIN-1, TENSORTRAIN-2]."""
    if spec.dtype.name not in LOSSY:
        raise Corrupt(f"tensortrain decodes to {', '.join(LOSSY)}, not {spec.dtype.name}", rule="TENSORTRAIN-1")
    rows = uints(params, "rows", 1, 2**32 - 1, "TENSORTRAIN-1", range(1, MAX_PARTS + 1))
    sites = len(rows)
    cols = uints(params, "columns", 1, 2**32 - 1, "TENSORTRAIN-1", range(sites, sites + 1))
    bonds = uints(params, "bonds", 1, 2**32 - 1, "TENSORTRAIN-1", range(sites - 1, sites))
    for factors, length in zip((rows, cols), matrix_shape(spec), strict=True):
        if not length <= prod(factors) <= 2 * max(1, length):
            raise Corrupt(f"sites {list(factors)} do not hold {length} with less than as many more", rule="TENSORTRAIN-2")
    if any(bond > most for bond, most in zip(bonds, bond_limits(rows, cols), strict=True)):
        raise Corrupt(f"bonds {list(bonds)} are larger than what they join", rule="TENSORTRAIN-2")
    return list(zip((1, *bonds), rows, cols, (*bonds, 1), strict=True))


class TensorTrain(Codec):
    """Stores a matrix as a matrix product operator.

    Options: the bonds, by one of ``bond`` (the largest), ``error`` (relative) and ``keep`` (share of the parameters, 0.5); sites (3) or
    rows and columns, their factors; cores: config of every core (rounded to the tensor's dtype).
    """

    name = "tensortrain"
    params = frozenset({"rows", "columns", "bonds"})
    options = frozenset({"bond", "error", "keep", "sites", "rows", "columns", "cores"})
    exact: ClassVar[bool] = False
    lossless: ClassVar[bool] = False
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({}, {"bond": 4, "sites": 2, "cores": {"codec": "uniform", "bits": 8}})

    def suits(self, spec: Spec) -> bool:
        return spec.dtype.name in LOSSY

    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        return {str(i): Spec.of("F32", *shape) for i, shape in enumerate(_shapes(section.params, spec))}

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        return int(max(1, min(prod(section.params["rows"][1:]) * matrix_shape(spec)[1], spec.count)))

    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        backend, f32 = env.backend, np.dtype(np.uint32)

        def product(a: F32, b: F32) -> F32:
            found = backend.floats(backend.empty(a.shape[0] * b.shape[1], f32)).reshape(a.shape[0], b.shape[1])
            backend.matmul(a, b, found)
            return found

        shapes = _shapes(section.params, spec)
        with backend.at_once():
            cores = [self._core(section.parts[str(i)], Spec.of("F32", *shape), env) for i, shape in enumerate(shapes)]
            for begin, end, piece in _blocks(cores, spec, start, stop, product, backend.transpose):
                backend.round_floats(piece, spec.dtype, out[begin - start : end - start])

    def bound(self, section: Section, spec: Spec, env: Env, start: int, stop: int) -> F64:
        pairs, largest = [], 1.0
        for i, shape in enumerate(_shapes(section.params, spec)):
            its = Spec.of("F32", *shape)
            pairs.append([size.reshape(shape) for size in magnitudes(section.parts[str(i)], its, env, 0, its.count)])
            largest *= max(1.0, shape[0] * float(pairs[-1][1].max(initial=0)))  # at least that of any neighbours' product
        exact, moved = np.zeros(stop - start), np.zeros(stop - start)
        with np.errstate(over="ignore", invalid="ignore"):
            for found, cores in zip((exact, moved), zip(*pairs, strict=True), strict=True):
                for begin, end, piece in _blocks(cores, spec, start, stop, np.matmul, np.transpose):
                    found[begin - start : end - start] = piece
        same = all(size is more for size, more in pairs)
        return rounding(max(1, sum(section.params["bonds"])), exact, exact if same else moved, largest)

    def _core(self, part: Part, spec: Spec, env: Env) -> F32:
        return finite(base.decode_all(part, spec, env), "TENSORTRAIN-3", env).reshape(spec.shape)

    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        shape = matrix_shape(spec)
        values = approximable(x, spec, self.name).reshape(shape)
        sites = options.get("sites", SITES)
        if not 1 <= sites <= 16:
            raise EncodeError(f"{sites} sites, there can be 1 to 16")
        rows, cols = (options.get(key) or factorise(length, sites) for key, length in zip(("rows", "columns"), shape, strict=True))
        cores = tt_svd(values, rows, cols, _bond(rows, cols, values.size, options), options.get("error"))
        parts: dict[str, Part] = {}
        for i, core in enumerate(cores):
            parts[str(i)] = encode_factor(core, spec.dtype, env, options.get("cores"))
        params = {"rows": list(rows), "columns": list(cols), "bonds": [core.shape[3] for core in cores[:-1]]}
        found = Section("tensortrain", params, parts)
        try:
            _shapes(params, spec)
        except Corrupt as error:
            raise EncodeError(error.message) from None
        return found


def _bond(rows: tuple[int, ...], cols: tuple[int, ...], count: int, options: Mapping[str, Any]) -> int | None:
    """Return the largest bond that the options ask for; None: as many as the error needs. Raises EncodeError."""
    asked = [key for key in ("bond", "error", "keep") if options.get(key) is not None]
    if len(asked) > 1 or any(not options[key] > 0 for key in asked):
        raise EncodeError(f"{' and '.join(asked)}: only one of them, and a positive one")
    if asked == ["error"]:
        return None
    if asked == ["bond"]:
        return int(options["bond"])
    keep = options.get("keep") or 0.5
    most = max([1, *bond_limits(rows, cols)])
    low, high = 1, most
    while low < high:  # the largest bond that fits
        middle = (low + high + 1) // 2
        low, high = (middle, high) if train_size(rows, cols, middle) <= keep * count else (low, middle - 1)
    return low


def _blocks(
    cores: Sequence[Array], spec: Spec, start: int, stop: int, product: Callable[[Array, Array], Array], transpose: Callable[..., Array]
) -> Iterator[tuple[int, int, Array]]:
    """Yield windows (begin, end) of the matrix of a train, and their elements: what some rows of the first core give.

    As many rows as need no more memory than the product of the other cores, which narrow products would wait for.
    """
    (rows, cols), high = matrix_shape(spec), prod(core.shape[1] for core in cores[1:])
    tail = _contract(cores[1:], product, transpose) if len(cores) > 1 else cores[0][:0]
    first, last = (start // cols, -(-stop // cols)) if cols else (0, 0)
    _, _, width, bond = cores[0].shape
    stops, some = -(-last // high), max(1, bond // width)
    for at in range(first // high, stops, some):
        these = cores[0][0, at : min(at + some, stops)]
        count, block = len(these), these.reshape(-1, bond)
        if len(cores) > 1:
            block = product(block, tail.reshape(bond, -1))
        whole = transpose(block.reshape(count, width, high, -1), (0, 2, 1, 3)).reshape(count * high, -1)[: rows - at * high, :cols]
        offset = at * high * cols
        begin, end = max(start, offset), min(stop, offset + len(whole) * cols)
        yield begin, end, whole.reshape(-1)[begin - offset : end - offset]


def _contract(cores: Sequence[Array], product: Callable[[Array, Array], Array], transpose: Callable[..., Array]) -> Array:
    """Return the product of one core or more as [χ, rows, columns] of what they span."""
    found = cores[0]
    for core in cores[1:]:
        (bond, a, b, inner), (_, c, d, last) = found.shape, core.shape
        joined = product(found.reshape(-1, inner), core.reshape(inner, -1))
        found = transpose(joined.reshape(bond, a, b, c, d, last), (0, 1, 3, 2, 4, 5)).reshape(bond, a * c, b * d, last)
    return found.reshape(found.shape[:3])
