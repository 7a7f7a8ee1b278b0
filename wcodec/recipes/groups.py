"""Which matrices share their input, found by the names that the usual architectures give them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from wcodec.errors import RecipeError

GROUPS = (
    ("q_proj", "k_proj"), ("query", "key"), ("q_lin", "k_lin"), ("to_q", "to_k"), ("wq", "wk"), ("SelfAttention.q", "SelfAttention.k"),
    ("gate_proj", "up_proj"), ("gate_up_proj",), ("w1", "w3"), ("wi_0", "wi_1"),
)  # fmt: skip
"""Members of the default groups: queries with keys, gates with what they gate."""
VALUES = re.compile(r"(?<![^._])(v|wv|value|values|v_proj|v_lin|to_v)(?![^._])")
CROSS = re.compile(r"(?<![^.])(encoder_attn|encdecattention|crossattention|cross_attn|cross_attention|multihead_attn|attn2)(?![^.])", re.I)
"""Attention whose queries and keys have different inputs."""
FUSED = re.compile(r"(?<![^.])(c_attn|qkv|qkv_proj|Wqkv|in_proj|in_proj_weight|in_proj\.weight|query_key_value)(?![^.])")
INTERLEAVED = "query_key_value"
"""The fused matrix whose rows go head by head: query, key and value of the first head, then of the second one."""


@lru_cache
def _member(text: str) -> re.Pattern[str]:
    try:
        re.compile(text)  # alone: a stray bracket might find its other half below
        return re.compile(rf"(?<![^.])(?:{text})(?![^.])")
    except re.error as error:
        raise RecipeError(f"group member {text!r} is no regular expression: {error}") from None


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that get one right factor. key: the names without what tells them apart."""

    key: str
    names: tuple[str, ...]


def find_groups(names: Iterable[str], groups: Sequence[Sequence[str]] | None) -> tuple[list[Group], dict[str, tuple[str, ...]]]:
    """Group names by the members that they contain; also return what is odd about the default groups, and of which names.

    groups: regular expressions of members, each matching whole dotted components of a name; None: ``GROUPS``, of weights outside
    cross-attention. Raises RecipeError when a member of a given group is missing, or two names or two groups compete.
    """
    found: dict[tuple[int, str], dict[int, str]] = {}
    rules = GROUPS if groups is None else groups
    patterns = [[_member(text) for text in members] for members in rules]
    for name in names:
        for number, members in enumerate(patterns):
            for place, member in enumerate(members):
                match = member.search(name)
                if match is None or (groups is None and (CROSS.search(name) or name[match.end() :] not in ("", ".weight"))):
                    continue
                key = f"{name[: match.start()]}*{name[match.end() :]}"
                other = found.setdefault((number, key), {}).setdefault(place, name)
                if other != name:
                    raise RecipeError(f"{name} and {other} are the same member of a group")
    result: list[Group] = []
    odd: dict[str, tuple[str, ...]] = {}
    for (number, key), its in found.items():
        missing = [text for place, text in enumerate(rules[number]) if place not in its]
        text = f"{', '.join(its.values())} without {' and '.join(missing)}"
        if missing and groups is not None:
            raise RecipeError(f"a group has {text}")
        if missing:
            odd[f"{text}: not joined"] = tuple(its.values())
        else:
            result.append(Group(key, tuple(its[place] for place in sorted(its))))
    names_of = [name for group in result for name in group.names]
    if twice := {name for name in names_of if names_of.count(name) > 1}:
        raise RecipeError(f"{min(twice)} belongs to two groups")
    return result, odd


def holds_values(names: Iterable[str]) -> bool:
    """Tell whether a group joins a value projection, which loses it: its norm is small beside that of queries and keys."""
    return any(VALUES.search(name) for name in names)


@dataclass(frozen=True, slots=True)
class Split:
    """How a fused matrix is cut: lengths of its pieces and which of them are queries and keys; columns: along axis 1 (Conv1D)."""

    lengths: tuple[int, ...]
    joined: tuple[bool, ...]
    columns: bool = False


def split_fused(name: str, rows: int, cols: int, heads: int | None) -> Split | None:
    """Return how to cut a fused query-key-value matrix; None when the name is not that of one. Raises RecipeError.

    Queries have as many rows as the matrix has columns; keys and values share the others evenly, be they fewer (grouped queries) or not.
    heads: of keys, in a matrix that holds queries, key and value head by head; 1 when it does not.
    """
    match = FUSED.search(name)
    if not match or CROSS.search(name):
        return None
    columns = match[1] == "c_attn" and cols > rows
    width, total = (rows, cols) if columns else (cols, rows)
    if match[1] == INTERLEAVED and heads is None:
        raise RecipeError(f"{name} may go head by head: give the number of heads (of keys), or 1 when it does not")
    parts = (heads or 1) if match[1] == INTERLEAVED else 1
    value = (total - width) // (2 * parts)
    if value < 1 or (total - width) % (2 * parts) or total % parts:
        raise RecipeError(f"{name} is {rows} × {cols}: it cannot hold queries, and keys and values of one size, {parts} times")
    return Split((total // parts - value, value) * parts, (True, False) * parts, columns)
