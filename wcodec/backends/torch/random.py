"""Random numbers from a seed in torch (numpy/random.py)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wcodec.backends.torch.arrays import as_tensor
from wcodec.backends.torch.calls import verb
from wcodec.backends.torch.floats import plainly, rounded
from wcodec.backends.torch.memory import TorchMemory
from wcodec.coding.philox import BUMPS, MULTIPLIERS, normals
from wcodec.types import DType

CHUNK = 1 << 22
LOW = 0xFFFFFFFF


def words(device: torch.device, seed: int, id: int, stream: int, start: int, count: int) -> Tensor:
    """Return words start … start + count − 1 of a stream of Philox4x32-10, as int64."""
    first = start // 4
    counter = torch.arange(first, (start + count + 3) // 4, device=device)
    x0, x1 = counter & LOW, counter >> 32
    x2, x3 = torch.full_like(counter, id), torch.full_like(counter, stream)
    keys = [seed & LOW, seed >> 32]
    for _ in range(10):
        a, b = x0 * MULTIPLIERS[0], x2 * MULTIPLIERS[1]  # 64 bits of products, whatever the sign
        x0, x1 = (b >> 32 & LOW) ^ x1 ^ keys[0], b & LOW
        x2, x3 = (a >> 32 & LOW) ^ x3 ^ keys[1], a & LOW
        keys = [(key + bump) & LOW for key, bump in zip(keys, BUMPS, strict=True)]
    return torch.stack((x0, x1, x2, x3), dim=1).view(-1)[start - 4 * first :][:count]


class TorchRandom(TorchMemory):
    """Streams of random numbers, from any element on."""

    @verb
    def philox_fill(
        self, seed: int, id: int, stream: int, kind: str, scale: float, decay: float, start: int, dtype: DType, out: Tensor
    ) -> None:
        """Write elements start … of a stream of random numbers, rounded to a float dtype. kind: uniform or normal."""
        with plainly(self.device):
            for at in range(0, out.numel(), CHUNK):
                piece = out[at : at + CHUNK]
                number = self._numbers(kind, words(self.device, seed, id, stream, start + at, piece.numel()))
                piece.copy_(rounded(number * scale * decay, dtype))

    def _numbers(self, kind: str, word: Tensor) -> Tensor:
        if kind == "uniform":
            return ((word >> 9) * 2 + (1 - 2**23)).float() * 2**-23
        table = as_tensor(normals()).to(self.device)
        magnitude = table[word >> 20].float() * 2**-22
        return torch.where((word >> 19 & 1) > 0, -magnitude, magnitude)

    def philox_draw(self, seed: int, id: int, stream: int, threshold: int, start: int, out: Any) -> int:
        """Write 1 where the word of element start … is below threshold, else 0; the number of ones, here −1, stays on the device."""
        self.draw_words(seed, id, stream, threshold, start, out)
        return -1

    @verb
    def draw_words(self, seed: int, id: int, stream: int, threshold: int, start: int, out: Tensor) -> None:
        """Do ``philox_draw``."""
        for at in range(0, out.numel(), CHUNK):
            piece = out[at : at + CHUNK]
            piece.copy_(words(self.device, seed, id, stream, start + at, piece.numel()) < threshold)

    def mt19937_fill(self, seed: int, offset: int, low: float, high: float, out: Any) -> None:
        """Not on a device: ``Mt19937.host`` says why."""
        raise NotImplementedError
