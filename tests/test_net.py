"""Nets: bytes, bounds, and the same integers from every arithmetic, order of terms, instruction set and number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from battery import ROOT, make_env
from golden_nwc import output, small_net
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import each, needs_native
from strategies import LARGEST

from wcodec import nets
from wcodec.coding import net as integer
from wcodec.coding.net import CHUNK, EXACT, FINAL, Gate, Linear, Net, Requantise, Residual, Save, pack, parse
from wcodec.errors import Corrupt


def near_the_bound(rng: np.random.Generator, hidden: int) -> Net:
    """A net whose first and last sums can just not reach 2^24 and 2^23, of weights and latents of any size."""

    def filled(outputs: int, inputs: int, most: int) -> Linear:
        weights = rng.choice(np.array([-127, 127, 126, -1, 64], np.int8), (outputs, inputs))
        left = most - 1 - np.abs(weights.astype(np.int64)).sum(1) * 127
        return Linear(weights, (left * rng.choice([-1, 1], outputs)).astype(np.int32))

    one, shift = np.ones(hidden, np.uint8), int(rng.integers(7))
    low = int(rng.choice([0, 127]))  # with 0, kernels know that no input is negative
    middle = Requantise(low, 127, 17 * one), Save(), Residual(one), Requantise(low, 127, one)
    if hidden < 400:
        last = (filled(CHUNK, hidden, FINAL),)
    else:
        last = filled(CHUNK, hidden, EXACT - (1 << 7)), Requantise(32767, 32767, np.full(CHUNK, 8, np.uint8))
    return Net(127, shift, 1, (filled(hidden, CHUNK, EXACT - (1 << 16)), *middle, *last)).check()


@st.composite
def nets_and_latents(draw: st.DrawFn):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    extreme = draw(st.booleans())
    net = (
        near_the_bound(rng, draw(st.sampled_from([1, 2, 17, 64, 600, 1000])))
        if extreme
        else small_net(rng, draw(st.integers(1, 40)), draw(st.integers(1, 9)))
    )
    bands, cols = draw(st.sampled_from([(1, 1), (3, 1), (2, 5), (1, 64), (1, 65), (5, 13), (1, 130), (0, 4), (2, 200)]))
    size = draw(st.sampled_from([1, 4, 127, 2**17 - 1]))
    latents = rng.integers(-size, size, (bands, CHUNK, cols), endpoint=True)
    if extreme and latents.size:  # the signs of a row of weights: the largest sum there is
        latents[0, :, 0] = 127 * np.sign(net.ops[0].weights[0])
    levels = rng.integers(0, net.levels, cols).astype(np.uint8) if draw(st.booleans()) else int(rng.integers(net.levels))
    return net, latents, levels


@given(nets_and_latents())
@settings(max_examples=60, deadline=None)
def test_exact(drawn):
    """int64, float32 products in any order of terms, C with every instruction set, and torch agree."""
    net, latents, levels = drawn
    want = integer.run(net, latents, levels)
    flat, cols = np.ascontiguousarray(latents.astype(np.float32)).reshape(-1), latents.shape[2]
    assert np.array_equal(integer.run(net, latents.astype(np.float32), levels).astype(np.int64), want)
    for backend in (make_env().backend, *each()):
        out = flat.copy()
        backend.run_net(net, out, cols, levels, out)
        assert np.array_equal(out.astype(np.int64).reshape(want.shape), want) and not np.signbit(out[out == 0]).any()
    device = make_env("torch").backend
    found = torch.empty(flat.size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        device.run_net(net, torch.from_numpy(flat), cols, levels, found)
    assert np.array_equal(found.numpy().astype(np.int64).reshape(want.shape), want)
    if latents.size:
        level = levels if isinstance(levels, int) else int(levels[-1])
        assert output(net, latents[-1, :, -1], level) == want[-1, :, -1].tolist()


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_order_of_terms(seed):
    """Hidden numbers in another order, and with it the terms of every sum, give the same result."""
    rng = np.random.default_rng(seed)
    net = near_the_bound(rng, 500)
    order = rng.permutation(500)
    first, *middle, last, end = net.ops
    other = replace(net, ops=(Linear(first.weights[order], first.bias[order]), *middle, Linear(last.weights[:, order], last.bias), end))
    x = rng.integers(-127, 128, (2, CHUNK, 9)).astype(np.float32)
    assert np.array_equal(integer.run(net, x, 0), integer.run(other, x, 0))


@needs_native
def test_threads():
    rng = np.random.default_rng(0)
    net, cols = small_net(rng, 30, 4), 100
    latents, levels = rng.integers(-30, 30, 64 * cols).astype(np.float32), rng.integers(0, 4, cols).astype(np.uint8)
    want = integer.run(net, latents.astype(np.int64).reshape(-1, CHUNK, cols), levels).reshape(-1)

    def run(_):
        out = np.empty_like(latents)
        make_env("native").backend.run_net(net, latents, cols, levels, out)
        return out

    for threads in (1, 2, 5):
        with ThreadPoolExecutor(threads) as pool:
            assert all(np.array_equal(out.astype(np.int64), want) for out in pool.map(run, range(12)))
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        out = torch.empty(latents.size)
        make_env("torch").backend.run_net(net, torch.from_numpy(latents), cols, levels, out)
        torch.set_num_threads(before)
        assert np.array_equal(out.numpy().astype(np.int64), want)


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_bytes(seed):
    rng = np.random.default_rng(seed)
    net = small_net(rng, int(rng.integers(1, 20)), int(rng.integers(1, 5)))
    again = parse(pack(net))
    assert pack(again).tobytes() == net.data.tobytes() and net.data.size < LARGEST
    x = rng.integers(-200, 200, (1, CHUNK, 7))
    assert np.array_equal(integer.run(again, x, 0), integer.run(net, x, 0))


@given(st.integers(0, 2**32), st.integers(1, 8))
@settings(max_examples=80)
def test_damage(seed, changes):
    """Any bytes are refused with a rule, or are a net that every arithmetic runs alike."""
    rng = np.random.default_rng(seed)
    data = pack(small_net(rng, 3, 2)).copy()
    data[rng.integers(data.size, size=changes)] = rng.integers(0, 256, changes)
    try:
        net = parse(data[: rng.integers(data.size + 1)] if rng.integers(3) == 0 else data)
    except Corrupt as error:
        assert error.rule in ("NET-1", "NET-2", "NET-3", "NET-4")
        return
    x = rng.integers(-150, 150, (1, CHUNK, 5))
    want = integer.run(net, x, 0)
    assert np.abs(want).max() < EXACT
    assert np.array_equal(integer.run(net, x.astype(np.float32), 0), want)
    for backend in each():
        out = x.astype(np.float32).reshape(-1)
        backend.run_net(net, out, 5, 0, out)
        assert np.array_equal(out.reshape(x.shape), want)


def test_just_outside():
    """Where one unit more is too much."""
    ones = np.ones((CHUNK, CHUNK), np.int8)
    for bias, wanted in ((EXACT - 1 - CHUNK * 127, None), (EXACT - CHUNK * 127, "NET-4")):
        ops = (Linear(ones, np.full(CHUNK, bias, np.int32)), Gate(np.zeros((1, CHUNK), np.int8)))
        assert refused(Net(127, 0, 1, ops)) == wanted
    for bias, wanted in ((FINAL - 1 - CHUNK * 127, None), (FINAL - CHUNK * 127, "NET-4")):
        assert refused(Net(127, 0, 1, (Linear(ones, np.full(CHUNK, bias, np.int32)),))) == wanted
    linear = Linear(ones, np.zeros(CHUNK, np.int32))
    for high, wanted in ((127, None), (128, "NET-3")):
        assert refused(Net(127, 0, 1, (linear, Requantise(0, high, np.zeros(CHUNK, np.uint8)), linear))) == wanted


def refused(net: Net) -> str | None:
    try:
        parse(pack(net))
    except Corrupt as error:
        return error.rule
    return None


def test_nets_of_the_package():
    """The page names every net; each is what it was, and good."""
    text = (ROOT / "spec/net.md").read_text()
    for name in nets.names():
        assert f"| `{name}` | {nets.load(name).size} | `{nets.digest(name).hex()}` |" in text
        assert nets.find(nets.digest(name)) is nets.load(name)
        parse(nets.load(name))
    assert nets.find(bytes(32)) is None
    x = np.arange(-96, 96).reshape(1, CHUNK, 12)
    assert np.array_equal(integer.run(parse(nets.load(nets.IDENTITY)), x, 0), x)


def test_worked_example():
    import re

    text = (ROOT / "spec/net.md").read_text().split("Worked example")[1]
    found = [bytes.fromhex(its) for its in re.findall(r"`((?:[0-9a-f]{2})(?: [0-9a-f]{2})*)`", text)]
    head, one, weights, bias, gate, requantise, two, last, zero, end = found
    net = parse(np.frombuffer(head + one + weights + bias + gate + requantise + two + last + zero * 16 + end, np.uint8))
    for k, level, want in (((4, 1), 0, (23, 4)), ((1, 0), 1, (6, 0)), ((-200, 7), 0, (-800, 28))):
        latents = [*k, *[0] * 13, 2]
        made = integer.run(net, np.array(latents).reshape(1, CHUNK, 1), level).reshape(-1).tolist()
        assert made[:2] == list(want) and made[2:15] == [0] * 13 and made[15] == (8 if k[0] == -200 else 1)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16", "F64"])
def test_scale(dtype):
    from wcodec.coding.trellis import Lattice
    from wcodec.types import DTYPES

    rng = np.random.default_rng(0)
    for rows, start, count, cols in ((1, 0, 50, 7), (9, 3, 50, 7), (1, 5, 4000, 3000), (3, 10, 4096, 2049)):
        for columns in (None, np.exp2(rng.standard_normal(cols) * 20).astype(np.float32)):
            steps = Lattice(0, 0, np.exp2(rng.standard_normal(rows) * 40).astype(np.float32), columns)
            x = rng.integers(-(2**24) + 1, 2**24, count).astype(np.float32)
            want = np.empty(count, DTYPES[dtype].storage)
            make_env().backend.scale(x, start, cols, steps, DTYPES[dtype], want)
            for backend in each():
                out = np.empty_like(want)
                backend.scale(x, start, cols, steps, DTYPES[dtype], out)
                assert out.tobytes() == want.tobytes()
