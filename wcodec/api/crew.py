"""The threads of one job: the caller is one of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Task(Generic[R]):
    """One call that some thread of a crew makes. done: whether it was made, or dropped."""

    __slots__ = ("_call", "_ended", "_error", "_result", "done")

    def __init__(self, call: Callable[[], R]) -> None:
        self._call: Callable[[], R] | None = call
        self._result: R | None = None
        self._error: BaseException | None = None
        self._ended = Lock()
        self._ended.acquire()
        self.done = False

    def run(self) -> None:
        """Make the call, and keep what it returns or raises."""
        call, self._call = self._call, None
        try:
            self._result = call() if call is not None else None
        except BaseException as error:  # the thread that asks for the result gets it
            self._error = error
        self.done = True
        self._ended.release()

    def drop(self) -> None:
        """Do not make the call if it has not begun."""
        self._call = None

    def wait(self) -> None:
        """Wait until another thread is done with it."""
        with self._ended:
            pass

    def result(self) -> R:
        """Return what the call of a done task returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class Crew:
    """Threads that share work with the caller, who works while it waits for a result: ``threads`` of them with the caller's.

    A thread alone does each task at once. Use as a context manager; at its end, tasks that have not begun are dropped.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._tasks: SimpleQueue[Task[Any] | None] = SimpleQueue()
        self._helpers: list[Thread] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while (task := self._next()) is not None:
            task.drop()
            task.run()
        self._tasks.put(None)
        for helper in self._helpers:
            helper.join()

    def start(self, call: Callable[[], R]) -> Task[R]:
        """Let whichever thread is free make a call; a thread alone makes it now."""
        task = Task(call)
        if self.threads == 1:
            task.run()
            return task
        if len(self._helpers) < self.threads - 1:
            self._helpers.append(Thread(target=self._serve, name="wcodec", daemon=True))
            self._helpers[-1].start()
        self._tasks.put(task)
        return task

    def result(self, task: Task[R]) -> R:
        """Return the result of a task, doing other tasks until it is there."""
        while not task.done:
            other = self._next()
            if other is None:
                task.wait()
            else:
                other.run()
        return task.result()

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return the results for all items, in order."""
        return list(self.ordered(work, items, 2**63))

    def ordered(self, work: Callable[[T], R], items: Iterable[T], ahead: int, cost: Callable[[T], int] = lambda _: 1) -> Iterator[R]:
        """Yield results in order; those begun and not asked for yet cost at most ``ahead`` together, or are one."""
        if self.threads == 1:
            yield from map(work, items)
            return
        waiting: deque[tuple[Task[R], int]] = deque()
        spent = 0
        try:
            for item in items:
                price = cost(item)
                while waiting and spent + price > ahead:
                    yield self.result(waiting[0][0])
                    spent -= waiting.popleft()[1]
                waiting.append((self.start(partial(work, item)), price))
                spent += price
            while waiting:
                yield self.result(waiting[0][0])
                waiting.popleft()
        finally:
            for task, _ in waiting:
                task.drop()
            for task, _ in waiting:
                with suppress(BaseException):
                    self.result(task)

    def _next(self) -> Task[Any] | None:
        """Take a task that has not begun. None among them says that no more will come; it stays, for all helpers to see."""
        for _ in range(2):
            try:
                task = self._tasks.get_nowait()
            except Empty:
                return None
            if task is not None:
                return task
            self._tasks.put(None)
        return None

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()
        self._tasks.put(None)
