"""nwc: sections of every kind in whole and in windows on every backend, the encoder, rules, the recipe."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import pytest
from battery import BACKENDS, altered, breaks, decoded, make_env, raw, same_bits
from golden_nwc import decided, small_net
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import finite, finite_tensors, windows

import wcodec.sections as sections_of
from wcodec import nets
from wcodec.codecs import CODECS, check
from wcodec.codecs.base import stored_size
from wcodec.codecs.floats.nwc import assemble, resource
from wcodec.codecs.matrix import matrix_shape
from wcodec.coding.net import pack
from wcodec.coding.numbers import LOSSY, to_float32
from wcodec.errors import EncodeError, LimitExceeded, RecipeError, UnknownCodec
from wcodec.recipes.nwc import NWC
from wcodec.types import Resource, Section, Spec

SMALL = Spec.of("F32", 40, 131)


class Chance:
    """What ``decided`` takes its numbers from."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)


@st.composite
def sections(draw: st.DrawFn) -> tuple[Spec, Section]:
    b = Chance(draw(st.integers(0, 2**32)))
    shape = draw(st.sampled_from([(1, 1), (3, 7), (40, 131), (130, 128), (9, 700), (300, 2), (0, 5), (5, 0)]))
    spec, net = Spec.of(draw(st.sampled_from(LOSSY)), *shape), small_net(b.rng, 6, 3)
    options = {name: True for name in ("rows", "columns", "levels") if draw(st.booleans())}
    most = draw(st.sampled_from([4, 40, 200, 700, 3000]))
    options |= {"trellis": int(b.rng.integers(2, 9))} if draw(st.booleans()) else {}
    options |= {"tile": draw(st.sampled_from([(16, 128), (7, 256), (1024, 128)]))} if draw(st.booleans()) else {}
    its = decided(b, matrix_shape(spec), net, most, **options, bits=0 if most < 256 else 5)
    return spec, assemble(its, spec, make_env(), Resource(Spec.of("U8", net.data.size), raw(net.data)))


@given(sections(), st.data())
@settings(max_examples=40, deadline=None)
def test_sections(drawn, data):
    """All backends decode the same bits, whole and in windows."""
    spec, section = drawn
    check(section, spec, make_env())
    want = decoded(section, spec, make_env())
    for name in (*BACKENDS, "torch"):
        for start, stop in (data.draw(windows(spec.count)), (0, spec.count)):
            fresh = Section("nwc", section.params, section.parts)
            assert same_bits(decoded(fresh, spec, make_env(name), start, stop), want[start:stop])


@given(finite_tensors(), st.sampled_from((0.1, 1.0)), st.sampled_from((0, 4, 16)), st.sampled_from(("tensor", "rows", "columns")))
@settings(max_examples=20, deadline=None)
def test_encode(tensor, relative, states, steps):
    """Any weights come back within a few steps of the root mean square, in the same bits everywhere."""
    spec, x = tensor
    if spec.count > 3000:
        return
    section = CODECS["nwc"].encode(x, spec, make_env(), relative=relative, states=states, steps=steps, net=nets.IDENTITY)
    check(section, spec, make_env())
    got, want = (to_float32(y, spec.dtype).astype(np.float64) for y in (decoded(section, spec, make_env()), x))
    if steps == "tensor":
        size = np.sqrt(np.mean(want**2)) if want.any() else 1
        assert (np.abs(got - want) <= 8 * relative * size + np.abs(want) * 2.0**-8).all()
    for name in BACKENDS:
        assert same_bits(decoded(section, spec, make_env(name)), decoded(section, spec, make_env()))


def test_search_pays():
    """Latents that were searched for are better than rounded ones, and a random net's level is chosen."""
    spec, net = Spec.of("F32", 64, 128), small_net(np.random.default_rng(3), 8, 4)
    x = np.random.default_rng(0).standard_normal(spec.count).astype(np.float32)

    def cost(**options):
        section = CODECS["nwc"].encode(x.view(np.uint32), spec, make_env(), relative=0.25, states=0, net=net.data, slope=0.0, **options)
        return float(np.mean((decoded(section, spec, make_env()).view(np.float32) - x) ** 2))

    rounded, aimed, swept = cost(rounds=0, sweeps=0), cost(rounds=2, sweeps=0), cost()
    assert swept <= aimed <= rounded and swept < 0.9 * rounded
    assert cost() <= min(cost(level=level, rounds=0, sweeps=0) for level in range(4))


def test_near_trellis():
    """With the net that adds nothing, sections take what those of trellis and uniform take, and err as little."""
    spec = Spec.of("F32", 256, 256)
    x = np.random.default_rng(0).standard_normal(spec.count).astype(np.float32)
    plain = CODECS["trellis"].encode(x.view(np.uint32), spec, make_env(), relative=0.4, points=False)
    same = CODECS["nwc"].encode(x.view(np.uint32), spec, make_env(), relative=0.4, net=nets.IDENTITY, by_digest=True)
    assert same_bits(decoded(same, spec, make_env()), decoded(plain, spec, make_env()))
    assert abs(stored_size(same) - stored_size(plain)) < 100


