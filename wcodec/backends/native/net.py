"""Neural codecs in C."""

from __future__ import annotations

from ctypes import byref

import numpy as np

from wcodec.backends.native.abi import KINDS
from wcodec.backends.native.abi import Lattice as NativeLattice
from wcodec.backends.native.arrays import address, fits
from wcodec.backends.native.floats import NativeFloats
from wcodec.backends.numpy.net import NetVerbs
from wcodec.coding.net import CHUNK, F32, Net
from wcodec.coding.trellis import Lattice
from wcodec.types import U8, DType, UInts


class NativeNet(NativeFloats, NetVerbs):
    """Nets in integers of 16 and 32 bits, by C."""

    def run_net(self, net: Net, latents: F32, cols: int, levels: int | U8, out: F32) -> None:
        """Run a checked net on a flat matrix of integers below 2^17 in magnitude, 16 rows a band; out may be latents."""
        each = None if isinstance(levels, int) else levels
        sound = fits(latents, np.float32, latents.size) and fits(out, np.float32, latents.size) and latents.size % max(CHUNK * cols, 1) == 0
        if not sound or (each is not None and not fits(each, np.uint8, cols)):
            return super().run_net(net, latents, cols, levels, out)
        data = net.data
        scratch = np.empty(self._library.wcodec_net_scratch(address(data)), np.uint8)
        own, level = (None, levels) if each is None else (address(each), 0)
        self._library.wcodec_run_net(
            address(data), address(latents), latents.size // CHUNK, cols, own, level, address(scratch), address(out)
        )  # fmt: skip

    def scale(self, x: F32, start: int, cols: int, steps: Lattice, dtype: DType, out: UInts) -> None:
        """Write x times the steps of its elements, flat from ``start`` on in a matrix, rounded to a float dtype."""
        each, columns = steps.rows.size > 1, steps.columns
        needed = -(-(start % max(cols, 1) + x.size) // max(cols, 1)) if each else 1
        sound = fits(x, np.float32, x.size) and fits(out, dtype.storage, x.size) and fits(steps.rows, np.float32, needed)
        if not cols or not sound or (columns is not None and not fits(columns, np.float32, cols)):
            return super().scale(x, start, cols, steps, dtype, out)
        of_columns = None if columns is None else address(columns)
        lattice = NativeLattice(address(steps.rows), of_columns, None, 0, each, 0, KINDS[dtype.name])
        self._library.wcodec_scale(address(x), start, x.size, cols, byref(lattice), address(out))
