"""The torch backend: the topics together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wcodec.backends.base import Backend
from wcodec.backends.torch.batch import Batch
from wcodec.backends.torch.floats import TorchFloats
from wcodec.backends.torch.masks import TorchMasks
from wcodec.backends.torch.net import TorchNet
from wcodec.backends.torch.random import TorchRandom
from wcodec.backends.torch.search import TorchSearch
from wcodec.backends.torch.trellis import TorchTrellis
from wcodec.coding.tables import Tables
from wcodec.types import U8, U32, U64


class TorchBackend(TorchTrellis, TorchNet, TorchMasks, TorchRandom, TorchSearch, TorchFloats, Backend):
    """Verbs on tensors of one device; tables and samples are left to a backend of the cpu.

    Arguments that hold data are tensors of storage elements (``arrays.STORAGE``); what a file states of them (tables, look-ups, states,
    offsets, counts, orders) stays numpy's. Without a batch every verb that finds something wrong waits for the device and raises.
    """

    name = "torch"

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Decode many tensors together: their verbs are done, and what is wrong is raised, when the batch ends or is flushed."""
        batch = Batch(self)
        yield batch
        batch.finish()

    def read_tables(self, data: U8, count: int, precision: int) -> tuple[Tables, int, U32]:
        """Parse tables on the host."""
        return self.near.read_tables(data, count, precision)

    def fit_tables(self, counts: U64, precision: int) -> Tables:
        """Make tables on the host."""
        return self.near.fit_tables(counts, precision)

    def pack_tables(self, tables: Tables) -> bytes:
        """Return the wire form of tables."""
        return self.near.pack_tables(tables)
