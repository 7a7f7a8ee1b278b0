"""Hypothesis strategies: tensors of every dtype, shape and kind of content, as storage elements whose bits count."""

from __future__ import annotations

from math import prod

import numpy as np
from hypothesis import strategies as st

from wcodec.coding.numbers import LOSSY, from_float32
from wcodec.types import DTYPES, DType, Spec, UInts

LARGEST = 30_000
"""Elements of the largest tensors."""

SHAPES = [
    (), (0,), (1,), (2,), (3,), (7,), (64,), (127,), (128,), (129,), (255, 3), (0, 5), (5, 0), (1, 1, 1), (2, 3, 5), (4, 1, 130), (1, 257),
    (33, 129), (300, 7), (8193,), (3, 5003), (0, 2**40), (2**31, 0, 7), (1,) * 64,
]  # fmt: skip


def unsigned(dtype: DType) -> np.dtype:
    return dtype.storage


def _random_bits(rng: np.random.Generator, count: int, dtype: DType) -> UInts:
    return rng.integers(0, 256, count * dtype.storage.itemsize, np.uint8).view(dtype.storage)


def _gaussian(rng: np.random.Generator, count: int, dtype: DType) -> UInts:
    """Weights as models have them, rounded to the dtype's own exponent and mantissa; small integers where it has none."""
    x = rng.standard_normal(count) * 0.02
    if not dtype.mantissa or dtype.bits < 8:
        return np.rint(x * 500).astype(np.int64).astype(dtype.storage)
    if dtype.storage.itemsize == 8:
        return x.view(np.uint64)
    if dtype.storage.itemsize == 4:
        return x.astype(np.float32).view(np.uint32)
    if dtype.name == "F16":
        return x.astype(np.float16).view(np.uint16)
    top = x.astype(np.float32).view(np.uint32)
    if dtype.storage.itemsize == 2:
        return (top >> 16).astype(np.uint16)
    sign, scale = (top >> 31).astype(np.uint8), (1 << dtype.exponent) - 8
    exponent = np.clip((top >> 23 & 0xFF).astype(np.int64) - 127 + scale, 0, (1 << dtype.exponent) - 1)
    mantissa = top >> np.uint32(23 - dtype.mantissa) & np.uint32((1 << dtype.mantissa) - 1)
    return (sign << 7 | (exponent << dtype.mantissa | mantissa).astype(np.uint8)).astype(np.uint8)


def _constant(rng: np.random.Generator, count: int, dtype: DType) -> UInts:
    return np.repeat(_random_bits(rng, 1, dtype), count)


def _few(rng: np.random.Generator, count: int, dtype: DType) -> UInts:
    return _random_bits(rng, 5, dtype)[rng.integers(0, 5, count)]


def _zeros(rng: np.random.Generator, count: int, dtype: DType) -> UInts:
    x = _gaussian(rng, count, dtype)
    x[rng.random(count) < 0.9] = 0
    return x


def _sorted(rng: np.random.Generator, count: int, dtype: DType) -> UInts:
    return np.sort(rng.integers(0, 3 * count + 1, count)).astype(dtype.storage)


def _positive(rng: np.random.Generator, count: int, dtype: DType) -> UInts:
    kind = dtype.storage.type
    return _gaussian(rng, count, dtype) & kind((1 << (8 * dtype.storage.itemsize - 1)) - 1)


def _special(rng: np.random.Generator, count: int, dtype: DType) -> UInts:
    """−0, infinities, NaNs with payloads, subnormals: everything that arithmetic would change."""
    bits = 8 * dtype.storage.itemsize
    sign, low = 1 << (bits - 1), (1 << dtype.mantissa) - 1 if dtype.mantissa else 1
    top = (sign - 1) & ~low
    picks = [0, sign, top, top | sign, top | 1, top | low, sign | top | (low >> 1), 1, sign | 1, low, sign - 1, 2 * sign - 1]
    return np.array(picks, np.uint64).astype(dtype.storage)[rng.integers(0, len(picks), count)]


KINDS = (_random_bits, _gaussian, _constant, _few, _zeros, _sorted, _positive, _special)


def fill(kind: int, seed: int, spec: Spec) -> UInts:
    """Storage elements of a spec, all bits decided by kind and seed."""
    return KINDS[kind % len(KINDS)](np.random.default_rng(seed), spec.count, spec.dtype)


