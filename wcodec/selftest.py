"""Proof and speed of a device: every codec decoded and encoded there, compared with the cpu bit for bit, then timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from wcodec.api.encoder import encode_tensors
from wcodec.api.files import STORAGE
from wcodec.api.opened import Opened
from wcodec.backends import best_on, get_backend
from wcodec.codecs import CODECS, Codec, Env
from wcodec.codecs.base import exact, find
from wcodec.codecs.lossless import encode_part
from wcodec.codecs.masks.nm import NM
from wcodec.codecs.random.fills import Fill
from wcodec.coding.numbers import from_float32
from wcodec.container.safetensors import SafetensorsFile
from wcodec.errors import FormatError, WcodecError
from wcodec.testing import arrays, decoded, stored
from wcodec.types import Section, Spec, UInts

DTYPES = ("F32", "F16", "BF16", "U8", "U16", "U32", "BOOL")
SHAPES = ((7,), (64, 65), (9001,))
EVERY = 4
"""Of the arrays of the battery, one in so many is tried."""
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was compared. why: what was wrong; empty when nothing was."""

    name: str
    count: int
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"name": self.name, "count": self.count, "good": not self.why, "why": self.why}


@dataclass(slots=True)
class SelftestReport:
    """What a device did. speeds: 10^9 bytes of decoded data per second, by what was done; a string says why there is none."""

    device: str
    backend: str
    checks: list[Check] = field(default_factory=list)
    speeds: dict[str, float | str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether all bits were those of the cpu."""
        return all(not check.why for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        checks = [check.to_json() for check in self.checks]
        return {"good": self.good, "device": self.device, "backend": self.backend, "checks": checks, "speeds": self.speeds}


def selftest(
    device: str = "cpu", kernels: str = "auto", folder: str | Path | None = None, timed: bool = True, names: Sequence[str] = ()
) -> SelftestReport:
    """Prove a device: decode and encode the examples of every codec, and all fixtures below a folder, there and on the cpu.

    kernels: torch or triton; auto: the best that the device has. names: of codecs, all by default.
    timed: then time decoding and encoding beside copies on the device.
    Raises BackendUnavailable.
    """
    backend: Any = best_on(device) if kernels == "auto" else get_backend(kernels, device)
    near = Env(get_backend(), CODECS)
    env = Env(backend, CODECS, near=near)
    report = SelftestReport(device, backend.name)
    wrong = import_module("wcodec.backends.torch.proof").prove(backend)
    report.checks.append(Check("verbs", 1, wrong or ""))
    for name in names or CODECS:
        codec = find(Section(name), near)
        report.checks.append(_check(codec.name, _examples(codec, near), partial(_compare, codec, near, env)))
    if folder is not None:
        files, options = sorted(Path(folder).rglob("*.wcodec")), {"kernels": backend.name, "device": device}
        report.checks.append(_check("files decoded", iter(files), lambda file: _compare_file(file, options)))
        sources = sorted(Path(folder).rglob("*.safetensors"))
        report.checks.append(_check("files encoded", iter(sources), lambda file: _compare_encoded(file, options)))
    if timed and report.good:
        report.speeds = _speeds(env, 1 << (17 if backend.device.type == "cpu" else 26))
    return report


def _check(name: str, cases: Iterator[Any], compare: Callable[[Any], str]) -> Check:
    """Compare all cases; report the first that differs."""
    count = 0
    for case in cases:
        try:
            why = compare(case)
        except WcodecError as error:
            why = str(error)
        if why:
            return Check(name, count, f"{case if isinstance(case, Path) else case[1]}: {why}")
        count += 1
    return Check(name, count)


def _examples(codec: Codec, env: Env) -> Iterator[tuple[Mapping[str, Any], Spec, UInts, Section]]:
    """Yield options, spec, elements and section of arrays that a codec holds."""
    for options in codec.examples:
        for spec, x in _arrays(codec, options):
            try:
                if isinstance(codec, Fill):
                    plain = {key: value for key, value in options.items() if key != "counts"}
                    x = decoded(codec.section(spec, **plain), spec, env)
                with np.errstate(over="ignore"):  # of random bits
                    section = codec.encode(x.copy(), spec, env, **options)
            except WcodecError:
                continue
            yield options, spec, x, section


def _arrays(codec: Codec, options: Mapping[str, Any]) -> Iterator[tuple[Spec, UInts]]:
    """Yield arrays that the codec may hold; masks of a pattern are made for it."""
    if codec.name in (NM, "gs"):
        mask = np.tile(np.array([1, 0, 1, 0, 0, 1, 0, 1, 0, 1, 0, 1, 1, 0, 1, 0], np.uint8), 4)
        yield Spec.of("BOOL", 8, 8), mask
        return
    suited = ((spec, x) for spec, x in arrays() if spec.dtype.name in DTYPES and spec.shape in SHAPES and codec.suits(spec))
    for spec, x in islice(suited, 0, None, EVERY):
        yield spec, np.minimum(x, x.dtype.type(1)) if spec.dtype.name == "BOOL" else x


def _compare(codec: Codec, near: Env, env: Env, case: tuple[Mapping[str, Any], Spec, UInts, Section]) -> str:
    """Decode on the device, and encode there where the codec does; return what differs."""
    options, spec, x, section = case
    plain = Section(section.codec, section.params, section.parts)
    if exact(section, near) and decoded(plain, spec, env).tobytes() != decoded(section, spec, near).tobytes():
        return f"{codec.name} {dict(options)} decodes to other bits"
    if not codec.host_encode and not isinstance(codec, Fill):
        made = codec.encode(env.backend.from_host(x), spec, env, **options)
        if stored(made, spec, x) != stored(section, spec, x):
            return f"{codec.name} {dict(options)} is encoded to other bytes"
    return ""


def _compare_file(path: Path, options: Mapping[str, Any]) -> str:
    """Decode a file here and there; what the cpu refuses, the device must refuse by the same rule."""
    found: list[Any] = []
    for its in ({}, options):
        try:
            with Opened(path, STORAGE, **its) as opened:
                names = [name for name in opened.offset_keys() if not opened.record(name).tolerant]
                found.append([opened.env.backend.to_host(x).tobytes() for x in opened.get_tensors(names).values()])
        except FormatError as error:
            found.append((type(error), error.rule))
    return "" if found[0] == found[1] else "the device decodes it otherwise"


def _compare_encoded(path: Path, options: Mapping[str, Any]) -> str:
    """Encode the tensors of a safetensors file here and there."""
    with SafetensorsFile(path) as file:
        tensors = {}
        for entry in file.entries:
            x = np.empty(entry.spec.size, np.uint8)
            file.read(entry, 0, x.size, x)
            tensors[entry.name] = entry.spec, x.view(entry.spec.dtype.storage)
    made = []
    for its in ({}, options):
        buffer = BytesIO()
        encode_tensors(tensors, buffer, **its)
        made.append(buffer.getvalue())
    return "" if made[0] == made[1] else "the device encodes it to other bytes"


def _speeds(env: Env, count: int) -> dict[str, float | str]:
    """Time BF16 weights, losslessly: decoding what is on the host, encoding what is on the device; and copies of as many bytes."""
    backend: Any = env.backend
    weights = np.random.default_rng(0).standard_normal(count // 8, np.float32) * np.float32(0.02)
    x = np.tile(from_float32(weights, Spec.of("BF16").dtype), 8)
    spec, there, out = Spec.of("BF16", count), backend.from_host(x), backend.empty(count, x.dtype)
    files = BytesIO()
    encode_tensors({str(i): (Spec.of("BF16", count // 8), x[i * (count // 8) : (i + 1) * (count // 8)]) for i in range(8)}, files)

    def load() -> None:
        with Opened(files.getvalue(), STORAGE, kernels=backend.name, device=str(backend.device)) as opened:
            opened.get_tensors()

    timed: dict[str, Callable[[], Any]] = {
        "copy on the device": lambda: backend.copy(there, out),
        "copy from the host": lambda: backend.load(x.view(np.uint8), out),
        "decode": load,
        "encode": lambda: encode_part(there, spec, env),
    }
    found: dict[str, float | str] = {name: 2e-9 * count / _seconds(work, backend.wait) for name, work in timed.items()}
    try:
        found["nvCOMP ANS, decode"] = 2e-9 * count / _nvcomp(there, backend.wait)
    except ImportError:
        found["nvCOMP ANS, decode"] = "nvCOMP is not installed"
    return found


def _seconds(work: Callable[[], Any], wait: Callable[[], None]) -> float:
    """Return the least time of some repetitions."""
    best = float("inf")
    for _ in range(REPEATS):
        wait()
        began = time.perf_counter()
        work()
        wait()
        best = min(best, time.perf_counter() - began)
    return best


def _nvcomp(x: Any, wait: Callable[[], None]) -> float:
    """Return the seconds that nvCOMP's ANS takes to decode a tensor's bytes. Raises ImportError without nvCOMP."""
    nvcomp = import_module("nvidia.nvcomp")
    codec = nvcomp.Codec(algorithm="ANS")
    coded = codec.encode(nvcomp.as_array(x.view(-1)))
    return _seconds(lambda: codec.decode(coded), wait)


__all__ = ["Check", "SelftestReport", "selftest"]
