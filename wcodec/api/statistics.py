"""Recount by decoding: values in use, their entropy, kept elements. Nothing here trusts what params state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wcodec.api.crew import Crew
from wcodec.api.facts import Facts, Place, resolve
from wcodec.api.work import PIECE, pieces
from wcodec.codecs import Env
from wcodec.codecs.base import decode_all, decoded, find, positions
from wcodec.codecs.codebook import Book, book_of
from wcodec.codecs.masks.common import runs
from wcodec.codecs.sparse import mask_spec
from wcodec.coding.numbers import LOSSY, to_float32
from wcodec.errors import Corrupt
from wcodec.types import U64, DType, Part, Spec, UInts

I64 = npt.NDArray[np.int64]
NARROW = 1 << 16
"""Symbols up to which every possible one is counted; of more, those that occur."""


@dataclass(frozen=True, slots=True)
class Values:
    """Distinct values and how often each occurs. kind: float, or the dtype; only values of one kind can be equal."""

    kind: str
    keys: U64
    counts: I64

    @classmethod
    def of(cls, kind: str, keys: U64, counts: I64) -> Values:
        """Merge equal keys; those that never occur are left out."""
        distinct, place = np.unique(keys[counts > 0], return_inverse=True)
        merged = np.zeros(distinct.size, np.int64)
        np.add.at(merged, place.reshape(-1), counts[counts > 0])
        return cls(kind, distinct, merged)


def entropy(counts: I64) -> float:
    """Return the Shannon entropy in bits of one of all that are counted."""
    used = counts[counts > 0] / max(1, int(counts.sum()))
    return float(-(used * np.log2(used)).sum()) + 0.0


@dataclass(frozen=True, slots=True)
class Network:
    """All codebooks of a checkpoint together, as Weight Fixing Networks count. weights: that they hold. unique: values among them.

    entropy: bits of one weight's value.
    """

    sections: int
    weights: int
    unique: int
    entropy: float

    @classmethod
    def of(cls, found: Iterable[Values]) -> Network:
        """Merge the values of all sections; 0 and −0 are one value, and so are equal floats of different dtypes."""
        found = list(found)
        kinds = sorted({its.kind for its in found})
        merged = [Values.of(kind, *_joined([its for its in found if its.kind == kind])) for kind in kinds]
        counts = np.concatenate([np.zeros(0, np.int64), *(its.counts for its in merged)])
        return cls(len(found), int(counts.sum()), counts.size, entropy(counts))

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: getattr(self, key) for key in self.__slots__}


def _joined(found: list[Values]) -> tuple[U64, I64]:
    return np.concatenate([its.keys for its in found]), np.concatenate([its.counts for its in found])


@dataclass(slots=True)
class Recount:
    """How sections are recounted. advance: called with the bytes that were decoded. values: of all codebooks so far."""

    crew: Crew
    advance: Callable[[int], None]
    values: list[Values]

    def add(self, facts: Facts, place: Place, env: Env) -> None:
        """Add what decoding a checked section tells to what its params told. Raises Corrupt with the page's rule."""
        if place.section.codec in COUNTED:
            facts |= COUNTED[place.section.codec][1](self, place, env)

    def histogram(self, part: Part, spec: Spec, env: Env, levels: int, rule: str, row: int = 1) -> tuple[UInts, I64, I64]:
        """Return the symbols that occur, how often, and how often at the ends of rows of ``row`` symbols."""
        section = resolve(part, env)
        totals = np.zeros((2, levels if levels <= NARROW else 0), np.int64)
        rare: list[tuple[UInts, I64]] = []

        def count(window: tuple[int, int]) -> tuple[UInts, I64, I64]:
            with decoded(section, spec, env, *window) as symbols:
                if symbols.size and int(symbols.max()) >= levels:
                    raise Corrupt(f"a symbol is not below {levels}", rule=rule)
                if levels > NARROW:
                    return *np.unique(symbols, return_counts=True), np.zeros(0, np.int64)
                ends = symbols[(row - 1 - window[0]) % row :: row] if row > 1 else symbols[:0]
                return symbols[:0], np.bincount(symbols, minlength=levels), np.bincount(ends, minlength=levels)

        windows = list(pieces(section, spec, env, PIECE))
        for (start, stop), (symbols, counts, ends) in zip(windows, self.crew.ordered(count, windows, 4), strict=True):
            if levels > NARROW:
                rare.append((symbols, counts))
            else:
                totals += np.stack([counts, ends])
            self.advance((stop - start) * spec.dtype.storage.itemsize)
        if levels <= NARROW:
            used = np.flatnonzero(totals[0])
            return used.astype(spec.dtype.storage), totals[0, used], totals[1, used]
        merged = Values.of("", *(np.concatenate([np.zeros(0, np.int64), *column]) for column in zip(*rare, strict=True)))
        return merged.keys, merged.counts, np.zeros(merged.counts.size, np.int64)

    def codebook(self, place: Place, env: Env) -> Facts:
        """Count; used: centroids in use. unique, entropy: of weights. index_entropy: bits of an index."""
        book = book_of(place.section.params, place.spec)
        used, counts, ends = self.histogram(
            place.section.parts["indices"], book.indices, env, book.count, "CODEBOOK-2", max(1, book.per_row) if book.width > 1 else 1
        )
        values = _values(place, book, env, used, counts, ends)
        self.values.append(values)
        found = {"used": int(used.size), "unique": int(values.keys.size), "entropy": entropy(values.counts)}
        return found | ({"index_entropy": entropy(counts)} if book.width > 1 else {})

    def uniform(self, place: Place, env: Env) -> Facts:
        """Count; used: levels in use. entropy: bits of a symbol."""
        levels = place.section.params["levels"]
        used, counts, _ = self.histogram(place.section.parts["symbols"], _spec(place, env), env, levels, "UNIFORM-3")
        return {"used": int(used.size), "entropy": entropy(counts)}

    def sparse(self, place: Place, env: Env) -> Facts:
        """Count; kept, fraction: of the mask's elements."""
        its, kept = mask_spec(place.spec), 0
        for low, high in runs(0, its.count, env):
            kept += positions(place.section.parts["mask"], its, env, low, high)[1].size
            self.advance(high - low)
        if kept != place.section.params["kept"]:
            raise Corrupt(f"the mask keeps {kept} elements, there are {place.section.params['kept']} values", rule="SPARSE-2")
        return {"kept": kept, "fraction": kept / its.count if its.count else 0.0}


