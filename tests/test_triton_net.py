"""Nets by a kernel, interpreted: the integers of the oracle, also of nets that are too wide for it."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import pytest
from golden_nwc import small_net
from hypothesis import given
from hypothesis import strategies as st
from interpreted import TRITON, Room, quick, seeds, tensor
from test_net import near_the_bound

from wcodec import nets
from wcodec.backends.triton.net import net_kernel
from wcodec.coding import net as integer
from wcodec.coding.net import CHUNK, Net, parse
from wcodec.types import U8


def runs(net: Net, bands: int, cols: int, levels: int | U8, rng: np.random.Generator, size: int = 127) -> None:
    """Run a net into a guarded room, and in place."""
    latents = rng.integers(-size, size, (bands, CHUNK, cols), endpoint=True)
    want = integer.run(net, latents, levels).astype(np.float32).reshape(-1)
    flat = np.ascontiguousarray(latents.astype(np.float32)).reshape(-1)
    room, again = Room(flat.size, np.float32), tensor(flat)
    TRITON.run_net(net, tensor(flat), cols, levels, room.out)
    assert np.array_equal(room.whole[room.begin : room.end].view(np.uint32), want.view(np.uint32))
    assert (room.whole[: room.begin] == room.whole[0]).all() and (room.whole[room.end :] == room.whole[0]).all()
    TRITON.run_net(net, again, cols, levels, again)
    assert np.array_equal(again.numpy(), want)


@given(
    seeds, st.integers(1, 64), st.sampled_from([(1, 1), (3, 1), (2, 5), (1, 33), (5, 13), (0, 4), (2, 0)]), st.booleans(),
    st.sampled_from([1, 127, 2**17 - 1]),
)  # fmt: skip
@quick
def test_nets(seed: int, hidden: int, shape: tuple[int, int], each: bool, size: int) -> None:
    rng = np.random.default_rng(seed)
    net = small_net(rng, hidden, int(rng.integers(1, 9)))
    runs(net, *shape, rng.integers(0, net.levels, shape[1]).astype(np.uint8) if each else int(rng.integers(net.levels)), rng, size)


@pytest.mark.parametrize("hidden", [16, 32, 33, 64, 65, 1000])
def test_near_the_bound(hidden: int) -> None:
    """Sums that can just not reach 2^24, of nets that a kernel runs and of wider ones."""
    rng = np.random.default_rng(hidden)
    net, cols = near_the_bound(rng, hidden), 40
    runs(net, 2, cols, 0, rng)
    latents = np.zeros((1, CHUNK, cols), np.int64)
    latents[0] = 127 * np.sign(net.ops[0].weights[:1]).T  # the signs of a row of weights: the largest sum there is
    out = tensor(latents.astype(np.float32).reshape(-1))
    TRITON.run_net(net, out, cols, 0, out)
    assert np.array_equal(out.numpy().astype(np.int64).reshape(latents.shape), integer.run(net, latents, 0))


@pytest.mark.parametrize("name", nets.names())
def test_nets_of_this_package(name: str) -> None:
    rng = np.random.default_rng(0)
    net = parse(nets.load(name))
    runs(net, 2, 50, rng.integers(0, net.levels, 50).astype(np.uint8), rng)


def test_many_sections_and_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets of like width go together; levels that are not those of the columns are refused."""
    rng = np.random.default_rng(1)
    launches = 0
    run = net_kernel.__class__.__getitem__

    def counted(self: object, grid: object) -> object:
        nonlocal launches
        launches += self is net_kernel
        return run(self, grid)

    monkeypatch.setattr(net_kernel.__class__, "__getitem__", counted)
    both = [small_net(rng, hidden, 3) for hidden in (5, 7, 50)]
    latents = [rng.integers(-90, 90, 2 * CHUNK * cols).astype(np.float32) for cols in (3, 40, 9)]
    outs = [tensor(its) for its in latents]
    with TRITON.batch() as batch:
        for net, out, cols in zip(both, outs, (3, 40, 9), strict=True):
            with batch.tape("x"):
                TRITON.run_net(net, out, cols, 2, out)
    assert launches == 2
    for net, out, its, cols in zip(both, outs, latents, (3, 40, 9), strict=True):
        assert np.array_equal(out.numpy(), integer.run(net, its.reshape(-1, CHUNK, cols), 2).reshape(-1))
    with pytest.raises(ValueError, match="columns"):
        TRITON.run_net(both[0], outs[0], 3, np.zeros(2, np.uint8), outs[0])
