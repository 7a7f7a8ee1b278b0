"""nwc.md and net.md."""

from __future__ import annotations

from pathlib import Path

import blake3
import numpy as np

from ..floats import SILENT, binary32, narrow
from ..rules import must
from ..sections import FLOATS, Node, codec, part_kind
from .trellis import branches, steps_of

NETS = Path(__file__).parents[3] / "wcodec/nets"


class Bytes:
    """The bytes of a net, taken from the front."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, kind: str, *shape: int) -> np.ndarray:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        must(self.at + size <= len(self.data), "NET-1", "net: it ends too early")
        self.at += size
        return np.frombuffer(self.data[self.at - size : self.at], kind).reshape(shape).astype(np.int64)


def small(values: np.ndarray) -> np.ndarray:
    must(int(values.min(initial=0)) >= -127, "NET-1", "net: a weight or factor of -128")
    return values


def exact(bound: np.ndarray) -> np.ndarray:
    must(int(bound.max()) < 2**24, "NET-4", "net: a sum or product may reach 2^24")
    return bound


def read_net(data: bytes) -> tuple[tuple[int, int, int], list]:
    """Head and operations of a net that keeps all rules."""
    bytes_ = Bytes(data)
    clip, shift, levels, count = bytes_.take("<u1", 4).tolist()
    must(1 <= clip <= 127 and shift <= 6 and levels >= 1 and count >= 1, "NET-1", "net: its head")
    bound, kept, ops, before = np.full(16, clip), None, [], 0
    for _ in range(count):
        code = int(bytes_.take("<u1", 1)[0])
        must(1 <= code <= 5, "NET-1", f"net: an operation {code}")
        width, fields = len(bound), ()
        if code == 1:
            m = int(bytes_.take("<u2", 1)[0])
            must(1 <= m <= 1024, "NET-2", f"net: {m} outputs")
            must(int(bound.max()) <= 127, "NET-3", "net: an input above 127")
            fields = small(bytes_.take("<i1", m, width)), bytes_.take("<i4", m)
            bound = exact(np.abs(fields[0]) @ bound + np.abs(fields[1]))
        elif code == 2:
            low, high = bytes_.take("<u2", 2).tolist()
            shifts = bytes_.take("<u1", width)
            must(low < 2**15 and 1 <= high < 2**15 and int(shifts.max()) <= 23, "NET-1", "net: a requantisation")
            fields = low, high, shifts
            bound = np.minimum(exact(bound + 2**shifts // 2) >> shifts, max(low, high))
        elif code == 3:
            fields = (small(bytes_.take("<i1", levels, width)),)
            bound = exact(bound * np.abs(fields[0]).max(0))
        elif code == 4:
            must(before != 4, "NET-2", "net: a save after a save")
            kept = bound
        else:
            must(kept is not None and len(kept) == width, "NET-2", "net: a residual without a save of its width")
            fields = (bytes_.take("<u1", width),)
            must(int(fields[0].max()) <= 16, "NET-1", "net: a shift of a residual")
            bound = exact(bound + kept * 2 ** fields[0])
        ops.append((code, *fields))
        before = code
    must(bytes_.at == len(data), "NET-1", "net: bytes after its last operation")
    must(len(bound) == 16, "NET-2", f"net: {len(bound)} outputs")
    must(int(bound.max()) < 2**23, "NET-4", "net: an output may reach 2^23")
    return (clip, shift, levels), ops


def run_net(head: tuple[int, int, int], ops: list, k: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Outputs [..., 16] of latents [..., 16], with a level each."""
    x, kept = np.clip(k, -head[0], head[0]), k
    for code, *fields in ops:
        if code == 1:
            x = x @ fields[0].T + fields[1]
        elif code == 2:
            x = np.clip(np.floor_divide(x + 2 ** fields[2] // 2, 2 ** fields[2]), -fields[0], fields[1])
        elif code == 3:
            x = x * fields[0][level]
        elif code == 4:
            kept = x
        else:
            x = x + kept * 2 ** fields[0]
    return k * 2 ** head[1] + x


def net_of(node: Node) -> tuple[tuple[int, int, int], list]:
    if "net_size" in node.params:
        return read_net(node.array("net", "U8", (node.params["net_size"],)).tobytes())
    data = next(its for its in known_nets() if blake3.blake3(its).digest() == node.params["digest"])
    return read_net(data)


def known_nets() -> list[bytes]:
    return [path.read_bytes() for path in NETS.glob("*.bin")]


@codec("nwc")
def decode_nwc(node: Node) -> np.ndarray:
    node.knows("zero", "step", "wide", "trellis", "rows", "columns", "level", "levels", "net_size", "digest")
    node.takes(*FLOATS)
    wide, trellis, own = node.flag("wide"), node.flag("trellis"), node.flag("levels")
    zero = node.uint("zero", 0, 65535 if wide else 255)
    must(not trellis or zero % 2 == 0, node.rule, "nwc: an odd `zero`")
    step, level = binary32(node.uint("step", 1, 0x767FFFFF)), node.uint("level", 0, 254, 0)
    must(not (own and "level" in node.params), node.rule, "nwc: `level` and `levels`")
    must(("net_size" in node.params) != ("digest" in node.params), node.rule, "nwc: `net_size` or `digest`")
    if "net_size" in node.params:
        node.uint("net_size", 1, 2**24)
    else:
        digest = node.params["digest"]
        must(isinstance(digest, bytes) and len(digest) == 32, node.rule, "nwc: `digest` is not 32 bytes")
    part = node.parts.get("latents")
    if trellis and "latents" in node.parts and part_kind(part) in ("section", "reference"):
        params = part.get("params", {})
        sound = part.get("codec") == "rans" and (not isinstance(params, dict) or "trellis" in params)
        must(sound, "NWC-2", "nwc: the latents are not a section of rans with a trellis")
    if "digest" in node.params:
        must(any(blake3.blake3(its).digest() == digest for its in known_nets()), "NWC-3", "nwc: an unknown net")
    given = [name for name in ("rows", "columns", "levels") if node.flag(name)]
    node.has_parts("latents", *given, *(["net"] if "net_size" in node.params else []))
    rows, cols = node.matrix
    bands = -(-rows // 16)
    symbols = node.array("latents", "U16" if wide else "U8", (16 * bands, cols)).astype(np.int64)
    k = 2 * (symbols - zero) + branches(node.children["latents"], symbols) if trellis else symbols - zero
    head, ops = net_of(node)
    of_columns = node.array("levels", "U8", (cols,)).astype(np.int64) if own else np.full(cols, level)
    must(max([level, *of_columns.tolist()]) < head[2], "NWC-4", "nwc: a level that the net does not have")
    chunks = k.reshape(bands, 16, cols).transpose(0, 2, 1)
    y = run_net(head, ops, chunks, np.broadcast_to(of_columns, (bands, cols))).transpose(0, 2, 1).reshape(16 * bands, cols)[:rows]
    with np.errstate(**SILENT):
        d = steps_of(node, given, step)
        return narrow(node.dtype, (d * y.astype(np.float32)).reshape(-1))
