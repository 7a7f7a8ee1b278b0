"""Looking centroids up in torch (numpy/codebook.py)."""

from __future__ import annotations

from torch import Tensor

from wcodec.backends.torch.arrays import positions
from wcodec.backends.torch.calls import checked, fail
from wcodec.backends.torch.memory import TorchMemory


def look_up(status: Tensor, centroids: Tensor, width: int, indices: Tensor, out: Tensor) -> None:
    """Write the centroids at the indices. Fails with CODEBOOK-2."""
    count = centroids.numel() // width
    index = positions(indices, 1 << 16)
    fail(status, "CODEBOOK-2", index >= count)
    index.clamp_(max=max(count - 1, 0))
    out.view(-1, width).copy_(centroids.view(count, width).index_select(0, index))


class TorchCodebook(TorchMemory):
    """Codebooks."""

    @checked
    def gather(self, status: Tensor, centroids: Tensor, width: int, indices: Tensor, out: Tensor) -> None:
        """Write the centroids, of ``width`` elements each, at the indices (U8 or U16) to out. Fails with CODEBOOK-2."""
        look_up(status, centroids, width, indices, out)
