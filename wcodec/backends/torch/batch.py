"""Batches: verbs of many tensors as few launches, and one look at what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from wcodec.backends.torch.calls import Call, Ledger, Recorder, Tape


class Batch:
    """Tensors that are decoded together (``TorchBackend.batch``).

    Every tensor's calls are recorded on a tape of its own, whose order stays; ``flush`` does the calls of all tapes, equal verbs of
    many tensors together.
    """

    def __init__(self, backend: Recorder) -> None:
        self._backend, self._ledger = backend, Ledger(backend.device)
        self._tapes: list[Tape] = []

    @contextmanager
    def tape(self, place: str) -> Iterator[None]:
        """Record the calls of a tensor, named ``place`` in errors."""
        tape = Tape(place, self._ledger)
        with self._backend.recording(tape):
            yield
        self._tapes.append(tape)

    def flush(self) -> None:
        """Launch what is recorded; does not wait for the device."""
        waiting = [tape.calls for tape in self._tapes if tape.calls]
        self._tapes = []
        ahead = Counter(call.verb for calls in waiting for call in calls)
        done = [0] * len(waiting)
        while any(at < len(calls) for at, calls in zip(done, waiting, strict=True)):
            heads: dict[str, list[int]] = {}
            for i, (at, calls) in enumerate(zip(done, waiting, strict=True)):
                if at < len(calls):
                    heads.setdefault(calls[at].verb, []).append(i)
            # The verb of which the fewest calls stand behind others: the more wait, the more go together.
            name = min(heads, key=lambda its: (ahead[its] - len(heads[its]), its))
            together: list[Call] = []
            for i in heads[name]:
                together.append(waiting[i][done[i]])
                done[i] += 1
            ahead[name] -= len(together)
            self._backend.run(name, together)

    def finish(self) -> None:
        """Do what is recorded and wait for it. Raises Corrupt for the first tensor in which something is wrong."""
        self.flush()
        self._ledger.check()