def test_resources():
    """Encoders share the resource of a net; constructors take arrays."""
    x, codec = finite(1, SMALL), CODECS["nwc"]
    made = [codec.encode(x, SMALL, make_env(), net=pack(small_net(np.random.default_rng(1))), states=4) for _ in range(2)]
    assert made[0].parts["net"] is made[1].parts["net"]
    latents = np.random.default_rng(0).integers(90, 110, (48, 131))
    shared = sections_of.share(pack(small_net(np.random.default_rng(1))))
    for options in ({}, {"trellis": 8}, {"level": np.zeros(131), "tile": (16, 128)}):
        coded = sections_of.nwc(latents, shared, 0.1, shape=(40, 131), zero=100, **options)
        assert coded.spec == SMALL and decoded(coded.section, coded.spec, make_env()).size == SMALL.count
    coded = sections_of.nwc(latents, nets.digest(nets.IDENTITY), 0.5, shape=(40, 131), zero=100)
    values = decoded(coded.section, coded.spec, make_env()).view(np.float32)
    assert np.array_equal(values, (latents[:40].reshape(-1) - 100) * np.float32(0.5))


def test_options():
    x, codec = finite(1, SMALL), CODECS["nwc"]
    for options in ({"states": 7}, {"step": 1.0, "relative": 1.0}, {"step": 0.0}, {"step": -1.0}, {"step": 1e-9},
                    {"step": 1e-9, "states": 0}, {"step": float("nan")}, {"steps": "cells"}, {"net": "none such"}):  # fmt: skip
        with pytest.raises(EncodeError):
            codec.encode(x, SMALL, make_env(), **options)
    for bad in ({"step": 0.0}, {"relative": -1.0}, {"states": 3}, {"steps": "all"}, {"net": "none such"}):
        with pytest.raises(RecipeError):
            NWC(**bad)


def test_rules():
    section = CODECS["nwc"].encode(finite(1, SMALL), SMALL, make_env(), tile=(16, 128), states=4, net=nets.IDENTITY)
    for bad in ({"zero": 1}, {"zero": -2}, {"zero": 256}, {"step": 0}, {"step": 0x76800000}, {"wide": 0}, {"rows": 1}, {"level": 255},
                {"levels": True, "level": 0}, {"net_size": 0}, {"net_size": None}, {"digest": bytes(32)}, {"step": None}):  # fmt: skip
        breaks("NWC-1", altered(section, **bad), SMALL)
    breaks("NWC-2", altered(section, {"latents": raw(np.zeros(48 * 131, np.uint8))}), SMALL)
    breaks("NWC-4", altered(section, level=1), SMALL)
    breaks("NET-1", altered(section, {"net": raw(np.zeros(25, np.uint8))}, net_size=25), SMALL)
    named = CODECS["nwc"].encode(finite(1, SMALL), SMALL, make_env(), net=nets.IDENTITY, by_digest=True)
    breaks("NWC-3", altered(named, digest=bytes(32)), SMALL, UnknownCodec)


def test_work_counts():
    """A large net over many weights is refused as what takes too long."""
    latents = Section("const", {"value": b"\0"}, {})
    section = Section("nwc", {"zero": 0, "step": 1, "net_size": 2**24}, {"latents": latents, "net": Section("const", {"value": b"\0"}, {})})
    with pytest.raises(LimitExceeded):
        check(section, Spec.of("F32", 2**12, 2**12), make_env(decoded=2**30))


def test_recipe():
    """The recipe falls back where the net saves nothing, and says so."""
    x = finite(1, SMALL)
    for states, plain in ((8, "trellis"), (0, "uniform")):
        method = NWC(states=states, net=nets.IDENTITY)
        assert method.encode("x", x, SMALL, make_env()).codec == plain and method.notes == ["x: the net saves nothing"]
        method = NWC(states=states, net=nets.IDENTITY, always=True)
        assert method.encode("x", x, SMALL, make_env()).codec == "nwc" and not method.notes


class Sources:
    """Tensors of one file, all with the same values."""

    def __init__(self, count: int) -> None:
        self.names = [f"w{i}" for i in range(count)]

    def spec(self, name: str) -> Spec:
        return SMALL

    def read(self, name: str):
        return nullcontext(finite(1, SMALL))

    def file(self, name: str) -> str:
        return "m"


def test_stored_net(monkeypatch):
    """A net in the file is used where it saves more than its bytes, of all tensors together; one that is named costs none."""
    saved, sources = {f"w{i}": 0.5 - i % 2 for i in range(60)}, Sources(60)
    monkeypatch.setattr(NWC, "_saves", lambda self, name, x, spec, env: saved[name])

    def taken(count: int, **options) -> set[str]:
        method = NWC(states=0, net=None, **options)
        method.prepare(sources.names[:count], sources, make_env())
        x = finite(1, SMALL)
        return {name for name in sources.names[:2] if method.encode(name, x, SMALL, make_env()).codec == "nwc"}

    enough = 2 * int(8 * nets.load("fast").size / (0.5 * SMALL.count))
    assert taken(2, by_digest=True) == taken(enough + 2) == {"w0"}
    assert taken(enough) == set()
    section = NWC(always=True).encode("w0", finite(1, SMALL), SMALL, make_env())
    assert "net" in section.parts and "digest" not in section.params


def test_one_net_for_all_threads():
    """Threads that encode at once share one resource."""
    data = pack(small_net(np.random.default_rng(5)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: resource(data.copy(), make_env()), range(64)))
    assert len(set(map(id, found))) == 1


def test_little_padding():
    """Rows that only fill up a chunk are no concern of the search."""
    spec = Spec.of("F32", 3, 400)
    x = np.random.default_rng(0).standard_normal(spec.count).astype(np.float32)
    section = CODECS["nwc"].encode(x.view(np.uint32), spec, make_env(), relative=0.1, states=8, net=nets.IDENTITY)
    assert np.square(decoded(section, spec, make_env()).view(np.float32) - x).mean() < 0.45 * 0.1**2
