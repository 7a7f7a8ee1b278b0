"""What a codec is, and how sections of any codec are checked and decoded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from wcodec.backends import Backend
from wcodec.codecs.memory import Pool
from wcodec.container.fields import check_requires
from wcodec.errors import Corrupt, LimitExceeded, UnknownCodec
from wcodec.types import U8, U32, DType, Part, Ref, Resource, Section, Spec, Stream, UInts

MAX_DEPTH = 8
MAX_PARTS = 256
FAR = 1 << 31
"""Elements of an array from which on one section is too large for indices on a device."""
RANKED = 1 << 20
"""Elements of a mask between two for which the number kept before them is known."""
F64: TypeAlias = npt.NDArray[np.float64]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StreamOf:
    """A part that must be a stream, of ``size`` bytes unless None; ``rule`` is broken by another size."""

    size: int | None = None
    rule: str = "C-20"


Expected: TypeAlias = Spec | StreamOf


def _no_resource(index: int) -> Resource:
    raise Corrupt(f"reference to resource {index}, and there are none", rule="C-19")


@dataclass(slots=True, eq=False)
class Env:
    """What codecs work with: a backend, the codecs known, the file's resources, workers and reusable memory.

    decoded: bytes that sections may still decode to (``Limits``). workers: map over independent pieces of one tensor.
    layers: parts of a ``sum`` that are decoded; None: all.
    lease: gives back, when closed, the memory that encoded sections stand in; without one it is theirs for good.
    near: where the backend's arrays are on a device, the environment on the cpu; None: it is this one. pool: of memory on the cpu.
    """

    backend: Backend
    codecs: Mapping[str, Codec]
    resource: Callable[[int], Resource] = _no_resource
    decoded: int = 2**63
    workers: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]] = map
    parallel: int = 1
    lease: ExitStack | None = None
    layers: int | None = None
    near: Env | None = None
    pool: Pool = field(default_factory=Pool)
    _arrays: dict[Hashable, UInts] = field(default_factory=dict, init=False)
    _lock: Lock = field(default_factory=Lock, init=False)

    @property
    def host(self) -> Env:
        """The environment for what must be numbers in Python: tables, offsets, counts; itself unless it is one of a device."""
        return self.near or self

    def borrow(self, count: int, dtype: np.dtype[Any]) -> AbstractContextManager[UInts]:
        """Lend an uninitialised array; memory is reused, so that decoding touches few fresh pages (torch does so by itself)."""
        return self.pool.loan(count, dtype) if self.near is None else nullcontext(self.backend.empty(count, dtype))

    def bytes(self, stream: Stream, start: int, stop: int) -> AbstractContextManager[U8]:
        """Lend stored bytes, checked, as an array of the backend. Raises Corrupt [C-13], Truncated on entry."""
        return stream.read(start, stop) if self.near is None else self._copied(stream, start, stop)

    @contextmanager
    def _copied(self, stream: Stream, start: int, stop: int) -> Iterator[U8]:
        with stream.read(start, stop) as data:
            yield self.backend.from_host(data)

    def take(self, size: int) -> U8:
        """Return uninitialised bytes for a section to keep, reused once the lease ends."""
        if self.near is not None:
            return self.backend.empty(size, np.dtype(np.uint8))
        if self.lease is None:
            return np.empty(size, np.uint8)
        buffer = self.pool.take(size)
        self.lease.callback(self.pool.give, buffer)
        return buffer[:size]

    def leased(self, lease: ExitStack) -> Env:
        """Return this environment with a lease; memory and limits stay shared."""
        return replace(self, lease=lease, near=None if self.near is None else self.near.leased(lease))

    def spread(self, workers: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]], parallel: int) -> Env:
        """Return this environment with workers for the pieces of one tensor; memory and limits stay shared."""
        return replace(self, workers=workers, parallel=parallel)

    def within(self, resource: Callable[[int], Resource]) -> Env:
        """Return this environment for a file with these resources; memory and limits stay shared."""
        return replace(self, resource=resource, near=None if self.near is None else self.near.within(resource))

    def spend(self, size: int) -> None:
        """Count decoded bytes against the caller's limits. Raises LimitExceeded."""
        with self._lock:
            self.decoded -= size
            if self.decoded < 0:
                raise LimitExceeded(
                    "decoding needs more bytes than the limits allow for a file of this size; if you trust it, allow more:"
                    " --limit SIZE on the command line, limits=wcodec.Limits(decoded=BYTES) in Python"
                )

    def shared(self, part: Ref | Resource, spec: Spec) -> UInts:
        """Decode a resource once and return its storage elements."""
        key = part.index if isinstance(part, Ref) else part
        with self._lock:
            known = self._arrays.get(key)
        if known is None:
            resource = self.resource(part.index) if isinstance(part, Ref) else part
            with self.backend.at_once():  # others will use it
                known = decode_all(resource.section, resource.spec, self)
            with self._lock:
                known = self._arrays.setdefault(key, known)
        if len(known) != spec.count:
            raise Corrupt(f"a resource of {len(known)} elements is not {spec}", rule="C-23")
        return known


