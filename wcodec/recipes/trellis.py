"""trellis: entropy-coded trellis quantisation of every tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from wcodec.codecs import Env
from wcodec.recipes.base import Importance, Method, require, weighed
from wcodec.types import Section, Spec, UInts

STATES = (4, 8, 16, 32, 64, 128, 256)
STEPS = ("tensor", "rows", "columns")
RELATIVE = 0.5
"""Root mean squares of a step when nothing else decides."""


@dataclass
class Trellis(Method):
    """Quantise along trellises, entropy-coded: a twentieth of a bit above the bound for Gaussian weights.

    step: distance of lattice points, the same in all tensors, which is best for the squared error of all.
    relative: instead, in root mean squares of the tensor; 0.5 unless a target decides. states: more find better paths, and take longer to
    encode; 32 unless an effort decides.
    slope: squared steps that a bit is worth. steps: what has a step of its own: tensor, rows or columns.
    classes: kinds of rows with tables of their own, at most 4. points: let values differ from multiples of the step. Both only where they
    pay.
    """

    step: float | None = None
    relative: float | None = None
    states: int | None = None
    slope: float = 0.37
    steps: str = "tensor"
    classes: int = 4
    points: bool = True
    importance: Importance | None = None
    name: ClassVar[str] = "trellis"
    notes: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        require(self.step is None or self.step > 0, "trellis: step is above 0")
        require((self.relative is None or self.relative > 0) and self.slope >= 0, "trellis: relative is above 0, slope at least 0")
        require(self.states is None or self.states in STATES, f"trellis: states is one of {', '.join(map(str, STATES))}")
        require(1 <= self.classes <= 4, "trellis: classes is 1 to 4")
        require(self.steps in STEPS, f"trellis: steps is one of {', '.join(STEPS)}")

    def encode(self, name: str, x: UInts, spec: Spec, env: Env) -> Section:
        usual = {} if self.step is not None else {"relative": RELATIVE}
        config = {key: value for key, value in self.config.items() if key != "codec"}
        return env.codecs["trellis"].encode(x, spec, env, **(usual | config | weighed(self.importance, name, "trellis")))

    @property
    def config(self) -> dict[str, Any]:
        """The codec, with the options that were given."""
        given = {"states": self.states, "step": self.step, "relative": self.relative if self.step is None else None}
        kept = {name: getattr(self, name) for name in ("slope", "steps", "classes", "points")}
        return {"codec": "trellis", **kept} | {name: value for name, value in given.items() if value is not None}
