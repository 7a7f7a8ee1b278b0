"""What encoding did to a model: its answers before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import exp, sqrt
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from wcodec.api.files import Checkpoint
from wcodec.errors import EncodeError
from wcodec.numpy import NUMPY

F64: TypeAlias = npt.NDArray[np.float64]
Answers: TypeAlias = tuple[Any, Any]
"""Logits [positions, classes], and the right class of each position, or None where it is not known."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over positions. error: its standard error, as if positions were independent."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: F64) -> Estimate:
        """Estimate from a value per position."""
        return cls(float(values.mean()), float(values.std(ddof=1)) / sqrt(values.size) if values.size > 1 else 0.0)

    def to_json(self) -> dict[str, float]:
        """Return plain values."""
        return {"mean": self.mean, "error": self.error}


@dataclass(frozen=True, slots=True)
class Quality:
    """How the answers of two models differ, the second encoded.

    positions: compared. kl: Kullback-Leibler divergence of the second's classes from the first's, in nats, mean; kl_median, kl_p99: its
    median and 99th percentile. agreement: share of positions where both find the same class likeliest. loss_before, loss_after: cross
    entropy of the right classes, in nats; change: their difference, position by position. None where right classes are not known.
    """

    positions: int
    kl: Estimate
    kl_median: float
    kl_p99: float
    agreement: Estimate
    loss_before: Estimate | None = None
    loss_after: Estimate | None = None
    change: Estimate | None = None

    @property
    def perplexity(self) -> tuple[Estimate, Estimate] | None:
        """Perplexity before and after: exp of the cross entropy."""
        if self.loss_before is None or self.loss_after is None:
            return None
        before, after = (Estimate(exp(its.mean), exp(its.mean) * its.error) for its in (self.loss_before, self.loss_after))
        return before, after

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        found = {key: getattr(self, key) for key in self.__slots__}
        if self.perplexity is not None:
            found["perplexity_before"], found["perplexity_after"] = self.perplexity
        return {key: value.to_json() if isinstance(value, Estimate) else value for key, value in found.items()}


def quality(original: str | Path, encoded: str | Path, evaluate: Callable[[Mapping[str, npt.NDArray[Any]]], Iterable[Answers]]) -> Quality:
    """Compare the answers of a model with its original weights and with encoded ones.

    original, encoded: safetensors or ``.wcodec`` files, or folders of shards. evaluate: from weights, name → numpy array, makes an iterator
    of (logits [positions, classes], right classes [positions] or None); called for each of both, which advance together.
    Raises EncodeError when the answers do not match in shape, FormatError, OSError.
    """
    return compare(evaluate(load_checkpoint(original)), evaluate(load_checkpoint(encoded)))


def load_checkpoint(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    """Load all tensors of a safetensors or ``.wcodec`` file, or of a folder of shards, as numpy arrays. Raises FormatError, OSError."""
    with Checkpoint(path) as checkpoint:
        return {name: load_tensor(checkpoint, name) for name in checkpoint.names}


def load_tensor(checkpoint: Checkpoint, name: str) -> npt.NDArray[Any]:
    """Load one tensor of an open checkpoint as a numpy array. Raises FormatError, OSError."""
    spec = checkpoint.spec(name)
    flat = np.empty(spec.count * spec.dtype.bits // (8 * spec.dtype.storage.itemsize), spec.dtype.storage)
    checkpoint.read(name, 0, flat.size, flat)
    found: npt.NDArray[Any] = NUMPY.wrap(flat, spec)
    return found


def compare(before: Iterable[Answers], after: Iterable[Answers]) -> Quality:
    """Compare answers, a batch of each at a time. Raises EncodeError when they do not match."""
    batches = [_batch(*first, second[0]) for first, second in zip(before, after, strict=True)]
    if not sum(batch.shape[1] for batch in batches):
        raise EncodeError("there is nothing to compare: no position was evaluated")
    kl, same, loss_before, loss_after = np.concatenate(batches, axis=1)
    found = Quality(kl.size, Estimate.of(kl), float(np.median(kl)), float(np.quantile(kl, 0.99)), Estimate.of(same))
    if np.isnan(loss_before).any():
        return found
    losses = Estimate.of(loss_before), Estimate.of(loss_after), Estimate.of(loss_after - loss_before)
    return Quality(found.positions, found.kl, found.kl_median, found.kl_p99, found.agreement, *losses)


def _batch(logits: Any, targets: Any, encoded: Any) -> F64:
    """Return divergence, agreement and both losses of every position; NaN for losses without targets."""
    first, second = np.asarray(logits), np.asarray(encoded)
    if first.shape != second.shape or first.ndim != 2:
        raise EncodeError(f"logits have shapes {first.shape} and {second.shape}, expected [positions, classes] twice")
    p, q = _log_softmax(first), _log_softmax(second)
    found = np.full((4, len(p)), np.nan)
    found[0] = np.maximum((np.exp(p) * (p - q)).sum(1), 0.0)
    found[1] = p.argmax(1) == q.argmax(1)
    if targets is not None:
        at = np.arange(len(p)), np.asarray(targets)
        found[2:] = -p[at], -q[at]
    return found


def _log_softmax(logits: npt.NDArray[Any]) -> F64:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True, initial=-np.inf)
    found: F64 = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return found


__all__ = ["Estimate", "Quality", "compare", "quality"]