class Codec(ABC):
    """One way to store an array as a section.

    name: on the wire, its spec page and its file. params: those that its page names. since: first minor version.
    exact: decoded bits are fully determined by those of the parts. lossless: encode keeps every bit. max_parts: cap on parts (C-22).
    host: why decoding runs on the cpu even for a device; empty where a device decodes. whole: a device decodes all for any window.
    host_encode: why encoding does, unless it gives sections that a device encodes; host_rare: what the cpu encodes even then.
    options: names of the encoder's options; None: the signature of ``encode`` says. examples: options that tests and fixtures exercise.
    """

    name: ClassVar[str]
    params: ClassVar[frozenset[str]] = frozenset()
    since: ClassVar[int] = 0
    exact: ClassVar[bool] = True
    lossless: ClassVar[bool] = True
    max_parts: ClassVar[int] = MAX_PARTS
    host: ClassVar[str] = ""
    host_encode: ClassVar[str] = "its encoder calculates with numpy"
    host_rare: ClassVar[str] = ""
    whole: ClassVar[bool] = False
    options: ClassVar[frozenset[str] | None] = None
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)

    @abstractmethod
    def parts(self, section: Section, spec: Spec) -> Mapping[str, Expected]:
        """Check the params and return what every part must be. Raises Corrupt with the page's rule."""

    @abstractmethod
    def decode(self, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
        """Write storage elements start … stop − 1 (flat, C order) to out. The section has passed ``check``."""

    @abstractmethod
    def encode(self, x: UInts, spec: Spec, env: Env, **options: Any) -> Section:
        """Encode an array's storage elements (flat). Raises EncodeError when this codec cannot hold them."""

    def work(self, section: Section, spec: Spec) -> int:
        """Bytes whose decoding takes as long as what a checked section asks for besides its own: counted against ``Limits`` with them."""
        return 0

    def suits(self, spec: Spec) -> bool:
        """Tell whether encode takes arrays of this dtype."""
        return True

    def positions(self, section: Section, spec: Spec, env: Env, start: int, stop: int, kept: int = 0) -> tuple[int, U32]:
        """Return the kept elements of a mask before start, and ascending positions less start of those in start … stop − 1.

        A mask keeps the elements whose BOOL byte is not zero. The window has at most 2^30 elements, on a device all; kept: how many
        there have to be in all, which a device must know. Raises Corrupt [SPARSE-2] there when there are not.
        """
        if env.near is not None:
            with decoded(section, spec, env, 0, spec.count) as mask:
                return 0, env.backend.byte_positions(mask, kept)
        first, before = start // RANKED * RANKED, 0
        if first:
            if "before" not in section.memo:
                section.memo["before"] = _kept_before(section, spec, env)
            before = section.memo["before"][start // RANKED]
        with decoded(section, spec, env, first, stop) as mask:
            return cut(before, env.backend.byte_positions(mask), start - first, stop - first)

    def bound(self, section: Section, spec: Spec, env: Env, start: int, stop: int) -> F64:
        """Return how far storage elements start … stop − 1 of a tolerant section may lie from their exact values, float64.

        Both before the last rounding to the dtype. As the page states; infinite where it states nothing. Here 0: for codecs that copy
        or look up what they decode, and for all that do not say how far an error of their parts reaches.
        """
        return np.zeros(stop - start)

    def unit(self, section: Section, spec: Spec, env: Env) -> int:
        """Elements that decode together: a window that begins and ends at multiples of it wastes nothing."""
        return 1

    def lend(self, section: Section, spec: Spec, env: Env, start: int, stop: int) -> AbstractContextManager[UInts]:
        """Lend storage elements start … stop − 1: in borrowed memory, unless the stored bytes are them."""
        return _decoded(section, spec, env, start, stop)


def find(section: Section, env: Env) -> Codec:
    """Return the codec of a section. Raises UnknownCodec [C-24]."""
    codec = env.codecs.get(section.codec)
    if codec is None:
        raise UnknownCodec(f"codec {section.codec!r} is not known to this version of wcodec", rule="C-24")
    return codec


def check(part: Part, spec: Spec, env: Env, depth: int = 1) -> None:
    """Check a section and everything below it before anything is allocated, and count its decoded bytes.

    Raises Corrupt, UnknownCodec, LimitExceeded.
    """
    if depth > MAX_DEPTH:
        raise Corrupt(f"sections nest deeper than {MAX_DEPTH}", rule="C-21")
    if isinstance(part, Ref | Resource):
        resource = env.resource(part.index) if isinstance(part, Ref) else part
        if resource.spec != spec:
            raise Corrupt(f"a resource is {resource.spec}, expected {spec}", rule="C-23")
        return check(resource.section, resource.spec, env, depth)
    if not isinstance(part, Section):
        raise Corrupt("a stream stands where a section is expected", rule="C-20")
    codec = find(part, env)
    check_requires(part.params, codec.params | {"requires"})
    env.spend(spec.size)
    expected = codec.parts(part, spec)
    if work := codec.work(part, spec):
        env.spend(work)
    if len(part.parts) > codec.max_parts:
        raise Corrupt(f"{len(part.parts)} parts, at most {codec.max_parts}", rule="C-22")
    if part.parts.keys() != expected.keys():
        raise Corrupt(f"{codec.name} has parts {sorted(part.parts)}, expected {sorted(expected)}", rule="C-20")
    for name, want in expected.items():
        child = part.parts[name]
        if isinstance(want, Spec):
            check(child, want, env, depth + 1)
        elif isinstance(child, Section | Ref | Resource):
            raise Corrupt(f"part {name!r} of {codec.name} must be a stream", rule="C-20")
        elif want.size is not None and child.size != want.size:
            raise Corrupt(f"part {name!r} of {codec.name} has {child.size} bytes, expected {want.size}", rule=want.rule)
    return None


def decode(part: Part, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
    """Decode storage elements start … stop − 1 of a checked section or resource into out; of an empty array, check what is stored."""
    if start == stop and spec.count:
        return
    if isinstance(part, Ref | Resource):
        env.backend.copy(env.shared(part, spec)[start:stop], out)
    else:
        assert isinstance(part, Section)
        codec = find(part, env)
        if env.near is None:
            codec.decode(part, spec, env, start, stop, out)
        else:
            _decode_there(codec, part, spec, env, start, stop, out)


def _decode_there(codec: Codec, section: Section, spec: Spec, env: Env, start: int, stop: int, out: UInts) -> None:
    """Decode on a device, whose verbs know no numbers that they have decoded: windows that need such are cut from the whole array."""
    if codec.host or (spec.count >= FAR and codec.max_parts == MAX_PARTS):
        with decoded(section, spec, env.host, start, stop) as found:
            env.backend.load(found.view(np.uint8), out)
    elif codec.whole and (start, stop) != (0, spec.count):
        with env.borrow(spec.count, spec.dtype.storage) as all_of_it:
            codec.decode(section, spec, env, 0, spec.count, all_of_it)
            env.backend.copy(all_of_it[start:stop], out)
    else:
        codec.decode(section, spec, env, start, stop, out)


def decode_all(part: Part, spec: Spec, env: Env) -> UInts:
    """Decode a checked section to a new flat array of storage elements."""
    out = env.backend.empty(spec.count, spec.dtype.storage)
    decode(part, spec, env, 0, spec.count, out)
    return out


def exact(part: Part, env: Env) -> bool:
    """Tell whether the decoded bits of a checked section are fully determined: every codec below it is exact."""
    if isinstance(part, Ref | Resource):
        return exact((env.resource(part.index) if isinstance(part, Ref) else part).section, env)
    if not isinstance(part, Section):
        return True
    return find(part, env).exact and all(exact(child, env) for child in part.parts.values())


def bound(part: Part, spec: Spec, env: Env, start: int, stop: int) -> F64:
    """Return what ``Codec.bound`` does of a checked section or resource; zeros where it is exact."""
    if isinstance(part, Ref | Resource):
        part = (env.resource(part.index) if isinstance(part, Ref) else part).section
    assert isinstance(part, Section)
    return np.zeros(stop - start) if exact(part, env) else find(part, env).bound(part, spec, env, start, stop)


def unit(part: Part, spec: Spec, env: Env) -> int:
    """Return the elements of a section that decode together."""
    return find(part, env).unit(part, spec, env) if isinstance(part, Section) else 1


def decoded(part: Part, spec: Spec, env: Env, start: int, stop: int) -> AbstractContextManager[UInts]:
    """Lend storage elements start … stop − 1 of a checked section or resource."""
    return find(part, env).lend(part, spec, env, start, stop) if isinstance(part, Section) else _decoded(part, spec, env, start, stop)


def positions(part: Part, spec: Spec, env: Env, start: int, stop: int, kept: int = 0) -> tuple[int, U32]:
    """Return what ``Codec.positions`` does of a checked mask, a section or a resource."""
    if isinstance(part, Ref | Resource):
        part = (env.resource(part.index) if isinstance(part, Ref) else part).section
    assert isinstance(part, Section)
    return find(part, env).positions(part, spec, env, start, stop, kept)


def cut(before: int, found: U32, start: int, stop: int) -> tuple[int, U32]:
    """Cut positions that were found from an earlier element on: kept elements before start, positions less start."""
    low, high = (int(at) for at in np.searchsorted(found, np.array((start, stop), np.uint32)))
    return before + low, found[low:high] - np.uint32(start) if start else found[low:high]


def _kept_before(section: Section, spec: Spec, env: Env) -> list[int]:
    """Count the kept elements of a mask before every multiple of RANKED."""
    found = [0]
    for at in range(0, spec.count, RANKED):
        with decoded(section, spec, env, at, min(at + RANKED, spec.count)) as mask:
            found.append(found[-1] + int(np.count_nonzero(mask)))
    return found


@contextmanager
def _decoded(part: Part, spec: Spec, env: Env, start: int, stop: int) -> Iterator[UInts]:
    with env.borrow(stop - start, spec.dtype.storage) as out:
        decode(part, spec, env, start, stop, out)
        yield out


def stream_of(section: Section | Part, name: str) -> Any:
    """Return a part that ``check`` has found to be a stream."""
    assert isinstance(section, Section)
    return section.parts[name]


def storage_spec(spec: Spec, dtype: DType) -> Spec:
    """Return the spec of a part with one element per storage element, in their shape."""
    return Spec(dtype, spec.storage_shape)


def stored_size(section: Section) -> int:
    """Estimate the bytes that a section takes in a file: streams, padding, extents, checksums and the record's share."""
    size = 24 + len(section.codec) + sum(len(key) + 4 for key in section.params)
    for name, part in section.parts.items():
        size += len(name) + 4
        if isinstance(part, Section):
            size += stored_size(part)
        elif not isinstance(part, Ref | Resource):
            size += part.size if part.size <= 256 else -(-part.size // 64) * 64 + 16 + 8 * -(-part.size // 2**20)
    return size
