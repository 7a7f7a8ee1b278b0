"""What a recipe is: rules that give every tensor a method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import MISSING, dataclass, field, fields
from fnmatch import fnmatchcase
from numbers import Integral, Real
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from wcodec.codecs import CODECS, Env
from wcodec.codecs.base import stored_size
from wcodec.codecs.floats.curvature import Curvature
from wcodec.codecs.lossless import encode_part, lossless
from wcodec.coding.numbers import LOSSY
from wcodec.errors import EncodeError, RecipeError
from wcodec.types import Section, Spec, UInts

Importance = Mapping[str, npt.NDArray[np.float32]]
"""How much an error of each weight matters: name → flat array, at least 0 (a Hessian diagonal, |g| or g²)."""


class Calibration(Importance):
    """Importances that come from statistics of what a model's layers are given, which tell more of some matrices."""

    @abstractmethod
    def curvature(self, name: str) -> Curvature | None:
        """Return what errors of a matrix cost together, not each by itself; None where that is not known."""

    def cost(self, name: str) -> float | None:
        """Return what a squared error of an element costs the model, on average; None where that is not known."""
        return None


def curvature_of(importance: Importance | None, name: str) -> Curvature | None:
    """Return what errors of a matrix cost together, if that is known."""
    return importance.curvature(name) if isinstance(importance, Calibration) else None


def cost_of(importance: Importance | None, name: str) -> float | None:
    """Return what a squared error of a tensor's elements costs, if that is known."""
    return importance.cost(name) if isinstance(importance, Calibration) else None


def weighed(importance: Importance | None, name: str, codec: str) -> dict[str, Any]:
    """Return the options by which a codec weighs a tensor's errors: ``curvature`` where it is known and of use, or ``importance``."""
    curvature = curvature_of(importance, name) if feeds_back(codec) else None
    if curvature is not None:
        return {"curvature": curvature}
    weights = of(importance, name)
    return {} if weights is None else {"importance": weights}


def feeds_back(codec: str) -> bool:
    """Tell whether columns make up for each other's errors where a codec encodes."""
    return "curvature" in (CODECS[codec].options or ())


def of(importance: Importance | None, name: str) -> npt.NDArray[np.float32] | None:
    """Return a tensor's importances, if there are any."""
    return None if importance is None else importance.get(name)


class Tensors(Protocol):
    """All tensors of a checkpoint, read in any order and as often as a method needs."""

    names: Sequence[str]

    def spec(self, name: str) -> Spec:
        """Return dtype and shape."""
        ...

    def read(self, name: str) -> AbstractContextManager[UInts]:
        """Lend the flat storage elements."""
        ...

    def file(self, name: str) -> str:
        """Return the shard that the tensor goes to; tensors of different shards cannot share a section."""
        ...


class Ladder(ABC):
    """The settings of a method for one tensor, from coarse (position ``low``) to fine (``high``).

    reach: how far a setting may be from the best one, for bytes that are left over.
    """

    low: float
    high: float
    reach: float = 0.25

    @abstractmethod
    def method(self, position: float) -> Method:
        """Return the method with the setting at a position."""

    @abstractmethod
    def measure(self, position: float) -> tuple[float, float]:
        """Return the bytes and the squared error of the tensor there, about."""

    def snap(self, position: float) -> float:
        """Return the position nearest below that has a setting of its own."""
        return position


