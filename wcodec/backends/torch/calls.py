"""Calls of verbs: done at once, or recorded while a batch is open; and what verbs find wrong, as status words on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from threading import local
from typing import Any

import torch
from torch import Tensor

from wcodec.errors import Corrupt

RULES = {
    "E-7": (2, "a symbol chose an unused table"),
    "E-6": (1, "entropy-coded words do not end where the block ends"),
    "CODEBOOK-2": (4, "an index lies outside the codebook"),
    "UNIFORM-3": (8, "a symbol is not below the number of levels"),
    "SUM-2": (16, "an element of a sum is infinite or no number"),
    "RANS-3": (32, "a block does not hold its count of escapes"),
    "SPARSE-2": (64, "the mask does not keep as many elements as there are values"),
    "BITMAP-2": (128, "a block does not keep the elements that its count states"),
    "BITMAP-3": (256, "bits after the last element are not zero"),
    "BITPACK-3": (512, "bits after the last value are not zero"),
    "GAPS-3": (1 << 10, "a kept element lies beyond its block"),
    "NM-2": (1 << 11, "a pattern is not one of the group"),
    "GS-3": (1 << 12, "a kept element lies beyond its bundle, or a row does not keep its share"),
    "DRAW-2": (1 << 13, "a block keeps another number of elements than its count states"),
    "UNIFORM-2": (1 << 14, "a step is infinite or no number"),
    "LOWRANK-2": (1 << 15, "an element of a factor is infinite or no number"),
    "TENSORTRAIN-3": (1 << 16, "an element of a core is infinite or no number"),
}
"""Bits of a status word, in the order in which the cpu would find them in one call."""
SLOTS = 1 << 12


@dataclass(slots=True)
class Call:
    """A verb, its arguments, and its status: one int32 on the device, 0 until something is wrong; None for verbs that cannot tell."""

    verb: str
    arguments: tuple[Any, ...]
    status: Tensor | None = None


def fail(status: Tensor | None, rule: str, wrong: Tensor) -> None:
    """Set the rule's bit of a status word if any element is true."""
    assert status is not None, "the verb was not said to check anything"
    status.bitwise_or_(wrong.any().to(torch.int32) * RULES[rule][0])


def broken(word: int) -> Corrupt | None:
    """Return what a status word says, if anything."""
    for rule, (bit, message) in RULES.items():
        if word & bit:
            return Corrupt(message, rule=rule)
    return None


@dataclass(slots=True)
class Ledger:
    """Status words of many calls, in blocks, and where the calls belong. They are read once: that waits for the device."""

    device: torch.device
    places: list[str] = field(default_factory=list)
    blocks: list[Tensor] = field(default_factory=list)

    def slot(self, place: str) -> Tensor:
        """Return a new status word."""
        at = len(self.places) % SLOTS
        if not at:
            self.blocks.append(torch.zeros(SLOTS, dtype=torch.int32, device=self.device))
        self.places.append(place)
        return self.blocks[-1][at : at + 1]

    def check(self) -> None:
        """Wait for the device. Raises Corrupt for the first call that found something wrong."""
        if not self.places:
            return
        words = torch.cat(self.blocks)[: len(self.places)].cpu()
        for at in words.nonzero().flatten().tolist():
            error = broken(int(words[at]))
            assert error is not None
            raise error.inside(self.places[at]) if self.places[at] else error


@dataclass(slots=True)
class Fork:
    """Tapes of which each keeps its order; what stands before and after all of them does so too."""

    tapes: list[Tape] = field(default_factory=list)


@dataclass(slots=True)
class Tape:
    """The calls of one tensor that wait for their turn. place: for errors. now: they do not wait (``at_once``)."""

    place: str
    ledger: Ledger
    calls: list[Call | Fork] = field(default_factory=list)
    now: bool = False


class Recorder:
    """Does or records calls."""

    device: torch.device

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._open = local()

    @property
    def tape(self) -> Tape | None:
        """The tape that records this thread's calls."""
        return getattr(self._open, "tape", None)

    @contextmanager
    def recording(self, tape: Tape) -> Iterator[None]:
        """Record this thread's calls inside the block."""
        before, self._open.tape = self.tape, tape
        try:
            yield
        finally:
            self._open.tape = before
        tape.calls = self.fused(tape.calls)

    def fused(self, calls: list[Call | Fork]) -> list[Call | Fork]:
        """Return the calls of a tape, some of them put together where the backend can do them at once."""
        return calls

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Record calls that do not depend on those of neighbouring blocks ``apart``, nor these on them."""
        tape = self.tape
        if tape is None or tape.now:
            yield
            return
        its = Tape(tape.place, tape.ledger)
        with self.recording(its):
            yield
        last = tape.calls[-1] if tape.calls else None
        fork = last if isinstance(last, Fork) else Fork()
        fork.tapes.append(its)
        if fork is not last:
            tape.calls.append(fork)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Do calls inside the block as they come, also while a tape records."""
        tape = self.tape
        before, waits = tape is not None and tape.now, tape is not None
        if tape is not None:
            tape.now = True
        try:
            yield
        finally:
            if tape is not None and waits:
                tape.now = before

    def call(self, name: str, arguments: tuple[Any, ...], checks: bool) -> None:
        """Do a call, or record it. Raises Corrupt unless a batch is open, whose end does."""
        tape = self.tape
        ledger = Ledger(self.device) if tape is None else tape.ledger
        call = Call(name, arguments, ledger.slot("" if tape is None else tape.place) if checks else None)
        if tape is not None and not tape.now:
            tape.calls.append(call)
            return
        self.run(name, [call])
        if tape is None and checks:
            ledger.check()

    def run(self, name: str, calls: Sequence[Call]) -> None:
        """Do calls of one verb: together where the backend has the form ``NAME_many``, or one by one."""
        many = getattr(self, f"{name}_many", None)
        if many is not None:
            many(calls)
            return
        one = getattr(type(self), name).one
        for call in calls:
            one(self, *(() if call.status is None else (call.status,)), *call.arguments)


def verb(one: Callable[..., None]) -> Callable[..., None]:
    """Make a verb of a method that does one call: a call of it is done or recorded (``Recorder.call``)."""
    return _recorded(one, checks=False)


def checked(one: Callable[..., None]) -> Callable[..., None]:
    """Make a verb of a method whose first argument is the status word of the call."""
    return _recorded(one, checks=True)


def _recorded(one: Callable[..., None], checks: bool) -> Callable[..., None]:
    @wraps(one)
    def record(self: Recorder, *arguments: Any) -> None:
        self.call(one.__name__, arguments, checks)

    record.one = one  # type: ignore[attr-defined]
    return record
