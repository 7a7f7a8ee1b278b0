"""Verbs of neural codecs (spec/net.md, spec/codecs/nwc.md)."""

from __future__ import annotations

import numpy as np

from wcodec.backends.numpy.floats import FloatVerbs
from wcodec.coding import net as nets
from wcodec.coding.net import CHUNK, F32, Net
from wcodec.coding.numbers import check_subnormals
from wcodec.coding.trellis import Lattice
from wcodec.types import U8, DType, UInts


class NetVerbs(FloatVerbs):
    """Integers through a net, in float32 that holds them exactly, and times their steps."""

    def run_net(self, net: Net, latents: F32, cols: int, levels: int | U8, out: F32) -> None:
        """Run a checked net on a flat matrix of integers below 2^17 in magnitude, 16 rows a band; out may be latents.

        levels: of all columns, or one each, below the net's.
        """
        shape = (-1, CHUNK, max(cols, 1))
        out.reshape(shape)[:] = nets.run(net, latents.reshape(shape), levels)

    def scale(self, x: F32, start: int, cols: int, steps: Lattice, dtype: DType, out: UInts) -> None:
        """Write x times the steps of its elements, flat from ``start`` on in a matrix, rounded to a float dtype.

        Subnormal numbers count, or BackendUnavailable is raised.
        """
        check_subnormals()
        values = out.view(np.float32) if dtype.name == "F32" else np.empty(out.size, np.float32)
        with np.errstate(over="ignore", under="ignore"):
            np.multiply(steps.steps(start, x.size, cols), x, out=values)
        self.round_floats(values, dtype, out)