def _values(place: Place, book: Book, env: Env, used: UInts, counts: I64, ends: I64) -> Values:
    """Count weights by value: every element of a centroid as often as its blocks have it, which the last of a row may not."""
    dtype = place.spec.dtype
    grain = book.entry // book.width
    centroids = decode_all(place.section.parts["centroids"], book.centroids, env)
    kind, keys = value_keys(centroids, dtype)
    whole = book.cols - (book.per_row - 1) * book.entry  # storage elements of the last block that the row has
    cut = np.arange(book.width) * grain >= whole
    often = counts[:, None] - cut * ends[:, None]
    return Values.of(kind, keys.reshape(book.count, book.width)[used].reshape(-1), often.reshape(-1))


def value_keys(x: UInts, dtype: DType) -> tuple[str, U64]:
    """Return a kind, and integers that are equal where values of that kind are: floats by value, all NaNs alike, else bits."""
    if dtype.name not in LOSSY:
        return dtype.name, x.view(np.uint64) if dtype.name == "C64" else x.astype(np.uint64)
    with np.errstate(invalid="ignore"):  # NaNs that signal
        wide = x.view("<f8").copy() if dtype.name == "F64" else to_float32(x, dtype).astype(np.float64)
    wide[wide == 0] = 0.0
    wide[np.isnan(wide)] = np.nan
    return "float", wide.view(np.uint64)


COUNTED: Mapping[str, tuple[str, Callable[[Recount, Place, Env], Facts]]] = {
    "codebook": ("indices", Recount.codebook),
    "uniform": ("symbols", Recount.uniform),
    "sparse": ("mask", Recount.sparse),
}
"""Codecs that are recounted: the part that is decoded for it, and how."""


def _spec(place: Place, env: Env) -> Spec:
    spec = find(place.section, env).parts(place.section, place.spec)[COUNTED[place.section.codec][0]]
    assert isinstance(spec, Spec)
    return spec


def cost(place: Place, env: Env) -> int:
    """Return the bytes that recounting a section decodes."""
    return _spec(place, env).size if place.section.codec in COUNTED else 0
