"""joint-rank-k: one truncated SVD for matrices that share their input (Peng et al., arXiv 2402.16319)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from wcodec.codecs import Env
from wcodec.codecs.base import stored_size
from wcodec.codecs.factors.factoring import F32, F64, balanced_svd, choose_rank, needs_spectrum, spectrum
from wcodec.codecs.factors.lowrank import encode_factor
from wcodec.codecs.lossless import Config, lossless
from wcodec.codecs.matrix import approximable, matrix_shape
from wcodec.coding.numbers import LOSSY
from wcodec.errors import EncodeError, RecipeError
from wcodec.recipes.base import Method, Tensors, require
from wcodec.recipes.groups import Group, Split, find_groups, holds_values, split_fused
from wcodec.types import DTYPES, DType, Part, Resource, Section, Spec, UInts


@dataclass(slots=True)
class _Job:
    """One SVD: the members' joined rows stand below each other. split: of a fused matrix, the only member then.

    sections: what is encoded and not yet asked for; why: nothing was, and each member is told so.
    """

    group: Group
    split: Split | None = None
    rank: int | None = None
    sections: dict[str, Section] | None = None
    why: str = ""


@dataclass
class JointRankK(Method):
    """Give matrices of one input one right factor, and each its left one.

    keep (share of the parameters, 0.8), energy (share of Σ σ²), error (relative), rank: how many ranks, by one of them. scope: ``matrix``,
    or ``model``: ``keep`` is one budget for all tensors of the rule, spent where σ² per parameter is largest. groups: lists of regular
    expressions of names, one for each member; absent: queries with keys, gates with what they gate. heads: of keys, in fused
    query_key_value matrices.
    separate: tensors of no group get a product of their own. covariance: name → [in, in] of the inputs, for calibrated factors.
    factors: config of both factors; None: rounded to the tensor's dtype, then lossless.
    """

    keep: float | None = None
    energy: float | None = None
    error: float | None = None
    rank: int | None = None
    scope: str = "matrix"
    groups: Sequence[Sequence[str]] | None = None
    heads: int | None = None
    separate: bool = False
    covariance: Mapping[str, npt.NDArray[Any]] | None = None
    factors: Config | None = None
    name: ClassVar[str] = "joint-rank-k"
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        asked = [key for key, value in self._asked().items() if value is not None]
        require(len(asked) <= 1, f"{self.name}: {' and '.join(asked)} exclude each other")
        fits = self.scope == "matrix" or (self.scope == "model" and asked in ([], ["keep"]))
        require(fits, f"{self.name}: scope is matrix, or model together with keep")
        listed = self.groups is None or all(isinstance(member, str) for group in self.groups for member in _listed(group))
        require(listed, f"{self.name}: groups is a list of lists of regular expressions")
        if not asked:
            self.keep = 0.8
        self._jobs: dict[str, _Job] = {}
        self._lock = Lock()

    def _asked(self) -> dict[str, Any]:
        return {"keep": self.keep, "energy": self.energy, "error": self.error, "rank": self.rank}

    def prepare(self, names: Sequence[str], tensors: Tensors, env: Env) -> None:
        self._tensors, self._env = tensors, env
        chosen = {name for name in names if _is_matrix(tensors.spec(name))}
        jobs = [job for group in self._find(chosen) for job in self._by_file(group)]
        for name in sorted(chosen - {name for job in jobs for name in job.group.names}):
            split = split_fused(name, *matrix_shape(tensors.spec(name)), self.heads)
            if split is not None or self.separate:
                jobs.append(_Job(Group(name, (name,)), split))
        for job in jobs:
            if len({matrix_shape(tensors.spec(name))[1] for name in job.group.names}) > 1:
                raise RecipeError(f"members of {job.group.key} have inputs of different sizes")
            self._jobs.update(dict.fromkeys(job.group.names, job))
        if self.scope == "model":
            self._share_budget(jobs, sum(tensors.spec(name).count for name in names))

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        job = self._jobs.get(name)
        if job is None:
            raise EncodeError("it shares its input with no other matrix")
        with self._lock:  # one group in memory at a time; products of matrices use all cores by themselves
            if not job.why and name not in (job.sections or ()):
                self._solve(job)
            if job.why:
                raise EncodeError(job.why)
            assert job.sections is not None
            return job.sections.pop(name)

    def _find(self, chosen: set[str]) -> list[Group]:
        """Return the groups, all of whose members must be chosen."""
        known = [name for name in self._tensors.names if _is_matrix(self._tensors.spec(name))]
        found, odd = find_groups(known, self.groups)
        self.notes += [text for text, names in odd.items() if chosen.intersection(names)]
        groups = [group for group in found if chosen.intersection(group.names)]
        for group in groups:
            if left_out := [name for name in group.names if name not in chosen]:
                raise RecipeError(f"the rule chooses part of the group {group.key}, without {', '.join(left_out)}")
            if len(group.names) > 1 and holds_values(group.names):
                text = f"{group.key}: joining values with others ruins them, although the error looks small"
                warnings.warn(text, RuntimeWarning, stacklevel=2)
                self.notes.append(text)
        return groups

    def _by_file(self, group: Group) -> list[_Job]:
        """Take a group apart where its members go to different shards."""
        files: dict[str, list[str]] = {}
        for name in group.names:
            files.setdefault(self._tensors.file(name), []).append(name)
        if len(files) > 1:
            self.notes.append(f"{group.key}: members in different shards are coded apart")
        return [_Job(Group(group.key, tuple(names))) for names in files.values()]

    def _share_budget(self, jobs: Sequence[_Job], total: int) -> None:
        """Choose ranks by one budget: components of all matrices in the order of σ² per parameter."""
        assert self.keep is not None
        sizes = [self._shape(job) for job in jobs]
        budget = self.keep * total - (total - sum(rows * cols for rows, cols in sizes))
        if budget < sum(rows + cols for rows, cols in sizes):
            raise RecipeError(f"keep={self.keep} leaves nothing for the joined matrices: the other tensors are larger than that")
        worth = []
        for at, (job, (rows, cols)) in enumerate(zip(jobs, sizes, strict=True)):
            most = max(1, rows * cols // (rows + cols))  # more ranks than that cost more than the matrix
            worth.append(np.stack([spectrum(self._joined(job))[:most] / (rows + cols), np.full(most, at)]))
        value, owner = np.concatenate(worth, axis=1)
        order = owner[np.argsort(-value, kind="stable")].astype(int)
        costs = np.array([rows + cols for rows, cols in sizes])
        taken = order[np.cumsum(costs[order]) <= budget]
        for job, rank in zip(jobs, np.bincount(taken, minlength=len(jobs)), strict=True):
            job.rank = max(1, int(rank))

    def _shape(self, job: _Job) -> tuple[int, int]:
        """Return the shape of the joined matrix, inputs in its columns."""
        shapes = [matrix_shape(self._tensors.spec(name)) for name in job.group.names]
        if job.split is None:
            return sum(rows for rows, _ in shapes), shapes[0][1]
        joined = sum(length for length, its in zip(job.split.lengths, job.split.joined, strict=True) if its)
        return joined, shapes[0][0 if job.split.columns else 1]

    def _joined(self, job: _Job) -> F32:
        """Read the joined rows of all members. Raises EncodeError."""
        found = np.empty(self._shape(job), np.float32)
        at = 0
        for name in job.group.names:
            spec = self._tensors.spec(name)
            with self._tensors.read(name) as x:
                matrix = approximable(x, spec, self.name).reshape(matrix_shape(spec))
                for piece in _pieces(matrix, job.split) if job.split else [matrix]:
                    found[at : at + piece.shape[0]] = piece
                    at += piece.shape[0]
        return found

    def _solve(self, job: _Job) -> None:
        """Factor a group and encode all members, or say why not."""
        try:
            left, right = self._factor(job)
            specs = {name: self._tensors.spec(name) for name in job.group.names}
            dtype = specs[job.group.names[0]].dtype
            if job.split is not None:
                ((name, spec),) = specs.items()
                sections, extra = {name: self._fused(name, spec, job.split, left, right)}, 0
            else:
                coded = self._encode(right, dtype)
                shared: Part = Resource(Spec.of("F32", *right.shape), coded) if len(specs) > 1 else coded
                extra, at, sections = stored_size(coded) if len(specs) > 1 else 0, 0, {}
                for name, spec in specs.items():
                    rows = matrix_shape(spec)[0]
                    sections[name] = _lowrank(self._encode(left[at : at + rows], spec.dtype), shared, right.shape[0])
                    at += rows
            if extra + sum(map(stored_size, sections.values())) >= sum(map(self._lossless_size, specs)):
                raise EncodeError(f"factors of rank {right.shape[0]} are not smaller")
            job.sections = sections
        except EncodeError as error:
            job.why = error.message

    def _factor(self, job: _Job) -> tuple[F32, F32]:
        """Return the factors of the joined matrix, weighed by the inputs' covariance when there is one."""
        matrix = self._joined(job)
        root = self._root(job.group.names[0], matrix.shape[1])
        weighed = matrix if root is None else (matrix @ root).astype(np.float32)
        asked = self._asked()
        squares = spectrum(weighed) if job.rank is None and needs_spectrum(**asked) else None
        rank = job.rank or choose_rank(matrix.shape[0], matrix.shape[1], squares, **asked)
        left, right = balanced_svd(weighed, rank)
        return left, right if root is None else np.linalg.solve(root.T, right.T.astype(np.float64)).T.astype(np.float32)

    def _root(self, name: str, width: int) -> F64 | None:
        """Return the Cholesky factor of the inputs' covariance, made invertible."""
        found = None if self.covariance is None else self.covariance.get(name)
        if found is None:
            return None
        if found.shape != (width, width):
            raise EncodeError(f"the covariance of its inputs is {found.shape}, expected {width} × {width}")
        wide = found.astype(np.float64)
        root: F64 = np.linalg.cholesky(wide + 1e-6 * np.trace(wide) / width * np.eye(width))
        return root

    def _fused(self, name: str, spec: Spec, split: Split, left: F32, right: F32) -> Section:
        """Encode a fused matrix: queries and keys by factors, values losslessly."""
        rank = right.shape[0]
        with self._tensors.read(name) as x:
            matrix = x.reshape(matrix_shape(spec))
            if split.columns:
                return self._conv1d(matrix, spec, split, left, right)
            shared = Resource(Spec.of("F32", *right.shape), self._encode(right, spec.dtype))
            parts: dict[str, Part] = {}
            row = at = 0
            for i, (length, joined) in enumerate(zip(split.lengths, split.joined, strict=True)):
                if joined:
                    parts[str(i)] = _lowrank(self._encode(left[at : at + length], spec.dtype), shared, rank)
                    at += length
                else:
                    piece = np.ascontiguousarray(matrix[row : row + length]).reshape(-1)
                    parts[str(i)] = lossless(piece, Spec(spec.dtype, (length, *spec.shape[1:])), self._env)
                row += length
            return Section("concat", {"lengths": list(split.lengths)}, parts)

    def _conv1d(self, matrix: UInts, spec: Spec, split: Split, left: F32, right: F32) -> Section:
        """Encode a matrix [in, out]: a product that is 0 in the columns of values, which are put over it."""
        width, rank = split.lengths[0], right.shape[0]
        wide = np.zeros((rank, matrix.shape[1]), np.float32)
        wide[:, :width] = left.T
        fill = _lowrank(self._encode(right.T, spec.dtype), self._encode(wide, spec.dtype), rank)
        mask = np.zeros(matrix.shape, np.uint8)
        mask[:, width:] = 1
        values = np.ascontiguousarray(matrix[:, width:]).reshape(-1)
        parts: dict[str, Part] = {
            "mask": lossless(mask.reshape(-1), Spec(DTYPES["BOOL"], spec.shape), self._env),
            "values": lossless(values, Spec(spec.dtype, (values.size,)), self._env),
            "fill": fill,
        }
        return Section("sparse", {"kept": values.size}, parts)

    def _encode(self, factor: F32, dtype: DType) -> Section:
        return encode_factor(factor, dtype, self._env, self.factors)

    def _lossless_size(self, name: str) -> int:
        with self._tensors.read(name) as x:
            return stored_size(lossless(x, self._tensors.spec(name), self._env))


def _listed(group: Any) -> Sequence[Any]:
    return group if isinstance(group, Sequence) and not isinstance(group, str) else [None]


def _is_matrix(spec: Spec) -> bool:
    return spec.dtype.name in LOSSY and len(spec.shape) > 1 and spec.count > 0


def _pieces(matrix: F32, split: Split) -> list[F32]:
    """Return the joined pieces of a fused matrix, inputs in their columns."""
    turned = matrix.T if split.columns else matrix
    cuts = np.split(turned, np.cumsum(split.lengths)[:-1])
    return [piece for piece, joined in zip(cuts, split.joined, strict=True) if joined]


def _lowrank(left: Section, right: Part, rank: int) -> Section:
    return Section("lowrank", {"rank": rank}, {"left": left, "right": right})
