"""Counting and encoding tokens, many sections in a launch. Words come from the end of a block, so every block has room of its own first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton

from wcodec.backends.triton import rans_encode_kernels as kernels
from wcodec.backends.triton import rans_kernels
from wcodec.backends.triton.launch import Work, launch, variant
from wcodec.backends.triton.rans_sections import Fields, Sent, constants_of, held, programs_of, row_of, send_context, trellises
from wcodec.coding.rans import Job
from wcodec.coding.tables import Tables
from wcodec.types import U32, U64

MOST_BINS = 4096
"""Bins that a program counts in shared memory."""
Tokens = tuple[Job, torch.Tensor]
"""A window and its tokens, uint8."""


def rans_histogram_many(calls: Sequence[Tokens]) -> list[U64]:
    """Count the tokens of every window per table, [tables, 256]. Waits for the device."""
    device = calls[0][1].device
    chosen, sizes = _choose(calls), [256 * job.context.tables for job, _ in calls]
    counts = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
    small, work = Sent().to(device), []
    for (job, tokens), its, at in zip(calls, chosen, np.cumsum([0, *sizes]), strict=False):
        tables = job.context.tables
        bins = min(MOST_BINS, 256 * triton.next_power_of_2(tables))
        fields = {
            "TOKENS": tokens.data_ptr(),
            "TABLES": tables,
            "COUNTS": counts[at:].data_ptr(),
            "CHOSEN": 0 if its is None else its.data_ptr(),
        }
        programs = -(-tokens.numel() // kernels.CHUNK.value) * -(-256 * tables // bins)
        work.append(Work(programs, row_of(job, fields, small), {"SEVERAL": its is not None, "BINS": bins}))
    launch(kernels.count_kernel, work)
    found = counts.cpu().numpy().astype(np.uint64)
    return [part.reshape(-1, 256) for part in np.split(found, np.cumsum(sizes)[:-1])]


def rans_encode_many(calls: Sequence[tuple[Job, torch.Tensor, torch.Tensor]]) -> list[tuple[U32, U32, int]]:
    """Encode windows (job, tokens, words) each; ``EntropyVerbs.rans_encode`` for many. Waits for the device, once, for what it returns."""
    device = calls[0][1].device
    chosen = _choose([(job, tokens) for job, tokens, _ in calls])
    sent = Sent()
    tables = [sent.add(_entries(job.tables)) for job, _, _ in calls]
    small = sent.to(device)
    rooms = [int(job.order.sizes().max(initial=0)) for job, _, _ in calls]
    blocks, lanes = [job.order.blocks for job, _, _ in calls], [job.order.lanes for job, _, _ in calls]
    states = np.cumsum([0, *(its * w for its, w in zip(blocks, lanes, strict=True))])
    firsts = np.cumsum([0, *blocks])
    made = torch.empty(int(states[-1] + firsts[-1]), dtype=torch.int32, device=device)
    counts = made[states[-1] :]
    scratch = [torch.empty(its * room, dtype=torch.int16, device=device) for its, room in zip(blocks, rooms, strict=True)]
    rows: list[Fields] = []
    for i, (_, tokens, _) in enumerate(calls):
        its = chosen[i]
        fields = {"TOKENS": tokens.data_ptr(), "LUT": small.data_ptr() + tables[i], "WORDS": scratch[i].data_ptr(), "ROOM": rooms[i]}
        fields |= {"STATES": made[states[i] :].data_ptr(), "COUNTS": counts[firsts[i] :].data_ptr(), "CHOSEN": 0}
        whole = tokens.data_ptr() % 16 == 0
        if its is not None:
            fields["CHOSEN"] = its.data_ptr()
        rows.append(fields | {"WHOLE": int(whole and bool(calls[i][0].order.block or calls[i][0].order.cols % 4 == 0))})
    encoding = []
    for (job, _, _), its, fields in zip(calls, chosen, rows, strict=True):
        constants = constants_of(job) | {"SEVERAL": its is not None}
        del constants["CONTEXT"]
        encoding.append(Work(programs_of(job), row_of(job, fields, small), constants))
    launch(kernels.rans_encode_kernel, encoding)
    before = counts.cumsum(0, dtype=torch.int64) - counts
    copying = []
    for i, (job, _, words) in enumerate(calls):
        if words.numel() >= 2 and words.data_ptr() % 2 == 0:
            fields = rows[i] | {"BEFORE": before[firsts[i] :].data_ptr(), "OUT": words.data_ptr(), "CAPACITY": words.numel() // 2}
            copying.append(Work(job.order.blocks, row_of(job, fields, small)))
    launch(kernels.gather_words_kernel, copying)
    host = made.cpu().numpy().view(np.uint32)
    found = []
    for i in range(len(calls)):
        per_block = host[states[-1] :][firsts[i] : firsts[i + 1]]
        found.append((host[states[i] : states[i + 1]].reshape(-1, lanes[i]), per_block, 2 * int(per_block.sum(dtype=np.int64))))
    return found


def _entries(tables: Tables) -> npt.NDArray[np.uint32]:
    """Return what encoding a token needs: frequency | start « 16, and ⌊2^32 / frequency⌋."""
    frequency = np.maximum(tables.frequencies, 1).astype(np.uint64)
    entry = frequency | tables.starts().astype(np.uint64) << np.uint64(16)
    reciprocal = np.minimum((np.uint64(1) << np.uint64(32)) // frequency, np.uint64(2**32 - 1))
    return np.stack([entry, reciprocal], axis=-1).astype(np.uint32)


def _choose(calls: Sequence[Tokens]) -> list[torch.Tensor | None]:
    """Return the table of every token, where there are several."""
    sent = Sent()
    contexts = [send_context(job, sent) for job, _ in calls]
    small = sent.to(calls[0][1].device)
    found: list[torch.Tensor | None] = []
    work, kept = [], []
    for (job, tokens), context in zip(calls, contexts, strict=True):
        if job.context.kind == "none":
            found.append(None)
            continue
        chosen = torch.empty_like(tokens)
        trellis = trellises(job, small.device)
        kept.append(trellis)
        fields = {name: small.data_ptr() + at for name, at in context.items()}
        fields |= {"TOKENS": tokens.data_ptr(), "OUT": chosen.data_ptr(), "TRELLIS": trellis.data_ptr()}
        constants: dict[str, Any] = constants_of(job) | {"HELD": held(job)}
        work.append(Work(programs_of(job), row_of(job, fields, small), constants))
        found.append(chosen)
    launch(kernels.choose_kernel, work)
    return found


KERNELS = [
    variant("choose, trellis in tiles", kernels.choose_kernel, CONTEXT=rans_kernels.PARITY.value, TILED=True, HELD=True, W=32, NB=4),
    variant("choose, classes", kernels.choose_kernel, CONTEXT=rans_kernels.CLASS.value, TILED=False, HELD=True, W=32, NB=4),
    variant("count 256 tokens", kernels.count_kernel, SEVERAL=False, BINS=256),
    variant("count 4096 tokens of tables", kernels.count_kernel, SEVERAL=True, BINS=MOST_BINS),
    variant("rans encode, tokens", kernels.rans_encode_kernel, SEVERAL=False, TILED=False, W=32, NB=4),
    variant("rans encode, chosen tables in tiles", kernels.rans_encode_kernel, SEVERAL=True, TILED=True, W=32, NB=4),
    variant("rans encode, words", kernels.gather_words_kernel),
]
