"""Verify and diff: is a checkpoint whole, and do two hold the same tensors?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3
import numpy as np

from wcodec.api.crew import Crew
from wcodec.api.files import Checkpoint, matches, open_shards
from wcodec.api.opened import Opened, inside
from wcodec.api.outcome import parts_digest
from wcodec.api.tolerance import same_parts, tolerance, within
from wcodec.api.work import PIECE, make_env, pieces, thread_count
from wcodec.codecs import Env
from wcodec.errors import Corrupt
from wcodec.types import Limits

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verify read. deep: every tensor was decoded and its digest compared. content_digest: hex, spec/container.md section 8."""

    path: str
    files: int
    tensors: int
    size: int
    deep: bool
    content_digest: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: getattr(self, key) for key in self.__slots__}


def verify(
    path: str | Path,
    *,
    deep: bool = False,
    threads: int | None = None,
    kernels: str = "auto",
    device: str = "cpu",
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Check every stored byte, record and rule of a file or folder; with ``deep`` also decode and compare every digest.

    Returns when all is well. Raises FormatError for damage, UnsupportedVersion and UnknownCodec for newer files, LimitExceeded, OSError.
    """
    with ExitStack() as stack:
        found = open_shards(Path(path), stack, threads=1, kernels=kernels, limits=limits, device=device)
        crew = stack.enter_context(Crew(thread_count(threads)))
        stored = sum(opened.reader.size for opened in found.values())
        total = stored + (sum(_decoded_size(opened) for opened in found.values()) if deep else 0)
        done = 0

        def advance(size: int) -> None:
            nonlocal done
            done += size
            if progress is not None:
                progress(done, total)

        for opened in found.values():
            with inside(opened.path):
                opened.reader.check_everything(advance)
            for name in opened.offset_keys():
                opened.record(name)
                if deep and opened.alias(name) is None:
                    _check_digest(opened, name, crew, advance)
        digests = {name: opened.reader.content_digest().hex() for name, opened in found.items()}
        tensors = sum(len(opened.reader.names) for opened in found.values())
        return VerifyReport(str(path), len(found), tensors, stored, deep, digests)


def _decoded_size(opened: Opened) -> int:
    return sum(opened.record(name).spec.size for name in opened.offset_keys() if opened.alias(name) is None)


def _check_digest(opened: Opened, name: str, crew: Crew, advance: Callable[[int], None]) -> None:
    record = opened.record(name)

    def read(start: int, stop: int, out: Any) -> None:
        opened.decode_window(name, start, stop, out)

    with inside(opened.path):
        windows = pieces(record.section, record.spec, opened.env)
        found = _digest(windows, read, opened.env, record.spec.dtype.storage, crew, advance)  # codecs check their rules
        if record.tolerant:
            found = parts_digest(record.section, record.spec, opened.env.host)
        if found != record.digest:
            raise Corrupt("decoded bytes do not have the digest that the file states", at=name, rule="C-30")


def _digest(
    windows: Any,
    read: Callable[[int, int, Any], None],
    env: Env,
    dtype: Any,
    crew: Crew,
    advance: Callable[[int], None] | None = None,
) -> bytes:
    """BLAKE3-256 of the elements that ``read`` yields, windows read side by side."""

    def work(window: tuple[int, int]) -> tuple[ExitStack, Any]:
        with ExitStack() as stack:
            out = stack.enter_context(env.borrow(window[1] - window[0], dtype))
            read(*window, out)
            return stack.pop_all(), env.backend.to_host(out)

    digest = blake3.blake3()
    for stack, out in crew.ordered(work, windows, 2 * crew.threads):
        with stack:
            digest.update(out.view(np.uint8))
            if advance is not None:
                advance(out.nbytes)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class DiffReport:
    """How two checkpoints differ by decoded content. only_a, only_b: names in one; spec: other dtype or shape; values: other bits.

    same_count: tensors that are the same: bit for bit, or tolerant ones that are so by parts, which decode from the same parts, or
    within, with bits that differ no more than the bounds allow that their codecs' pages state.
    """

    a: str
    b: str
    same_count: int
    only_a: list[str]
    only_b: list[str]
    spec: list[str]
    values: list[str]
    metadata: bool
    parts: list[str]
    within: list[str]

    @property
    def same(self) -> bool:
        """Whether all tensors are the same; metadata is reported but does not count."""
        return not (self.only_a or self.only_b or self.spec or self.values)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: getattr(self, key) for key in self.__slots__} | {"same": self.same}


def diff(
    a: str | Path,
    b: str | Path,
    *,
    include: Sequence[str] = (),
    threads: int | None = None,
    kernels: str = "auto",
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> DiffReport:
    """Compare two checkpoints (``.wcodec`` or safetensors, files or folders) by what they decode to, bit for bit.

    Tolerant tensors, whose last bits may differ between machines, are compared by their parts or within the bounds of their codecs.
    Raises FormatError, LimitExceeded, OSError.
    """
    options: dict[str, Any] = {"threads": 1, "kernels": kernels, "limits": limits}
    with ExitStack() as stack:
        left, right = (stack.enter_context(Checkpoint(path, **options)) for path in (a, b))
        crew = stack.enter_context(Crew(thread_count(threads)))
        names_a = [name for name in left.names if matches(name, include)]
        names_b = {name for name in right.names if matches(name, include)}
        common = [name for name in names_a if name in names_b]
        other = [name for name in common if left.spec(name) != right.spec(name)]
        done, total = 0, sum(left.spec(name).size for name in common)
        values, parts, close, env = [], [], [], make_env(kernels)
        for name in common:
            if name in other:
                pass
            elif same_parts(left, right, name):
                parts.append(name)
            elif not (found := set(_compare(left, right, name, env, crew))) <= {SAME, NEAR}:
                values.append(name)
            elif NEAR in found:
                close.append(name)
            done += left.spec(name).size
            if progress is not None:
                progress(done, total)
        only_a = [name for name in names_a if name not in names_b]
        only_b = sorted(names_b - set(names_a))
        same = len(common) - len(other) - len(values)
        return DiffReport(str(a), str(b), same, only_a, only_b, other, values, left.metadata != right.metadata, parts, close)


SAME, NEAR, OTHER = "same", "near", "other"


def _compare(a: Checkpoint, b: Checkpoint, name: str, env: Env, crew: Crew) -> Iterator[str]:
    """Yield how the windows of a tensor compare, up to the first that differs."""
    dtype = a.spec(name).dtype

    def compare(window: tuple[int, int]) -> str:
        count = window[1] - window[0]
        with env.borrow(count, dtype.storage) as x, env.borrow(count, dtype.storage) as y:
            a.read(name, *window, x)
            b.read(name, *window, y)
            if env.backend.same(x, y):
                return SAME
            allowed = tolerance(a, b, name, *window)
            return NEAR if allowed is not None and within(x, y, dtype, allowed) else OTHER

    for found in crew.ordered(compare, a.windows(name, env, PIECE), 4):
        yield found
        if found == OTHER:
            return