class Method(ABC):
    """One way to encode the tensors that a rule chose. A dataclass: its fields are the options that recipes name.

    name: in recipes. lossless: it keeps every bit. notes: what the report should tell, such as a fallback; filled while encoding.
    """

    name: ClassVar[str]
    lossless: ClassVar[bool] = False
    notes: list[str]

    def prepare(self, names: Sequence[str], tensors: Tensors, env: Env) -> None:  # noqa: B027
        """Look at all chosen tensors, one or two in memory at a time. Called once, before any encode."""

    @abstractmethod
    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        """Encode a tensor's flat storage elements. Called by several threads, in any order. Raises EncodeError: then it stays lossless."""

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Return the options and their defaults; MISSING for one that must be given."""
        found: dict[str, Any] = {}
        for its in fields(cls):  # type: ignore[arg-type]
            if its.init:
                found[its.name] = its.default_factory() if its.default_factory is not MISSING else its.default
        return found

    @classmethod
    def check_types(cls, options: Mapping[str, Any]) -> None:
        """Check the types of options that ``options()`` knows. Raises RecipeError."""
        for its in fields(cls):  # type: ignore[arg-type]
            value = options.get(its.name)
            words, types = takes(str(its.type))
            wrong = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
            if value is not None and (wrong or (types == (Sequence,) and isinstance(value, str))):
                raise RecipeError(f"{cls.name}: {its.name} is {value!r}, expected {words}")


def takes(annotation: str) -> tuple[str, tuple[type, ...]]:
    """Return what a field of a method takes, in words and as types. annotation: as written in its class."""
    inner = annotation.removesuffix(" | None")
    if inner in TAKES:
        return TAKES[inner]
    if inner.startswith("Sequence"):
        return "a list", (Sequence,)
    if "NDArray" in inner or "UInts" in inner:
        return "arrays, from Python only", (Mapping,)
    return "a table of configs" if inner.startswith("Mapping[str, Mapping") else "a config", (Mapping,)


TAKES: Mapping[str, tuple[str, tuple[type, ...]]] = {
    "str": ("text", (str,)),
    "int": ("a whole number", (Integral,)),
    "float": ("a number", (Real,)),
    "bool": ("true or false", (bool,)),
}


@dataclass
class Lossless(Method):
    """Keep every bit."""

    name: ClassVar[str] = "lossless"
    lossless: ClassVar[bool] = True
    notes: list[str] = field(default_factory=list, init=False)

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        return lossless(x, spec, env)


@dataclass
class WithCodec(Method):
    """Encode with one codec and its options; each tensor by itself."""

    config: Mapping[str, Any]
    importance: Importance | None = None
    name: ClassVar[str] = "codec"
    notes: list[str] = field(default_factory=list, init=False)

    @classmethod
    def weighing(cls, config: Mapping[str, Any], importance: Importance | None) -> WithCodec:
        """Return the method that weighs errors so, if its codec can."""
        return cls(config, importance if "importance" in (CODECS[config["codec"]].options or ()) else None)

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        return encode_part(x, spec, env, {**self.config, **weighed(self.importance, name, self.config["codec"])})


@dataclass(frozen=True, slots=True)
class Match:
    """Which tensors a rule chooses; what is absent matches all.

    tensors: globs of names. dtype: names of dtypes. shape: lengths, 0 for any. dims: number of dimensions. count: elements at least.
    """

    tensors: tuple[str, ...] = ()
    dtype: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    dims: int | None = None
    count: int = 0

    def __call__(self, name: str, spec: Spec) -> bool:
        """Tell whether a tensor is chosen."""
        lengths = len(self.shape) == len(spec.shape) and all(want in (0, got) for want, got in zip(self.shape, spec.shape, strict=True))
        return (
            (not self.tensors or any(fnmatchcase(name, glob) for glob in self.tensors))
            and (not self.dtype or spec.dtype.name in self.dtype)
            and (not self.shape or lengths)
            and (self.dims is None or len(spec.shape) == self.dims)
            and spec.count >= self.count
        )


@dataclass(frozen=True, slots=True)
class Rule:
    """Tensors that match are encoded by the method. safe: except those that approximation does not suit, which stay lossless."""

    match: Match
    method: Method
    safe: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What a recipe decided for one tensor, and why it stays lossless if a rule says so."""

    method: Method
    why: str = ""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A tensor's section. lossless: known to be. why: it is, although the recipe approximates others."""

    section: Section
    lossless: bool
    why: str = ""


LOSSLESS = Lossless()


@dataclass(frozen=True, slots=True)
class Recipe:
    """Rules, of which the first match counts; what none matches stays lossless. text: as the file records it. told: for the report.

    settings: methods of tensors by name, before all rules; what a target makes of them.
    """

    text: str
    rules: Sequence[Rule] = ()
    told: Sequence[str] = ()
    settings: Mapping[str, Method] = field(default_factory=dict)

    def choose(self, name: str, spec: Spec) -> Choice:
        """Return the method of a tensor."""
        if name in self.settings:
            return Choice(self.settings[name])
        for rule in self.rules:
            if rule.match(name, spec):
                why = unsuited(name, spec) if rule.safe and not rule.method.lossless else ""
                return Choice(LOSSLESS, why) if why else Choice(rule.method)
        return Choice(LOSSLESS)

    def prepare(self, tensors: Tensors, env: Env) -> None:
        """Let every method look at its tensors."""
        if not self.rules:
            return
        chosen: dict[int, tuple[Method, list[str]]] = {}
        for name in tensors.names:
            method = self.choose(name, tensors.spec(name)).method
            chosen.setdefault(id(method), (method, []))[1].append(name)
        for method, names in chosen.values():
            method.prepare(names, tensors, env)

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Encoded:
        """Encode a tensor by its method, or losslessly where that fails or would not be smaller."""
        choice = self.choose(name, spec)
        if choice.method is LOSSLESS:
            return Encoded(lossless(x, spec, env), True, choice.why)
        if not isinstance(choice.method, WithCodec):  # others look at the values themselves, by numpy
            x, env = env.backend.to_host(x), env.host
        try:
            section = choice.method.encode(name, x, spec, env)
        except EncodeError as error:
            return Encoded(lossless(x, spec, env), True, error.message)
        if choice.method.lossless:
            return Encoded(section, True)
        if stored_size(section) > WORTH * spec.size:
            plain = lossless(x, spec, env)
            if stored_size(plain) <= stored_size(section):
                return Encoded(plain, True, f"{section.codec} is not smaller")
        return Encoded(section, False)

    def notes(self) -> Iterator[str]:
        """Yield what the recipe and its methods have to tell."""
        yield from self.told
        for rule in self.rules:
            yield from rule.method.notes


WORTH = 0.6
"""Share of the raw size above which a section is compared with the lossless one."""
SMALLEST = 1024
"""Elements below which approximation saves nothing worth its harm."""
NORMS = ("*norm*", "*ln_[0-9f]*", "*bias", "*.bn[0-9]*", "*_bn*")


def unsuited(name: str, spec: Spec) -> str:
    """Return why a tensor is best kept lossless: norms, biases, integers and small ones; nothing when it is not."""
    if spec.dtype.name not in LOSSY:
        return f"{spec.dtype.name} stays lossless"
    if len(spec.shape) < 2:
        return "norms, biases and other vectors stay lossless"
    if any(fnmatchcase(name.lower(), glob) for glob in NORMS):
        return "norms and biases stay lossless"
    return f"fewer than {SMALLEST} elements stay lossless" if spec.count < SMALLEST else ""


def require(condition: bool, what: str) -> None:
    """Raise RecipeError unless an option is in order."""
    if not condition:
        raise RecipeError(what)
