"""Decoding tokens, joined with planes or looked up in a codebook as they come, many sections in a launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from wcodec.backends import Planes, Symbols
from wcodec.backends.torch.calls import RULES
from wcodec.backends.triton import rans_kernels as kernels
from wcodec.backends.triton.launch import Kernel, Work, launch, variant
from wcodec.backends.triton.rans_sections import Fields, Sent, constants_of, held, programs_of, row_of, send_context, trellises
from wcodec.coding.rans import Job, Order
from wcodec.coding.tokens import Alphabet
from wcodec.coding.trellis import Lattice
from wcodec.types import U32, DType

UNUSED_TABLE = RULES["E-7"][0]


@dataclass(frozen=True, slots=True)
class Join:
    """Rest planes that symbols are joined with. rest: the top one is packed bits where ``symbols`` says so."""

    symbols: Symbols
    split: Planes
    rest: Sequence[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Gather:
    """Centroids, of ``width`` elements each, that tokens number."""

    centroids: torch.Tensor
    width: int


@dataclass(frozen=True, slots=True)
class Coding:
    """How tokens become symbols of ``width`` bits. raw: elements that hold raw bits, uint8 or int16, if any.

    outliers, counts, status: escaped values in the order of blocks, how many every block has, and a flag word for RANS-3; None without.
    """

    alphabet: Alphabet
    width: int
    raw: torch.Tensor | None
    outliers: torch.Tensor | None = None
    counts: U32 | None = None
    status: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Dequantise:
    """What the symbols of a trellis stand for, and the float dtype to round it to. coding: None where tokens are the symbols."""

    lattice: Lattice
    dtype: DType
    coding: Coding | None = None


Then: TypeAlias = Join | Gather | Dequantise | None
"""What becomes of tokens."""


@dataclass(frozen=True, slots=True)
class RansCall:
    """A window to decode: arguments of ``rans_decode``, what becomes of the tokens, and a flag word, int32 [1], on the device.

    words, uint8; out: tokens, uint8, or elements. Flags: 1 E-6, 2 E-7, 4 CODEBOOK-2.
    """

    job: Job
    lut: U32
    states: U32
    offsets: U32
    words: torch.Tensor
    out: torch.Tensor
    status: torch.Tensor
    then: Then = None


def rans_decode_many(calls: Sequence[RansCall]) -> None:
    """Decode windows into their ``out``, in one launch for each kind of context, order, lanes and use of the tokens.

    Raises ValueError when arrays are not of the sizes that kernels rely on.
    """
    ready: list[tuple[RansCall, Fields, torch.Tensor]] = []
    sent = Sent()
    for call in calls:
        _check(call)
        if not call.job.order.count:
            continue
        if call.job.context.kind == "none" and not call.lut[0]:
            call.status.bitwise_or_(UNUSED_TABLE)  # every symbol chose it
            continue
        words = call.words if call.words.data_ptr() % 2 == 0 else call.words.clone()
        ready.append((call, _send(call, sent), words))
    if not ready:
        return
    small = sent.to(ready[0][0].out.device)
    kept = [trellises(call.job, small.device) for call, _, _ in ready]
    work = []
    for (call, fields, words), trellis in zip(ready, kept, strict=True):
        fields = {name: int(small.data_ptr()) + at for name, at in fields.items()}
        fields |= _settings(call) | {"WORDS": words.data_ptr(), "TRELLIS": trellis.data_ptr()}
        work.append(Work(programs_of(call.job), row_of(call.job, fields, small), constants_of(call.job) | _constants(call)))
    launch(kernels.rans_decode_kernel, work)


def _check(call: RansCall) -> None:
    order, words = call.job.order, call.words
    count, width = order.count, 1
    sound = call.states.size == order.blocks * order.lanes and call.offsets.size == order.blocks + 1
    sound = sound and bool((call.offsets[1:] >= call.offsets[:-1]).all()) and 2 * int(call.offsets[-1]) <= words.numel()
    sound = sound and call.lut.size >= call.job.context.tables << call.job.tables.precision
    if isinstance(call.then, Join):
        split, planes = call.then.split, list(call.then.rest)
        sound = sound and len(planes) == split.count and call.out.element_size() * 8 == split.bits
        if call.then.symbols.packed:
            sound = sound and 8 * planes.pop().numel() >= count * (split.rest % 8) and split.rest % 8 > 0
        sound = sound and all(plane.numel() == count for plane in planes)
    elif isinstance(call.then, Gather):
        width = call.then.width
        sound = sound and call.then.centroids.dtype == call.out.dtype and call.then.centroids.numel() % width == 0
    elif isinstance(call.then, Dequantise):
        lattice, cols = call.then.lattice, max(order.cols, 1)
        last_row = -(-(call.job.start + count) // cols) - call.job.start // cols
        sound = sound and lattice.rows.size in (1, last_row) and (lattice.columns is None or lattice.columns.size == order.cols)
        sound = sound and call.job.context.trellis > 0 and call.out.element_size() == call.then.dtype.storage.itemsize
        sound = sound and (call.then.coding is None or _covers(call.then.coding, order))
    if not (sound and call.out.numel() == count * width and call.out.is_contiguous() and words.is_contiguous()):
        raise ValueError("arrays of a token stream do not fit its job")


def _covers(coding: Coding, order: Order) -> bool:
    sound = coding.raw is None or (coding.raw.numel() == order.count and coding.raw.is_contiguous() and coding.raw.element_size() <= 2)
    if coding.alphabet.escape < 0:
        return sound
    if coding.outliers is None or coding.counts is None or coding.status is None or coding.counts.size != order.blocks:
        return False
    return sound and int(coding.counts.sum(dtype=np.uint64)) == coding.outliers.numel() and coding.outliers.is_contiguous()


def _send(call: RansCall, sent: Sent) -> Fields:
    lut = call.lut
    if isinstance(call.then, Join) and call.then.split.bits - call.then.split.rest <= 8:
        lut = _symbols_in(lut, call.then.symbols)
    fields = {"LUT": sent.add(lut), "STATES": sent.add(call.states), "OFFSETS": sent.add(call.offsets)}
    if isinstance(call.then, Dequantise):
        its = call.then.lattice
        columns = np.ones(1) if its.columns is None else its.columns
        points = np.append(np.float32(0), its.points)
        arrays = {"STEPS": its.rows, "FACTORS": columns, "POINTS": points}
        fields |= {name: sent.add(array.astype(np.float32)) for name, array in arrays.items()}
        coding = call.then.coding
        if coding is not None and coding.counts is not None:
            fields["BEFORE"] = sent.add(np.append(np.int64(0), np.cumsum(coding.counts, dtype=np.int64)))
    return fields | send_context(call.job, sent)


def _symbols_in(lut: U32, symbols: Symbols) -> U32:
    """Put symbols of up to 8 bits in the place of tokens."""
    token = lut >> np.uint32(24)
    symbol = token + np.uint32(symbols.base & 0xFF) & np.uint32(0xFF)
    if symbols.zero:
        symbol[token == 0] = 0
    found: U32 = lut & np.uint32(0xFFFFFF) | symbol << np.uint32(24)
    return found


def _settings(call: RansCall) -> Fields:
    out, order, then = call.out, call.job.order, call.then
    found = {"OUT": out.data_ptr(), "STATUS": call.status.data_ptr()}
    aligned = [out]
    if isinstance(then, Join):
        found |= {"BASE": then.symbols.base % 2**16, "ZERO": then.symbols.zero}
        found |= {f"PLANE{i}": plane.data_ptr() for i, plane in enumerate(then.rest)}
        aligned += then.rest[:-1] if then.symbols.packed else then.rest
        found["PACKED_SIZE"] = then.rest[-1].numel() if then.symbols.packed else 0
    elif isinstance(then, Gather):
        found |= {"CENTROIDS": then.centroids.data_ptr(), "WIDTH": then.width}
        found["ENTRIES"] = then.centroids.numel() // then.width
    elif isinstance(then, Dequantise):
        its = then.lattice
        found |= {"ZERO": its.zero, "MOST_POINTS": its.points.size}
        found |= {"SOME_STEPS": its.rows.size > 1, "SOME_FACTORS": its.columns is not None}
        if then.coding is not None:
            found |= _coded(then.coding)
            aligned += [] if then.coding.raw is None else [then.coding.raw]
    whole = (order.block or order.cols % 4 == 0) and all(x.data_ptr() % 16 == 0 for x in aligned)
    return found | {"WHOLE": int(whole)}


def _coded(coding: Coding) -> Fields:
    its = coding.alphabet
    found = {"BASE": its.base % 2**32, "ZERO_TOKEN": int(its.zero), "RAW_BITS": its.bits, "SYMBOL_MASK": (1 << coding.width) - 1}
    found |= {} if coding.raw is None else {"RAW": coding.raw.data_ptr()}
    if coding.outliers is not None and coding.status is not None:
        found |= {"ESCAPE": its.escape >> 1, "OUTLIERS": coding.outliers.data_ptr(), "ESCAPES_STATUS": coding.status.data_ptr()}
    return found


def _constants(call: RansCall) -> dict[str, Any]:
    found: dict[str, Any] = {"HELD": held(call.job), "EPILOGUE": kernels.BYTES.value, "BITS": 8 * call.out.element_size()}
    found |= {"REST_BITS": 0, "SIGN": 0, "IS_PACKED": False, "FORMAT": ""}
    found |= {"RAW_KIND": kernels.SYMBOLS.value, "ESCAPES": False}
    if isinstance(call.then, Join):
        split, packed = call.then.split, call.then.symbols.packed
        found |= {"EPILOGUE": kernels.JOIN.value, "REST_BITS": split.rest, "SIGN": split.sign, "IS_PACKED": packed}
    elif isinstance(call.then, Gather):
        found["EPILOGUE"] = (kernels.GATHER if call.then.width == 1 else kernels.GATHER_WIDE).value
    elif isinstance(call.then, Dequantise):
        found |= {"EPILOGUE": kernels.VALUES.value, "FORMAT": call.then.dtype.name}
        coding = call.then.coding
        if coding is not None:
            found["RAW_KIND"] = 0 if coding.raw is None else 8 * coding.raw.element_size()
            found["ESCAPES"] = coding.alphabet.escape >= 0
    return found


def _variant(name: str, **constants: Any) -> Kernel:
    usual: dict[str, Any] = {"CONTEXT": 0, "TILED": False, "HELD": True, "W": 32, "NB": 4}
    usual |= {"EPILOGUE": 0, "BITS": 8, "REST_BITS": 0, "SIGN": 0, "IS_PACKED": False, "FORMAT": ""}
    usual |= {"RAW_KIND": kernels.SYMBOLS.value, "ESCAPES": False}
    return variant(f"rans decode, {name}", kernels.rans_decode_kernel, **usual | constants)


_CODED: dict[str, Any] = {"CONTEXT": kernels.PAIRS.value, "EPILOGUE": kernels.VALUES.value, "BITS": 16, "FORMAT": "BF16", "TILED": True}
KERNELS = [
    _variant("tokens"),
    _variant("tokens, tiles", TILED=True),
    _variant("tokens, 4 lanes", W=4, NB=32),
    _variant("tokens, 1 lane", W=1, NB=128),
    _variant("classes", CONTEXT=kernels.CLASS.value),
    _variant("classes, tiles", CONTEXT=kernels.CLASS.value, TILED=True),
    _variant("trellis", CONTEXT=kernels.PARITY.value),
    _variant("trellis, tiles", CONTEXT=kernels.PARITY.value, TILED=True),
    _variant("trellis, wide tiles", CONTEXT=kernels.PARITY.value, TILED=True, HELD=False),
    _variant("trellis and classes, tiles", CONTEXT=kernels.PAIRS.value, TILED=True),
    _variant("trellis to BF16", CONTEXT=kernels.PARITY.value, EPILOGUE=kernels.VALUES.value, BITS=16, FORMAT="BF16"),
    _variant("trellis to BF16, tiles", CONTEXT=kernels.PAIRS.value, EPILOGUE=kernels.VALUES.value, BITS=16, FORMAT="BF16", TILED=True),
    _variant("trellis to F16, tiles", CONTEXT=kernels.PARITY.value, EPILOGUE=kernels.VALUES.value, BITS=16, FORMAT="F16", TILED=True),
    _variant("trellis to F32, tiles", CONTEXT=kernels.PARITY.value, EPILOGUE=kernels.VALUES.value, BITS=32, FORMAT="F32", TILED=True),
    _variant("trellis and raw bits to BF16, tiles", **_CODED, RAW_KIND=8),
    _variant("trellis, raw bits and escapes to BF16, tiles", **_CODED, RAW_KIND=8, ESCAPES=True),
    _variant("joined 8 bits, 3 packed", EPILOGUE=kernels.JOIN.value, REST_BITS=3, IS_PACKED=True),
    _variant("joined 16 bits, rest 8", EPILOGUE=kernels.JOIN.value, BITS=16, REST_BITS=8, SIGN=1),
    _variant("joined 16 bits, 7 packed", EPILOGUE=kernels.JOIN.value, BITS=16, REST_BITS=7, SIGN=2, IS_PACKED=True),
    _variant("joined 32 bits, rest 24", EPILOGUE=kernels.JOIN.value, BITS=32, REST_BITS=24, SIGN=1),
    _variant("joined 64 bits, rest 52", EPILOGUE=kernels.JOIN.value, BITS=64, REST_BITS=52),
    _variant("centroids", EPILOGUE=kernels.GATHER.value, BITS=16),
    _variant("wide centroids", EPILOGUE=kernels.GATHER_WIDE.value, BITS=16),
]
