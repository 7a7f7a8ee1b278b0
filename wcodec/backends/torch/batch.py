"""Batches: verbs of many tensors as few launches, and one look at what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from wcodec.backends.torch.calls import Call, Fork, Ledger, Recorder, Tape


@dataclass(slots=True)
class _Place:
    """How far a tape is done. above: that of the tape which waits for it. open: tapes that it waits for itself."""

    calls: Sequence[Call | Fork]
    above: _Place | None = None
    done: int = 0
    open: int = 0

    @property
    def head(self) -> Call:
        """The call whose turn it is."""
        head = self.calls[self.done]
        assert isinstance(head, Call)
        return head

    def rest(self, ready: list[_Place]) -> None:
        """Go on to the next call, of this tape or of those beside and above it, and add the places of such to ``ready``."""
        if self.done == len(self.calls):
            if self.above is not None:
                self.above.open -= 1
                if not self.above.open:
                    self.above.done += 1
                    self.above.rest(ready)
        elif isinstance(fork := self.calls[self.done], Fork):
            self.open = len(fork.tapes)
            for tape in fork.tapes:
                _Place(tape.calls, self).rest(ready)
        else:
            ready.append(self)


def _verbs(tapes: Sequence[Tape]) -> Iterator[str]:
    for tape in tapes:
        for call in tape.calls:
            if isinstance(call, Fork):
                yield from _verbs(call.tapes)
            else:
                yield call.verb


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
        ready: list[_Place] = []
        for tape in self._tapes:
            _Place(tape.calls).rest(ready)
        ahead = Counter(_verbs(self._tapes))
        self._tapes = []
        while ready:
            heads: dict[str, list[_Place]] = {}
            for place in ready:
                heads.setdefault(place.head.verb, []).append(place)
            # The verb of which the fewest calls stand behind others: the more wait, the more go together.
            name = min(heads, key=lambda its: (ahead[its] - len(heads[its]), its))
            chosen = heads.pop(name)
            ahead[name] -= len(chosen)
            self._backend.run(name, [place.head for place in chosen])
            ready = [place for its in heads.values() for place in its]
            for place in chosen:
                place.done += 1
                place.rest(ready)

    def finish(self) -> None:
        """Do what is recorded and wait for it. Raises Corrupt for the first tensor in which something is wrong."""
        self.flush()
        self._ledger.check()
