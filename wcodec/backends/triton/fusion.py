"""Calls on a tape that one kernel can do together: symbols of a trellis that have raw bits or escapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from wcodec.backends.torch.calls import Call, Fork
from wcodec.backends.triton.rans_decode import Coding

FUSED = "trellis_values"
"""The verb of calls that take the place of several: arguments of ``trellis_decode``, but a ``Coding`` before the lattice."""


def fused(calls: Sequence[Call | Fork]) -> list[Call | Fork]:
    """Put one call in the place of those that decode tokens, order outliers, join symbols and dequantise them."""
    made: dict[int, Call] = {}
    gone: set[int] = set()
    for i, call in enumerate(calls):
        if isinstance(call, Call) and call.verb == "trellis_dequantise":
            found = _chain(calls, i)
            if found is not None:
                made[i] = found[0]
                gone |= found[1]
    return [made.get(i, call) for i, call in enumerate(calls) if i not in gone]


def _chain(calls: Sequence[Call | Fork], at: int) -> tuple[Call, set[int]] | None:
    """Return a call for the one at ``at`` and those that make its symbols, and the places of the latter.

    None where there are no such calls, or where others take tokens or symbols as well.
    """
    order, start, symbols, lattice, dtype, out = _arguments(calls[at])
    joins = _maker(calls, at, "join_tokens", symbols)
    if joins is None:
        return None
    alphabet, tokens, raw, outliers, _ = _arguments(calls[joins])
    decodes, orders = (_maker(calls, joins, verb, its) for verb, its in (("rans_decode", tokens), ("_order_outliers", outliers)))
    if decodes is None or not alphabet.trellis or (alphabet.escape >= 0) != (orders is not None):
        return None
    places = {decodes, joins} if orders is None else {decodes, orders, joins}
    job, *streams, _ = _arguments(calls[decodes])
    if (job.order, job.start, job.context.trellis) != (order, start, lattice.v):
        return None
    if _users(calls, tokens) != places or _users(calls, symbols) != {joins, at}:
        return None
    coding = Coding(alphabet, 8 * symbols.element_size(), raw)
    if orders is not None:
        _, _, counts, _, values, _ = _arguments(calls[orders])
        coding = replace(coding, outliers=values, counts=counts, status=_status(calls[orders]))
    return Call(FUSED, (job, *streams, coding, lattice, dtype, out), _status(calls[decodes])), places


def _arguments(call: Call | Fork) -> tuple[Any, ...]:
    assert isinstance(call, Call)
    return call.arguments


def _status(call: Call | Fork) -> Tensor | None:
    assert isinstance(call, Call)
    return call.status


def _users(calls: Sequence[Call | Fork], array: Tensor) -> set[int]:
    """Return the places of the calls that take an array."""
    return {i for i, call in enumerate(calls) if isinstance(call, Call) and any(its is array for its in call.arguments)}


def _maker(calls: Sequence[Call | Fork], before: int, verb: str, out: Tensor) -> int | None:
    """Return the place of the call of a verb that writes ``out``, its last argument."""
    found = (i for i in _users(calls[:before], out) if calls[i].verb == verb and _arguments(calls[i])[-1] is out)  # type: ignore[union-attr]
    return max(found, default=None)
