"""Recipes: which method, and so which codecs, every tensor gets."""

from wcodec.recipes.base import Choice, Importance, Match, Method, Recipe, Rule, Tensors
from wcodec.recipes.files import make_method, read_recipe

__all__ = ["Choice", "Importance", "Match", "Method", "Recipe", "Rule", "Tensors", "make_method", "read_recipe"]
