"""Golden cases of sparse tensors and masks: every kind of mask, fill and width of gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
from golden_cases import ENV, GOOD, Builder, good, raw

from wcodec.codecs import CODECS
from wcodec.coding.numbers import add
from wcodec.types import DTYPES, Resource, Section, Spec


def n_of_m(b: Builder, rows: int, cols: int, n: int, m: int) -> Any:
    """A mask that keeps n of every m elements of a row, or all of a short group of up to n."""
    mask = np.zeros((rows, cols), np.uint8)
    for at in range(0, cols, m):
        order = np.argsort(np.argsort(b.rng.random((rows, min(m, cols - at))), axis=1), axis=1)
        mask[:, at : at + m] = order < n
    return mask


def lanes(b: Builder, bundles: int, high: int, cols: int, banks: int, groups: int) -> Any:
    """A gather-scatter mask: in every bundle each row takes the lanes in turn."""
    mask = np.zeros((bundles, high, cols), np.uint8)
    for bundle in mask:
        for group in range(groups):
            for lane in range(banks):
                row = (lane + group) % high
                free = np.flatnonzero(bundle[row, lane::banks] == 0)
                bundle[row, lane + banks * int(b.rng.choice(free))] = 1
    return mask.reshape(bundles * high, cols)


def _masks(codec: str, options: dict[str, Any]) -> Any:
    b = Builder()
    for i, density in enumerate((0, 0.01, 0.2, 0.6, 1)):
        if codec in ("gaps", "bitmap"):
            mask = (b.rng.random((30, 41)) < density).astype(np.uint8)
        elif codec == "nm":
            n, m, axis = options.get("n", 2), options.get("m", 4), options.get("axis", 1)
            mask = n_of_m(b, 9 + i, 21, n, m) if axis else n_of_m(b, 21, 9 + i, n, m).T
        else:
            banks = options.get("banks", 4)
            mask = lanes(b, 5, banks // options.get("per_row", banks), 37, banks, i)
        b.add(str(i), "BOOL", mask.shape, mask, codec=codec, **options)
    return b.done()


for _name in ("gaps", "bitmap", "nm", "gs"):
    for _i, _options in enumerate(CODECS[_name].examples):
        GOOD[f"{_name}-{_i}"] = (f"masks by {_name} with {_options or 'no options'}", lambda c=_name, o=_options: _masks(c, dict(o)))


@good("masks", "gaps of every width, patterns of 1 to 4 bytes, groups along every axis, gather-scatter with permuted rows")
def _() -> Any:
    b = Builder()
    for bits, (low, high, count) in {8: (3, 200, 40), 16: (250, 900, 20), 32: (65_537, 65_600, 1)}.items():
        at = np.cumsum(b.rng.integers(low, high, count))
        mask = np.zeros(int(at[-1]) + 5, np.uint8)
        mask[at] = 1
        b.add(f"gaps.{bits}", "BOOL", mask.shape, mask, codec="gaps", block=1 << 18 if bits == 32 else 1 << 11)
    for n, m in ((1, 1), (1, 2), (4, 8), (5, 11), (8, 16), (6, 24), (16, 32)):
        mask = n_of_m(b, 12, 70, n, m)
        b.add(f"{n}.of.{m}", "BOOL", mask.shape, mask, codec="nm", n=n, m=m, axis=1)
    cube = n_of_m(b, 42, 10, 2, 4).reshape(6, 7, 10)
    for axis, order in enumerate(((2, 0, 1), (0, 2, 1), (0, 1, 2))):
        its = np.ascontiguousarray(cube.transpose(order))
        b.add(f"axis.{axis}", "BOOL", its.shape, its, codec="nm", axis=axis)
    mask, order = lanes(b, 4, 2, 19, 6, 3), b.rng.permutation(8)
    moved = np.empty_like(mask)
    moved[order] = mask
    b.add("gs.rows", "BOOL", mask.shape, moved, codec="gs", banks=6, per_row=3, rows=order)
    return b.done()


@good("sparse", "every dtype and kind of mask over zeros, over a fill, with one mask for several tensors")
def _() -> Any:
    b = Builder()
    shape = (12, 20)
    kinds = {
        "gaps": (b.rng.random(shape) < 0.1).astype(np.uint8), "bitmap": (b.rng.random(shape) < 0.5).astype(np.uint8),
        "nm": n_of_m(b, *shape, 2, 4), "gs": lanes(b, 12, 1, 20, 4, 3),
    }  # fmt: skip
    kinds |= {"raw": kinds["gaps"] * np.uint8(200), "rle": np.zeros(shape, np.uint8)}
    for name, mask in kinds.items():
        its = Spec.of("BOOL", *shape)
        part = CODECS[{"raw": "raw", "rle": "const"}.get(name, name)].encode(mask.reshape(-1), its, ENV)
        for dtype in ("F32", "BF16", "I64", "U8"):
            x = np.where(mask.reshape(-1), b.geometric(240, dtype, 0.02) + 1, 0)
            b.add(f"{name}.{dtype}", dtype, shape, x.astype(DTYPES[dtype].storage), codec="sparse", mask=part)
    start = b.weights("F32", *shape)
    shared = Resource(Spec.of("BOOL", *shape), CODECS["gaps"].encode(kinds["gaps"].reshape(-1), Spec.of("BOOL", *shape), ENV))
    for i in range(2):
        x = np.where(kinds["gaps"].reshape(-1), b.weights("F32", *shape), start)
        b.add(f"shared.{i}", "F32", shape, x, codec="sparse", mask=shared, fill=raw(start))
    for at in ((), (0,), (0, 4)):
        b.add(f"empty.{len(at)}.{0 in at}", "F16", at, [7] * (not at), codec="sparse")
    return b.done()


@good("sparse-delta", "differences to a fill in every float, infinities and NaNs among them")
def _() -> Any:
    b = Builder()
    for dtype in ("F64", "F32", "F16", "BF16"):
        spec = Spec.of(dtype, 20, 30)
        start, values = b.weights(dtype, 20, 30), b.weights(dtype, 200, 1)
        start[::50], values[::9] = b.noise(12 * start.itemsize).view(start.dtype), b.noise(23 * start.itemsize).view(start.dtype)
        mask = np.zeros(600, np.uint8)
        mask[b.rng.permutation(600)[:200]] = 1
        x = start.copy()
        x[mask == 1] = add(start[mask == 1], values, spec.dtype)
        section = Section("sparse", {"kept": 200, "delta": True}, {"mask": raw(mask), "fill": raw(start), "values": raw(values)})
        b.add(dtype, dtype, spec.shape, x, section)
    return b.done()