def whole(dtype: DType, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Change a shape so that a sub-byte dtype fills whole bytes."""
    return shape if dtype.bits >= 8 or prod(shape) * dtype.bits % 8 == 0 else (*shape, 8)


def fits(dtype: DType, shape: tuple[int, ...]) -> bool:
    return len(shape) <= 64 and prod(d for d in shape if d) * dtype.bits < 2**66


@st.composite
def specs(draw: st.DrawFn, dtypes: tuple[str, ...] = tuple(DTYPES)) -> Spec:
    """Specs of 0-d, empty, odd and large tensors."""
    dtype = DTYPES[draw(st.sampled_from(dtypes))]
    drawn = st.lists(st.integers(0, 40), max_size=3).map(tuple).filter(lambda s: prod(s) <= LARGEST)
    shape = whole(dtype, draw(st.sampled_from(SHAPES) | drawn))
    return Spec(dtype, shape if fits(dtype, shape) else (3, 8))


@st.composite
def tensors(draw: st.DrawFn, dtypes: tuple[str, ...] = tuple(DTYPES)) -> tuple[Spec, UInts]:
    """A spec and storage elements of it."""
    spec = draw(specs(dtypes))
    return spec, fill(draw(st.integers(0, len(KINDS) - 1)), draw(st.integers(0, 2**32 - 1)), spec)


@st.composite
def windows(draw: st.DrawFn, count: int) -> tuple[int, int]:
    """A range of elements, short and long ones."""
    start = draw(st.integers(0, count))
    return start, draw(st.integers(start, min(count, start + draw(st.sampled_from((1, 9, 200, LARGEST))))))


def finite(seed: int, spec: Spec, scale: float = 1.0):
    """Storage elements of Gaussian weights with exact zeros among them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(spec.count).astype(np.float32) * np.float32(scale)
    x[rng.random(spec.count) < 0.1] = 0
    return from_float32(x, spec.dtype)


@st.composite
def finite_tensors(draw: st.DrawFn):
    """A spec of a float dtype and weights of it, none of them infinite or no number."""
    spec = draw(specs(LOSSY))
    return spec, finite(draw(st.integers(0, 2**32 - 1)), spec, draw(st.sampled_from((1.0, 1e-3, 50.0, 0.0))))


DENSITIES = (0.0, 0.002, 0.1, 0.5, 0.97, 1.0)


@st.composite
def masks(draw: st.DrawFn, codec: str = "gaps", n: int = 2, m: int = 4, axis: int = -1, banks: int = 4, per_row: int = 0, **_: int):
    """A spec and elements of a mask that a codec takes with its options."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if codec == "nm":
        shape = draw(st.lists(st.integers(0, 20), min_size=1, max_size=4).map(tuple))
        return Spec.of("BOOL", *shape), n_of_m(rng, shape, n, m, axis)
    if codec == "gs":
        high = banks // (per_row or banks)
        bundles, cols = draw(st.integers(0, 5)), draw(st.integers(0, 40))
        return Spec.of("BOOL", bundles * high, cols), gather_scatter(rng, bundles, high, cols, banks)
    spec = draw(specs(("BOOL",)))
    return spec, (rng.random(spec.count) < draw(st.sampled_from(DENSITIES))).astype(np.uint8)


def n_of_m(rng: np.random.Generator, shape: tuple[int, ...], n: int, m: int, axis: int) -> UInts:
    """A flat mask that keeps n of every m elements along an axis, all of a short group of up to n."""
    noise = np.moveaxis(rng.random(shape), axis, -1)
    mask = np.zeros(noise.shape, np.uint8)
    for at in range(0, noise.shape[-1], m):
        order = np.argsort(np.argsort(noise[..., at : at + m], axis=-1), axis=-1)
        mask[..., at : at + m] = order < n
    return np.ascontiguousarray(np.moveaxis(mask, -1, axis)).reshape(-1)


def gather_scatter(rng: np.random.Generator, bundles: int, high: int, cols: int, banks: int) -> UInts:
    """A flat mask whose bundles of ``high`` rows keep groups: every lane of a group is in a row of its own share."""
    mask = np.zeros((bundles, high, cols), np.uint8)
    for bundle in mask:
        for _ in range(int(rng.integers(0, 4))):
            group = bundle.copy()
            owner = rng.permutation(banks) % high
            for lane, row in enumerate(owner):
                free = np.flatnonzero(bundle[row, lane::banks] == 0)
                if free.size:
                    group[row, lane + banks * int(rng.choice(free))] = 1
            if group.sum() == bundle.sum() + banks:
                bundle[:] = group
    return mask.reshape(-1)
