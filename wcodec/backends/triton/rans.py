"""Entropy coding by kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from wcodec.backends.torch.calls import Call, Fork
from wcodec.backends.torch.entropy import TorchEntropy
from wcodec.backends.triton.fusion import fused
from wcodec.backends.triton.rans_decode import Dequantise, Gather, Join, RansCall, Then, rans_decode_many
from wcodec.backends.triton.rans_encode import rans_encode_many, rans_histogram_many
from wcodec.coding.rans import Job
from wcodec.types import U8, U32, U64


class TritonRans(TorchEntropy):
    """Streams of tokens: every context and order, joined or looked up as they are decoded."""

    def rans_decode_many(self, calls: Sequence[Call]) -> None:
        """Decode the tokens of many windows."""
        rans_decode_many([_call(call, None) for call in calls])

    def rans_join_many(self, calls: Sequence[Call]) -> None:
        """Decode and join many windows."""
        rans_decode_many([_call(call, Join(*call.arguments[5:8])) for call in calls])

    def rans_gather_many(self, calls: Sequence[Call]) -> None:
        """Decode and look up many windows."""
        rans_decode_many([_call(call, Gather(*call.arguments[5:7])) for call in calls])

    def trellis_decode_many(self, calls: Sequence[Call]) -> None:
        """Decode and dequantise many windows."""
        rans_decode_many([_call(call, Dequantise(*call.arguments[5:7])) for call in calls])

    def trellis_values_many(self, calls: Sequence[Call]) -> None:
        """Decode, join and dequantise many windows: what ``fused`` has made."""
        rans_decode_many([_call(call, Dequantise(call.arguments[6], call.arguments[7], call.arguments[5])) for call in calls])

    def fused(self, calls: list[Call | Fork]) -> list[Call | Fork]:
        """Put the calls together that decode a trellis whose symbols have raw bits or escapes."""
        return fused(calls)

    def rans_histogram(self, job: Job, tokens: Any) -> U64:
        """Count the tokens of a window per table."""
        return rans_histogram_many([(job, tokens)])[0]

    def rans_encode(self, job: Job, tokens: Any, words: U8) -> tuple[U32, U32, int]:
        """Encode a window's tokens, writing the words to ``words`` in numpy's memory."""
        made = torch.empty(words.size, dtype=torch.uint8, device=self.device)
        ((states, per_block, size),) = rans_encode_many([(job, tokens, made)])
        if size <= words.size:
            words[:size] = self.to_host(made[:size])
        return states, per_block, size


def _call(call: Call, then: Then) -> RansCall:
    assert call.status is not None
    job, lut, states, offsets, words = call.arguments[:5]
    return RansCall(job, lut, states, offsets, words, call.arguments[-1], call.status, then)
