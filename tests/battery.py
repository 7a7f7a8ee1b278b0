"""What every codec must pass, and helpers that many tests share. Arrays are compared as bit patterns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import blake3
import numpy as np
import pytest
import torch

from wcodec.backends import available, get_backend
from wcodec.codecs import CODECS, Env, check, unit
from wcodec.codecs.base import exact
from wcodec.codecs.random.fills import Fill
from wcodec.coding.numbers import to_float32
from wcodec.container.reader import ContainerReader
from wcodec.errors import Corrupt, WcodecError
from wcodec.testing import decoded, stored
from wcodec.types import MemoryStream, Ref, Section, Spec, UInts

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "fixtures"

BACKENDS = tuple(available())
DEVICES = ("torch",)
"""Backends of tensors, with ``@`` and a device other than the cpu."""
if torch.cuda.is_available():
    DEVICES += ("torch@cuda", "triton@cuda")

EXAMPLES = [
    pytest.param(name, options, id=f"{name}-{i}")
    for name, codec in CODECS.items()
    if codec.lossless and not isinstance(codec, Fill)  # they take finite floats, or no array but their own: test_linear.py, test_rng.py
    for i, options in enumerate(codec.examples)
]


MASKS = ("gaps", "bitmap", "nm", "gs")
U8S = Spec.of("U8", 40)
VALUES = np.arange(40, dtype=np.uint8) % 7


def sample(codec: str) -> tuple[Spec, UInts]:
    """An array that a codec takes with each of its examples."""
    if codec in MASKS:
        return Spec.of("BOOL", 8, 8), np.tile(np.array([1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 1, 0], np.uint8), 4)
    return U8S, VALUES if codec != "const" else np.zeros(40, np.uint8)


def make_env(backend: str = "numpy", **options: Any) -> Env:
    if backend in BACKENDS:
        return Env(get_backend(backend), CODECS, **options)
    name, _, device = backend.partition("@")
    return Env(get_backend(name, device or "cpu"), CODECS, near=Env(get_backend(), CODECS, **options), **options)


def encode_on(backend: str, codec: str, x: UInts, spec: Spec, options: Mapping[str, Any]) -> Section:
    """Encode an array with a backend, on its device where the codec has an encoder there."""
    env = make_env(backend)
    env = env.host if CODECS[codec].host_encode else env
    return CODECS[codec].encode(env.backend.from_host(x.copy()), spec, env, **options)


def raw(x: Any) -> Section:
    """An array stored as it is."""
    return Section("raw", {}, {"data": MemoryStream(np.ascontiguousarray(x).reshape(-1).view(np.uint8))})


def altered(section: Section, parts: Mapping[str, Any] = {}, /, **params: Any) -> Section:
    """The section with other parts and params, without params that are None."""
    kept = {key: value for key, value in {**section.params, **params}.items() if value is not None}
    return Section(section.codec, kept, {**section.parts, **parts})


def digest(x: UInts) -> bytes:
    return blake3.blake3(x.view(np.uint8)).digest()


def same_bits(a: UInts, b: UInts) -> bool:
    return a.dtype == b.dtype and a.size == b.size and a.tobytes() == b.tobytes()


def bytes_of(part: Any) -> Any:
    """Section, stream or reference as plain values that compare."""
    if isinstance(part, Section):
        return part.codec, dict(part.params), {name: bytes_of(child) for name, child in sorted(part.parts.items())}
    if isinstance(part, Ref):
        return part
    with part.read(0, part.size) as data:
        return data.tobytes()


def read_back(data: bytes, backend: str, name: str = "x") -> tuple[Section, Spec, Env]:
    reader = ContainerReader(data)
    record = reader.target(name)
    env = make_env(backend, resource=reader.resource)
    check(record.section, record.spec, env)
    return record.section, record.spec, env


def pass_battery(
    codec: str, options: Mapping[str, Any], spec: Spec, x: UInts, windows: list[tuple[int, int]], backends: Sequence[str] = BACKENDS
) -> None:
    """Encode on every backend to the same bytes, store, check, and decode whole and in windows on every backend to the same bits."""
    encoded = {name: encode_on(name, codec, x, spec, options) for name in backends}
    files = {name: stored(section, spec, x) for name, section in encoded.items()}
    assert len(set(files.values())) == 1, "backends store different bytes"
    want = x if CODECS[codec].lossless else decoded(encoded["numpy"], spec, make_env())
    alike = same_bits if exact(encoded["numpy"], make_env()) else partial(close, spec)
    for name in backends:
        for section, its, env in ((encoded[name], spec, make_env(name)), read_back(files[name], name)):
            assert its == spec and section.codec == codec and bytes_of(section) == bytes_of(encoded[name])
            check(section, spec, env)
            assert alike(decoded(section, spec, env), want)
            assert unit(section, spec, env) >= 1
            for start, stop in windows:
                assert alike(decoded(section, spec, env, start, stop), want[start:stop])


def close(spec: Spec, a: UInts, b: UInts) -> bool:
    """Whether two decodings of a tolerant section are the same but for the rounding of sums."""
    x, y = to_float32(a, spec.dtype), to_float32(b, spec.dtype)
    return bool(np.allclose(x, y, rtol=1e-2 if spec.dtype.bits < 32 else 1e-5, atol=1e-5 * max(1.0, float(np.abs(x).max(initial=0)))))


def refusal(section: Section, spec: Spec, **options: Any) -> WcodecError | None:
    """The error that checking and decoding a section gives; the same kind and rule on every backend, those of devices too."""
    errors = [_refusal(section, spec, make_env(name, **options)) for name in (*BACKENDS, *DEVICES)]
    assert len({(type(e), getattr(e, "rule", None)) for e in errors}) == 1, errors
    return errors[0]


def _refusal(section: Section, spec: Spec, env: Env) -> WcodecError | None:
    clean = Section(section.codec, section.params, section.parts)
    try:
        decoded(clean, spec, env)
    except WcodecError as error:
        return error
    return None


def breaks(rule: str, section: Section, spec: Spec, kind: type[WcodecError] = Corrupt, **options: Any) -> None:
    error = refusal(section, spec, **options)
    assert type(error) is kind and error.rule == rule, f"{section.params}: {error!r}, expected {rule}"


def cases(folder: str) -> list[Any]:
    """The folders below ``fixtures/``; a test never makes them."""
    found = sorted((FIXTURES / folder).glob("*/case.json"))
    assert found, f"fixtures/{folder} is missing; tools/make_fixtures.py makes it, a test never does"
    return [pytest.param(path.parent, id=path.parent.name) for path in found]
