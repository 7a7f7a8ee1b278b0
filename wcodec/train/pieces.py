"""What neural codecs learn from: pieces of columns of real weights, and synthetic ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import safetensors
import torch
from torch import Generator, Tensor

PIECE = 64
"""Weights of a piece: four chunks, one below the other in a column, so that a trellis has a way to go."""
HELD = 16
"""Of every 16 pieces of a tensor, the last one is held out."""


def normalised(x: Tensor) -> Tensor:
    """Return a tensor as a float32 matrix, rows along axis 0, each divided by its root mean square."""
    matrix = x.to(torch.float32).reshape(x.shape[0], -1)
    return matrix / matrix.square().mean(1, keepdim=True).sqrt().clamp_min(torch.finfo(torch.float32).tiny)


def pieces_of(x: Tensor) -> Tensor:
    """Cut the columns of a matrix into pieces [count, 64]; what is left at their ends is dropped."""
    bands = x.shape[0] // PIECE
    return x[: bands * PIECE].reshape(bands, PIECE, -1).transpose(1, 2).reshape(-1, PIECE)


def read(paths: Sequence[Path], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return pieces of all float matrices in safetensors files, drawn evenly over all weights: about ``count`` to train on, and the
    held-out ones that belong to them, at most ``count`` / 15.

    Tensors with fewer than 64 rows or 16 columns stay out. Raises OSError, safetensors.SafetensorError.
    """
    sizes: dict[tuple[Path, str], int] = {}
    for path in paths:
        with safetensors.safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                its = file.get_slice(name)
                shape, kind = its.get_shape(), its.get_dtype()
                if len(shape) > 1 and shape[0] >= PIECE and kind in ("F64", "F32", "F16", "BF16"):
                    columns = int(torch.tensor(shape[1:]).prod())
                    sizes |= {(path, name): shape[0] // PIECE * columns} if columns >= 16 else {}
    share = min(1.0, count * HELD / (HELD - 1) / max(1, sum(sizes.values())))
    kept, held = [torch.empty(0, PIECE)], [torch.empty(0, PIECE)]
    for (path, name), size in sizes.items():
        with safetensors.safe_open(path, framework="pt") as file:
            found = pieces_of(normalised(file.get_tensor(name)))
        order = torch.randperm(size, generator=Generator().manual_seed(seed + zlib.crc32(name.encode())))
        apart = order % HELD == HELD - 1
        kept.append(found[order[~apart][: round(size * share * (HELD - 1) / HELD)]])
        held.append(found[order[apart][: round(size * share / HELD)]])
    return torch.cat(kept), torch.cat(held)


def gaussian(count: int, generator: Generator) -> Tensor:
    """Draw pieces [count, 64] of unit variance."""
    return torch.randn(count, PIECE, generator=generator)


def lognormal(count: int, generator: Generator) -> Tensor:
    """Draw pieces of normal numbers whose scale changes from chunk to chunk: its logarithm has a deviation of up to 1/2. Unit variance."""
    deviation = torch.rand(count, 1, generator=generator) / 2
    scale = torch.exp(deviation * torch.randn(count, PIECE // 16, generator=generator) - deviation.square())
    return gaussian(count, generator) * scale.repeat_interleave(16, 1)


def student(count: int, generator: Generator) -> Tensor:
    """Draw pieces of Student's t with 4 to 8 degrees of freedom, one number for all. Unit variance."""
    freedom = int(torch.randint(4, 9, (), generator=generator))
    squares = torch.randn(count, PIECE, freedom, generator=generator).square().mean(2)
    unit: float = ((freedom - 2) / freedom) ** 0.5
    return gaussian(count, generator) / squares.sqrt() * unit


def mixture(real: Tensor, count: int, generator: Generator) -> Tensor:
    """Draw training pieces: half of them real where there are any, a quarter Gaussian, the rest 3 : 2 lognormal and Student's t.

    Each is negated or not, and its scale is off by up to a quarter of a bit: levels half a bit apart then serve all scales.
    """
    taken = count // 2 if len(real) else 0
    rest = count - taken
    parts = [real[torch.randint(max(1, len(real)), (taken,), generator=generator)]]
    parts += [lognormal(rest * 3 // 10, generator), student(rest // 5, generator)]
    parts.append(gaussian(count - sum(map(len, parts)), generator))
    off = torch.exp2((torch.rand(count, 1, generator=generator) - 0.5) / 2)
    sign = torch.randint(2, (count, 1), generator=generator) * 2 - 1
    drawn: Tensor = torch.cat(parts)[torch.randperm(count, generator=generator)] * off * sign
    return drawn
