"""rANS in Triton, interpreted, against the oracle: sound and damaged streams."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import ORACLE, Case, cases, make_case, make_context, outcome

from wcodec.backends.triton.rans_decode import Gather, Join, RansCall, rans_decode_many
from wcodec.coding.rans import Context, Job, Order
from wcodec.errors import Corrupt

RULES = {0: None, 1: "E-6", 2: "E-7", 3: "E-7"}


def device_of(x: Any) -> torch.Tensor:
    """Return the same bits as a tensor."""
    return torch.from_numpy(np.array(x).view(np.dtype(f"i{x.dtype.itemsize}") if x.dtype.itemsize > 1 else np.uint8))


def call_of(case: Case, out: torch.Tensor, then: Any = None) -> RansCall:
    status = torch.zeros(1, dtype=torch.int32)
    return RansCall(case.job, case.job.tables.lut(), case.states, case.offsets, device_of(case.words), out, status, then)


@given(st.lists(cases(), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_decode(many: list[Case]) -> None:
    outs = [torch.full((case.count + 64,), 77, dtype=torch.uint8) for case in many]
    calls = [call_of(case, out[: case.count]) for case, out in zip(many, outs, strict=True)]
    rans_decode_many(calls)
    for case, out, call in zip(many, outs, calls, strict=True):
        assert np.array_equal(out[: case.count].numpy(), case.tokens) and (out[case.count :] == 77).all()
        assert int(call.status) == 0
