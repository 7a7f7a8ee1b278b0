"""The methods that recipes name: one line each."""

from __future__ import annotations

from collections.abc import Mapping

from wcodec.recipes.base import Lossless, Method

METHODS: Mapping[str, type[Method]] = {method.name: method for method in (Lossless,)}
