"""Recipes as text: a method's name with options, or TOML rules (spec/guide/recipes.md)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from wcodec.codecs import CODECS
from wcodec.errors import RecipeError
from wcodec.recipes.base import LOSSLESS, Importance, Match, Method, Recipe, Rule, WithCodec
from wcodec.recipes.methods import METHODS
from wcodec.types import DTYPES

MATCH = ("tensors", "dtype", "shape", "dims", "count")


def read_recipe(recipe: str | Path | Recipe, rules: Sequence[str] = (), importance: Importance | None = None) -> Recipe:
    """Return the recipe of a TOML file, of a method's name with options (``wfn``, ``joint-rank-k:keep=0.8``), or one made in Python.

    rules: ``GLOB=METHOD:options``, tried before the recipe's own. importance: for methods that weigh errors. Raises RecipeError, OSError.
    """
    first = [_rule_of(rule, importance) for rule in rules]
    text, own = str(recipe), list[Rule]()
    if isinstance(recipe, Recipe):
        text, own = recipe.text, list(recipe.rules)
    elif text.endswith(".toml"):
        text = Path(recipe).read_text()
        own = _rules(text, str(recipe), importance)
    elif text != "lossless":
        own = [Rule(Match(), make_method(*_split(text), importance), safe=True)]
    return Recipe("\n".join([*rules, text]), (*first, *own), _ignored([*first, *own], importance))


def _ignored(rules: Sequence[Rule], importance: Importance | None) -> tuple[str, ...]:
    """Say which methods do not weigh errors though importance is given."""
    methods = [rule.method for rule in rules] or [LOSSLESS]
    names = [its.config["codec"] if isinstance(its, WithCodec) else its.name for its in methods if getattr(its, "importance", None) is None]
    return (f"importance makes no difference to {', '.join(dict.fromkeys(names))}",) if names and importance is not None else ()


def make_method(name: str, options: Mapping[str, Any], importance: Importance | None = None) -> Method:
    """Make a method, or a codec's, from its options. Raises RecipeError."""
    if name in METHODS:
        kind = METHODS[name]
        known = kind.options()
        if unknown := sorted(options.keys() - known.keys()):
            raise RecipeError(f"{name} has no option {unknown[0]!r}; there are: {', '.join(known) or 'none'}")
        if missing := [key for key, default in known.items() if default is MISSING and key not in options]:
            raise RecipeError(f"{name} needs the option {missing[0]!r}")
        kind.check_types(options)
        extra = {"importance": importance} if "importance" in known and importance is not None else {}
        try:
            return kind(**options, **extra)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"{name}: {error}") from None
    if name in CODECS:
        return WithCodec.weighing({"codec": name, **options}, importance)
    raise RecipeError(f"no recipe or codec {name!r}; there are: {', '.join(sorted(METHODS))}; codecs: {', '.join(CODECS)}")


def _rules(text: str, where: str, importance: Importance | None) -> list[Rule]:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"not TOML: {error}", at=where) from None
    rules = found.pop("rule", None)
    if found or not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise RecipeError("a recipe is a list of [[rule]] tables and nothing else", at=where)
    made = []
    for number, rule in enumerate(rules, 1):
        try:
            made.append(_rule(rule, importance))
        except RecipeError as error:
            raise error.inside(f"{where}: rule {number}") from None
    return made


def _rule(rule: Mapping[str, Any], importance: Importance | None) -> Rule:
    options = {key: value for key, value in rule.items() if key not in MATCH}
    name, safe = options.pop("use", None), options.pop("safe", True)
    if not isinstance(name, str) or not isinstance(safe, bool):
        raise RecipeError('a rule needs use = "METHOD" (and safe = true or false)')
    return Rule(_match({key: rule[key] for key in MATCH if key in rule}), make_method(name, options, importance), safe)


def _match(found: Mapping[str, Any]) -> Match:
    values: dict[str, Any] = dict(found)
    for key in ("tensors", "dtype"):
        value = values.get(key, [])
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise RecipeError(f"{key} is not a string or a list of strings")
        values[key] = tuple(items)
    if unknown := [name for name in values["dtype"] if name not in DTYPES]:
        raise RecipeError(f"no dtype {unknown[0]!r}; there are: {', '.join(DTYPES)}")
    shape = values.get("shape", [])
    numbers = [*(0 if item == "*" else item for item in shape)] if isinstance(shape, list) else [None]
    values["shape"] = tuple(numbers)
    numbers += [values.get("dims", 0), values.get("count", 0)]
    if not all(type(item) is int and item >= 0 for item in numbers):
        raise RecipeError('shape, dims and count are whole numbers ("*" in a shape: any)')
    return Match(**values)


def _rule_of(text: str, importance: Importance | None) -> Rule:
    glob, equals, method = text.partition("=")
    if not (glob and equals and method):
        raise RecipeError(f"{text!r} is not GLOB=METHOD:options")
    return Rule(Match((glob,)), make_method(*_split(method), importance))


def _split(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``NAME:key=value,…``; values are TOML, or strings without quotes. ``n:m`` keeps its colon."""
    name = next((known for known in METHODS if text == known or text.startswith(f"{known}:")), text.partition(":")[0])
    options: dict[str, Any] = {}
    for item in _commas(text[len(name) + 1 :]):
        key, equals, value = item.partition("=")
        if not equals:
            raise RecipeError(f"{item!r} is not key=value")
        try:
            options[key.strip()] = tomllib.loads(f"x = {value}")["x"]
        except tomllib.TOMLDecodeError:
            options[key.strip()] = value.strip()
    return name, options


def _commas(text: str) -> list[str]:
    """Split at commas outside brackets."""
    found, depth = [""], 0
    for sign in text:
        depth += (sign in "[{") - (sign in "]}")
        if sign == "," and not depth:
            found.append("")
        else:
            found[-1] += sign
    return [item for item in found if item.strip()]
