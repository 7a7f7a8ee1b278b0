"""The tensors of one file on their way into it, side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import blake3
import numpy as np
import numpy.typing as npt

from wcodec.api.attempts import Attempts
from wcodec.api.crew import Crew, Task
from wcodec.api.opened import inside
from wcodec.api.outcome import Outcome, judge, parts_digest
from wcodec.api.report import TensorRow
from wcodec.api.sources import Source
from wcodec.api.work import pieces, together
from wcodec.codecs import Env, check, decode, decode_all
from wcodec.codecs.lossless import lossless
from wcodec.coding.numbers import to_float32
from wcodec.container.records import TensorRecord
from wcodec.container.writer import ContainerWriter
from wcodec.errors import EncodeError
from wcodec.recipes import Recipe
from wcodec.recipes.base import LOSSLESS
from wcodec.types import Section, Spec, UInts

LARGE = 1 << 23
"""Bytes from which a tensor is encoded by all threads together; smaller ones are encoded side by side."""
RUN = 1 << 20
"""Bytes up to which one task encodes neighbours: fewer are not worth the handing over."""


@dataclass(slots=True)
class _Coded:
    """A tensor read and encoded. section, outcome: None when an earlier tensor has the same bytes (digest). why: it stayed lossless.

    tuned: it has values in place of the source's, and shares them with none.
    """

    index: int
    spec: Spec
    digest: bytes
    data: UInts
    stack: ExitStack
    section: Section | None = None
    outcome: Outcome | None = None
    why: str = ""
    tuned: bool = False


class Encoding:
    """Tensors on their way to a file: read and encoded by the crew, written by the caller in order, read back by the crew.

    rows: what the report says of those written, from one source or several. readback: whether they are. attempts: what earlier ones at
    the same file made. tuned: by name, storage elements that stand in the file as they are, in place of the source's.
    """

    def __init__(self, writer: ContainerWriter, recipe: Recipe, env: Env, crew: Crew, readback: bool, attempts: Attempts | None) -> None:
        self.rows: list[TensorRow] = []
        self.recipe = recipe
        self.tuned: Mapping[str, UInts] = {}
        self._writer, self._crew, self._readback = writer, crew, readback
        self._attempts = attempts
        self._env = env.within(writer.written_resource)
        alone = crew.threads == 1 or self._env.near is not None
        self._wide = self._env if alone else self._env.spread(crew.map, crew.threads)
        self._known: dict[tuple[Spec, bytes], int] = {}
        self._first: dict[tuple[Spec, bytes], int] = {}

    def run(self, source: Source) -> Iterator[int]:
        """Encode all tensors of a source; yield the bytes of those that were written, run by run."""
        self._source, self._before = source, len(self.rows)
        checks: deque[Task[None]] = deque()
        for coded in self._crew.ordered(self._code, self._runs(), self._crew.threads * LARGE, self._size):
            written = [found for its in coded if (found := self._add(its)) is not None]
            check = partial(self._compare, written)
            if any(its.spec.size >= LARGE for its in coded):
                check()
            elif written:
                checks.append(self._crew.start(check))
            while len(checks) > 2 * self._crew.threads:
                self._crew.result(checks.popleft())
            yield sum(its.spec.size for its in coded)
        while checks:
            self._crew.result(checks.popleft())

    def decoded(self, index: int) -> npt.NDArray[np.float32]:
        """Decode a tensor that was written, of which ``rows`` tell at this index."""
        shared = self.rows[index].alias
        first = index if shared is None else next(i for i, row in enumerate(self.rows) if row.name == shared)
        record = self._writer.written(first)
        flat = decode_all(record.section, record.spec, self._env.host)
        return to_float32(flat, record.spec.dtype).reshape(record.spec.shape)

    def _runs(self) -> Iterator[list[int]]:
        """Yield what one task encodes: neighbours of a few bytes, or one larger tensor."""
        run: list[int] = []
        left = RUN
        for index in range(len(self._source.names)):
            left -= self._size([index])
            if run and left < 0:
                yield run
                run, left = [], RUN - self._size([index])
            run.append(index)
        if run:
            yield run

    def _size(self, run: Sequence[int]) -> int:
        return sum(self._source.spec(index).size for index in run)

    def _code(self, run: Sequence[int]) -> list[_Coded]:
        return [self._code_one(index) for index in run]

    def _code_one(self, index: int) -> _Coded:
        name, spec = self._source.names[index], self._source.spec(index)
        env = self._wide if spec.size >= LARGE else self._env
        with ExitStack() as stack, inside(name):
            data = self._source.read(index, env.host, stack)
            digest = blake3.blake3(data.view(np.uint8).data, max_threads=env.parallel).digest()
            x = data if env.near is None else self._there(index, data)
            coded = _Coded(index, spec, digest, x, stack)
            place, tuned = self._before + index, self.tuned.get(name)
            if tuned is not None and not np.array_equal(tuned, data):
                coded.tuned, coded.section = True, lossless(tuned, spec, env.host)
                coded.outcome = judge(coded.section, spec, data, digest, env.host)
            else:
                earlier = self._known.get((spec, digest), place)
                self._known[spec, digest] = min(place, earlier)
                if earlier >= place:
                    self._encode(coded, data, env)
            coded.stack = stack.pop_all()
            return coded

    def _encode(self, coded: _Coded, data: UInts, env: Env) -> None:
        """Encode a tensor and judge the section, or find both among earlier attempts. data: the tensor in memory of the host."""
        name, attempts = self._source.names[coded.index], self._attempts
        method = self.recipe.choose(name, coded.spec).method
        known = None if attempts is None else attempts.find(name, method)
        if known is None:
            again = attempts is not None and method is not LOSSLESS  # what is kept cannot be lent
            found = self.recipe.encode(name, coded.data, coded.spec, env if again else env.leased(coded.stack))
            outcome = Outcome(coded.digest) if found.lossless else judge(found.section, coded.spec, data, coded.digest, env.host)
            if attempts is not None and again and not found.lossless:  # else the section may share memory with the source
                attempts.keep(name, method, found, outcome)
            known = found, outcome
        coded.section, coded.why, coded.outcome = known[0].section, known[0].why, known[1]

    def _there(self, index: int, data: UInts) -> Any:
        """Return a tensor on the device: as it is there, or copied."""
        found = self._source.there(index)
        return self._env.backend.from_host(data) if found is None else found

    def _add(self, coded: _Coded) -> tuple[_Coded, TensorRecord] | None:
        """Write an encoded tensor, or a reference to the same bytes; return what is to be read back."""
        name, place = self._source.names[coded.index], self._before + coded.index
        with inside(name):
            first = place if coded.tuned else self._first.setdefault((coded.spec, coded.digest), place)
            if first != place:
                self._writer.add_alias(name, first, self._source.tied(coded.index))
                self.rows.append(self.rows[first].alias_of(name))
            else:
                assert coded.section is not None and coded.outcome is not None
                out = coded.outcome
                at = self._writer.add(name, coded.spec, coded.section, out.digest, out.source, out.tolerant)
                kept = out.source is None
                self.rows.append(TensorRow.of(name, coded.spec, coded.section, kept, out.digest, out.error, coded.why, coded.tuned))
                if self._readback:
                    return coded, self._writer.written(at)
        coded.stack.close()
        return None

    def _compare(self, written: Sequence[tuple[_Coded, TensorRecord]]) -> None:
        for coded, record in written:
            name = self._source.names[coded.index]
            with coded.stack, inside(name):
                _compare(name, record, coded, self._wide if coded.spec.size >= LARGE else self._env)


def _compare(name: str, record: TensorRecord, coded: _Coded, env: Env) -> None:
    """Decode a tensor from the unfinished file and compare it with the source; a lossy one by its digest. Raises EncodeError."""

    def same(window: tuple[int, int]) -> bool:
        start, stop = window
        with env.borrow(stop - start, coded.spec.dtype.storage) as out:
            with together(env, name):
                decode(record.section, record.spec, env, start, stop, out)
            return env.backend.same(out, coded.data[start:stop])

    check(record.section, record.spec, env)
    if record.lossless:
        good = all(env.workers(same, pieces(record.section, record.spec, env)))
    else:
        good = parts_digest(record.section, record.spec, env.host) == record.digest
    if not good:
        raise EncodeError("the tensor does not read back as it was encoded; nothing was written (please report this)")
