"""Calls on a tape that one kernel can do together: symbols of a trellis that have raw bits or escapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from wcodec.backends.torch.calls import Call, Fork
from wcodec.backends.triton.rans_decode import Coding

FUSED = "trellis_values"
"""The verb of calls that take the place of several: arguments of ``trellis_decode``, but a ``Coding`` before the lattice."""


def fused(calls: Sequence[Call | Fork]) -> list[Call | Fork]:
    """Put one call in the place of those that decode tokens, order outliers, join symbols and dequantise them.

    Symbols and tokens are read by these calls alone: codecs borrow them for that.
    """
    made: dict[int, Call] = {}
    gone: set[int] = set()
    for i, call in enumerate(calls):
        if isinstance(call, Call) and call.verb == "trellis_dequantise":
            found = _chain(calls, i)
            if found is not None:
                made[i] = found[0]
                gone.update(found[1])
    return [made.get(i, call) for i, call in enumerate(calls) if i not in gone]


def _chain(calls: Sequence[Call | Fork], at: int) -> tuple[Call, list[int]] | None:
    """Return what does the work of the call at ``at`` and of those that make its symbols, and the places of the latter."""
    order, start, symbols, lattice, dtype, out = _arguments(calls[at])
    joins = _last(calls, at, "join_tokens", symbols)
    if joins is None:
        return None
    alphabet, tokens, raw, outliers, _ = _arguments(calls[joins])
    decodes = _last(calls, joins, "rans_decode", tokens)
    orders = _last(calls, joins, "_order_outliers", outliers)
    if decodes is None or not alphabet.trellis or (alphabet.escape >= 0) != (orders is not None):
        return None
    decode = calls[decodes]
    assert isinstance(decode, Call)
    job, *streams, _ = decode.arguments
    if (job.order, job.start, job.context.trellis) != (order, start, lattice.v):
        return None
    width, places = 8 * symbols.element_size(), [decodes, joins]
    coding = Coding(alphabet, width, raw)
    if orders is not None:
        _, _, counts, _, values, _ = _arguments(calls[orders])
        its = calls[orders]
        assert isinstance(its, Call)
        coding = Coding(alphabet, width, raw, values, counts, its.status)
        places.append(orders)
    return Call(FUSED, (job, *streams, coding, lattice, dtype, out), decode.status), places


def _arguments(call: Call | Fork) -> tuple[Any, ...]:
    assert isinstance(call, Call)
    return call.arguments


def _last(calls: Sequence[Call | Fork], before: int, verb: str, out: Any) -> int | None:
    """Return the place of the call of a verb that writes ``out``, its last argument."""
    found: Iterator[int] = (
        i for i in range(before - 1, -1, -1)
        if isinstance(its := calls[i], Call) and its.verb == verb and its.arguments[-1] is out
    )  # fmt: skip
    return next(found, None)
