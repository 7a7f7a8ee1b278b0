"""Effort: how long trellises may search, in numbers of states."""

from __future__ import annotations

from dataclasses import replace

from wcodec.errors import RecipeError
from wcodec.recipes.base import Method, Recipe
from wcodec.recipes.ladders import Auto
from wcodec.recipes.trellis import Trellis

STATES = {"fast": 8, "normal": 32, "best": 256}
"""States of a trellis, by effort."""


def at_effort(recipe: Recipe, effort: str) -> Recipe:
    """Return a recipe whose trellises have the states of an effort, where they name none. Raises RecipeError."""
    if effort not in STATES:
        raise RecipeError(f"effort is {effort!r}; there are: {', '.join(STATES)}")
    if effort == "normal":
        return recipe
    rules = [replace(rule, method=_with_states(rule.method, STATES[effort])) for rule in recipe.rules]
    return replace(recipe, text=f"{recipe.text}\n--effort {effort}", rules=rules)


def _with_states(method: Method, states: int) -> Method:
    return replace(method, states=states) if isinstance(method, Trellis | Auto) and method.states is None else method
