"""The battery that every codec must pass, its own and those from outside: ``check_codec(MyCodec())`` in a test."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import blake3
import numpy as np

from wcodec.backends import available, get_backend
from wcodec.codecs import CODECS, Codec, Env, check, decode, unit
from wcodec.codecs.base import exact
from wcodec.coding.numbers import FLOATS, LOSSY, from_float32, to_float32
from wcodec.container.reader import ContainerReader
from wcodec.container.writer import ContainerWriter
from wcodec.errors import WcodecError
from wcodec.types import DTYPES, Section, Spec, UInts

SHAPES = ((), (0,), (1,), (7,), (130,), (3, 5), (0, 4), (64, 65), (2, 3, 4, 5), (9001,))
"""Shapes of the battery: a scalar, empty and odd ones, a matrix, one beyond a block."""
CLOSE = 1e-4
"""Largest difference of two decodings of a tolerant section, in units of the largest value."""


def check_codec(codec: Codec, examples: Iterable[Mapping[str, Any]] | None = None, seed: int = 0) -> int:
    """Run a codec over shapes, dtypes, contents, windows, backends and damage; return the number of arrays that it held.

    examples: encoder options, the codec's own by default. A codec need not take every array: ``encode`` may raise EncodeError.
    Raises AssertionError with the case that fails.
    """
    codecs = {**CODECS, codec.name: codec}
    held = 0
    for options in codec.examples if examples is None else examples:
        for spec, x in arrays(seed):
            if codec.suits(spec) and _holds(codec, options, spec, x, codecs):
                held += 1
    assert held, f"{codec.name} held none of the battery's arrays"
    return held


def arrays(seed: int = 0) -> Iterator[tuple[Spec, UInts]]:
    """Yield specs and storage elements: weights, few values, zeros, random bits (NaNs among them) of every dtype and shape."""
    rng = np.random.default_rng(seed)
    for name, dtype in DTYPES.items():
        for shape in SHAPES:
            if dtype.bits < 8 and np.prod(shape) % 4:
                continue
            spec = Spec.of(name, *shape)
            yield spec, rng.integers(0, 256, spec.size, np.uint8).view(dtype.storage)
            if name in LOSSY:
                yield spec, from_float32((rng.standard_normal(spec.count) * 0.02).astype(np.float32), dtype)
            yield spec, rng.integers(0, 5, spec.count).astype(dtype.storage)
            yield spec, np.zeros(spec.count, dtype.storage)


def _holds(codec: Codec, options: Mapping[str, Any], spec: Spec, x: UInts, codecs: Mapping[str, Codec]) -> bool:
    case = f"{codec.name} {dict(options)} on {spec}"
    envs = {name: Env(get_backend(name), codecs) for name in available()}
    try:
        section = codec.encode(x.copy(), spec, envs["numpy"], **options)
    except WcodecError:
        return False
    data = stored(section, spec, x)
    want = x if codec.lossless else decoded(section, spec, envs["numpy"])
    if not codec.lossless:
        assert np.isfinite(_floats(want, spec)).all() or not np.isfinite(_floats(x, spec)).all(), f"{case}: finite values became infinite"
    precise = exact(section, envs["numpy"])
    for name in envs:
        reader = ContainerReader(data)
        record, env = reader.target("x"), Env(get_backend(name), codecs, reader.resource)
        check(record.section, record.spec, env)
        assert unit(record.section, spec, env) >= 1, case
        for start, stop in {(0, x.size), (x.size // 3, x.size), (x.size // 4, x.size // 2)}:
            found = decoded(record.section, spec, env, start, stop)
            assert _alike(found, want[start:stop], spec, precise), f"{case}: {name} decodes {start} to {stop} to other values"
    _damaged(data, spec, codecs, case)
    return True


def stored(section: Section, spec: Spec, x: UInts) -> bytes:
    """Return a file with one tensor ``x``."""
    buffer = io.BytesIO()
    with ContainerWriter(buffer) as writer:
        writer.add("x", spec, section, blake3.blake3(x.view(np.uint8).data).digest())
    return buffer.getvalue()


def decoded(section: Section, spec: Spec, env: Env, start: int = 0, stop: int | None = None) -> UInts:
    """Check a section, and decode a window over memory that holds other values."""
    check(section, spec, env)
    stop = spec.count if stop is None else stop
    out = env.backend.from_host(np.full((stop - start) * spec.dtype.storage.itemsize, 0xA5, np.uint8).view(spec.dtype.storage))
    decode(section, spec, env, start, stop, out)
    return env.backend.to_host(out).view(spec.dtype.storage)


def _damaged(data: bytes, spec: Spec, codecs: Mapping[str, Codec], case: str) -> None:
    """Cut and change a file in some places: only a WcodecError may come of it."""
    rng = np.random.default_rng(len(data))
    for at in rng.integers(0, len(data), 8):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(0, 8))
        for bad in (bytes(changed), data[:at]):
            try:
                reader = ContainerReader(bad)
                record = reader.target("x")
                decoded(record.section, record.spec, Env(get_backend("numpy"), codecs, reader.resource, decoded=64 * spec.size + (1 << 20)))
            except (WcodecError, KeyError):
                continue
            except Exception as error:
                raise AssertionError(f"{case}: damage at byte {at} gives {error!r}, not a WcodecError") from error


def _alike(a: UInts, b: UInts, spec: Spec, precise: bool) -> bool:
    if precise:
        return a.tobytes() == b.tobytes()
    x, y = _floats(a, spec), _floats(b, spec)
    return bool(np.abs(x - y).max(initial=0) <= CLOSE * max(1.0, float(np.abs(y).max(initial=0))) * (1 if spec.dtype.bits >= 32 else 100))


def _floats(x: UInts, spec: Spec) -> Any:
    return to_float32(x, spec.dtype) if spec.dtype.name in FLOATS or spec.dtype.name == "BF16" else x.astype(np.float32)


__all__ = ["arrays", "check_codec", "decoded", "stored"]
