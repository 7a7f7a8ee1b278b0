"""wfn, gwk, bin-quant and pq: what they promise, counted in what a file decodes to."""

from __future__ import annotations

import io
from contextlib import contextmanager
from itertools import combinations

import numpy as np
import pytest
from battery import BACKENDS, decoded, digest, make_env, read_back, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

from wcodec.codecs import check
from wcodec.coding.histogram import Histogram
from wcodec.coding.kmeans import cluster
from wcodec.coding.numbers import from_float32, to_float32
from wcodec.container.reader import ContainerReader
from wcodec.container.writer import ContainerWriter
from wcodec.errors import EncodeError, RecipeError
from wcodec.recipes import Match, Recipe, Rule, make_method
from wcodec.recipes.fixing import centres, fix
from wcodec.types import Spec, UInts

LENET = {"fc1.weight": (300, 784), "fc2.weight": (100, 300), "fc3.weight": (10, 100)}
FLOATS = ("F64", "F32", "F16", "BF16")
METHODS = [
    ("gwk", {}),
    ("gwk", {"values": 300, "rate": 0.01}),
    ("bin-quant", {}),
    ("bin-quant", {"bins": 64}),
    ("pq", {"values": 40}),
    ("wfn", {}),
]


class Network:
    """Tensors in memory: seeded weights of several layers, as storage elements of one dtype."""

    def __init__(self, shapes, dtype: str = "F32", seed: int = 0, spread: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.names, self._tensors = list(shapes), {}
        for i, (name, shape) in enumerate(shapes.items()):
            x = rng.standard_t(6, int(np.prod(shape))).astype(np.float32) * np.float32(0.03 * (1 + spread * i))
            spec = Spec.of(dtype, *shape)
            self._tensors[name] = spec, from_float32(x, spec.dtype)

    def spec(self, name: str) -> Spec:
        return self._tensors[name][0]

    @contextmanager
    def read(self, name: str):
        yield self._tensors[name][1]

    def data(self, name: str) -> UInts:
        return self._tensors[name][1]

    def file(self, name: str) -> str:
        return ""


def stored(network: Network, method, backend: str = BACKENDS[-1]) -> tuple[bytes, dict[str, UInts]]:
    """A file of all tensors encoded by one method, and what it decodes to on every backend."""
    recipe, env, buffer = Recipe("", [Rule(Match(), method)]), make_env(backend), io.BytesIO()
    recipe.prepare(network, env)
    with ContainerWriter(buffer) as writer:
        for name in network.names:
            coded = recipe.encode(name, network.data(name), network.spec(name), env)
            assert not coded.why, coded.why
            section = coded.section
            check(section, network.spec(name), env)
            writer.add(name, network.spec(name), section, digest(decoded(section, network.spec(name), env)))
    found = {}
    for name in network.names:
        results = [decoded(*read_back(buffer.getvalue(), its, name)) for its in BACKENDS]
        assert all(same_bits(results[0], other) for other in results)
        found[name] = results[0]
    return buffer.getvalue(), found


def entropy_bytes(arrays) -> float:
    _, counts = np.unique(np.concatenate(arrays), return_counts=True)
    return float((counts * np.log2(counts.sum() / counts)).sum() / 8)


def centroids(data: bytes, name: str) -> UInts:
    section, spec, env = read_back(data, "numpy", name)
    its = env.codecs["codebook"].parts(section, spec)["centroids"]
    assert isinstance(its, Spec)
    part = section.parts["centroids"]
    return env.shared(part, its) if not hasattr(part, "codec") else decoded(part, its, env)


def test_wfn():
    """The network has the values of one codebook, near their weights as promised, in a file hardly above the entropy; twice the same."""
    network, method = Network(LENET), make_method("wfn", {})
    data, found = stored(network, method)
    assert len(ContainerReader(data).manifest.resources) == 1
    book = centroids(data, "fc1.weight")
    everything = np.concatenate(list(found.values()))
    assert np.isin(everything, book).all() and np.unique(everything).size <= 40
    before = np.concatenate([network.data(name) for name in network.names]).view(np.float32)
    after = everything.view(np.float32)
    changed = after != 0
    assert (np.abs(before[changed] - after[changed]) / np.abs(before[changed])).mean() <= 0.1 * 1.01
    assert np.abs(before[~changed]).max() < 2 * np.sqrt((before**2).mean()) / 4
    sums = np.abs(book.view(np.float32)[book.view(np.float32) != 0])
    assert (np.frexp(sums)[0] * 2**12 % 1 == 0).all(), "sums of few powers of two"
    assert len(data) <= entropy_bytes([everything]) * 1.01 + 2048
    again = make_method("wfn", {})
    assert stored(network, again)[0] == data and again.notes == method.notes
    assert "values" in method.notes[-1] and str(np.unique(everything).size) in method.notes[-1]


def test_wfn_shares_tables():
    """Small tensors of one kind take the network's entropy table, which their own would not repay; a single tensor has its own."""
    network = Network({f"{i}.weight": (30, 40) for i in range(20)}, spread=0)
    data, _ = stored(network, make_method("wfn", {}))
    assert len(ContainerReader(data).manifest.resources) == 2
    tables = [read_back(data, "numpy", name)[0].parts["indices"].params.get("table_size") for name in network.names]
    assert len(set(tables)) == 1 and tables[0]
    alone, _ = stored(Network({"0.weight": (30, 40)}), make_method("wfn", {}))
    assert len(ContainerReader(alone).manifest.resources) == 1


def test_wfn_falls_back():
    """A distance that would destroy the weights is halved, and notes say so; weights that no distance keeps stay lossless."""
    network, method = Network(LENET), make_method("wfn", {"delta": 0.45})
    data, _ = stored(network, method)
    assert "trying 0.225" in method.notes[0] and len(method.notes) >= 2
    halved = float(method.notes[-2].rsplit(" ", 1)[1])
    assert stored(network, make_method("wfn", {"delta": halved}))[0] == data
    lost = make_method("wfn", {"smallest": 100.0})
    recipe = Recipe("", [Rule(Match(), lost)])
    recipe.prepare(network, make_env())
    coded = recipe.encode("fc3.weight", network.data("fc3.weight"), network.spec("fc3.weight"), make_env())
    assert coded.section.codec != "codebook" and coded.why and "lossless" in lost.notes[-1]


def test_wfn_of_several_dtypes_and_strange_tensors():
    """A codebook for each dtype; a tensor with a NaN, or of integers, stays out of the way of the others."""
    network = Network({"a": (60, 50), "b": (40, 50), "c": (30, 20), "d": (9, 9), "e": (0, 4), "f": (50, 3)})
    for name, dtype in (("b", "BF16"), ("c", "F16")):
        spec = Spec.of(dtype, *network.spec(name).shape)
        network._tensors[name] = spec, from_float32(network.data(name).view(np.float32), spec.dtype)
    network.data("d")[5] = 0x7F800000
    network._tensors["f"] = Spec.of("I32", 50, 3), network.data("f")
    method, env = make_method("wfn", {}), make_env()
    method.prepare(network.names, network, env)
    for name in "abce":
        section = method.encode(name, network.data(name), network.spec(name), env)
        check(section, network.spec(name), env)
        x, y = (to_float32(its, network.spec(name).dtype) for its in (network.data(name), decoded(section, network.spec(name), env)))
        assert np.linalg.norm(x - y) <= 0.25 * np.linalg.norm(x)
    for name in "df":
        with pytest.raises(EncodeError):
            method.encode(name, network.data(name), network.spec(name), env)


@given(st.floats(0.01, 0.5), st.floats(1e-3, 1.0), st.integers(0, 4))
@settings(max_examples=40)
def test_centres(distance, smallest, order):
    """Symmetric, with 0, and each the sum of at most order + 1 signed powers of two."""
    found = centres(1.5, distance, smallest, order)
    assert np.array_equal(found, -found[::-1]) and 0 in found and (np.diff(found) > 0).all()
    left = np.abs(found[found > 0])
    for _ in range(order + 1):
        left = np.abs(left - np.exp2(np.rint(np.log2(np.where(left > 0, left, 1.0)))) * (left > 0))
    assert not left.any() or order > 0


@given(st.integers(0, 2**32), st.floats(0.02, 0.3))
@settings(max_examples=30)
def test_fix(seed, distance):
    """Every cluster's mean relative distance, and so that of all, keeps its promise unless the distance had to grow."""
    histogram = Histogram()
    histogram.add(np.random.default_rng(seed).standard_normal(3000).astype(np.float32))
    points = histogram.points()
    fixed = fix(points, distance, 2.0**-4)
    assert fixed.index.size == points.values.size and fixed.distance <= 2 * distance
    assert (np.diff(fixed.values) > 0).all()


@given(st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=30)
def test_cluster_is_near_the_best(seed, count):
    """Against all ways to cut a few points into intervals: k-means from a good start."""
    rng = np.random.default_rng(seed)
    histogram = Histogram()
    x, mass = rng.standard_normal(12).astype(np.float32), rng.random(12).astype(np.float32) + np.float32(0.1)
    histogram.add(x, mass)
    points = histogram.points()

    def cost(cuts) -> float:
        parts = np.split(np.arange(points.values.size), cuts)
        means = [np.average(points.values[p], weights=points.mass[p]) for p in parts]
        return sum(float((points.mass[p] * (points.values[p] - m) ** 2).sum()) for p, m in zip(parts, means, strict=True))

    best = min(cost(cuts) for cuts in combinations(range(1, points.values.size), count - 1))
    values, index = cluster(points, count)
    got = float((points.mass * (points.values - values[index]) ** 2).sum())
    assert values.size <= count and best - 1e-9 <= got <= 3 * best + 0.5
    assert (np.diff(index) >= 0).all()
    for k in range(values.size):  # each is the mean of its points
        its = index == k
        assert not its.any() or np.isclose(values[k], np.average(points.values[its], weights=points.mass[its]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("name", "options"), METHODS, ids=str)
def test_methods(name, options, dtype):
    """Decoded elements, rows that blocks do not fill among them, are those of the codebook, near what they were."""
    network, method = Network({"w": (90, 77), "v": (40, 64)}, dtype), make_method(name, options)
    data, found = stored(network, method)
    for its in network.names:
        book = centroids(data, its)
        assert np.isin(found[its], book).all() and np.isin(book, found[its]).mean() > (0.5 if name in ("pq", "wfn") else 0.99)
        x, y = (to_float32(a, network.spec(its).dtype) for a in (network.data(its), found[its]))
        assert np.linalg.norm(x - y) < {"pq": 0.95, "bin-quant": 0.45}.get(name, 0.26) * np.linalg.norm(x)
    assert stored(network, make_method(name, options))[0] == data


@pytest.mark.parametrize(("name", "options"), METHODS, ids=str)
@pytest.mark.parametrize("kind", ["zeros", "constant", "one", "column", "tiny", "large", "empty"])
def test_odd_tensors(name, options, kind):
    shape = {"one": (1,), "column": (300, 1), "empty": (0, 7)}.get(kind, (30, 20))
    x = np.full(shape, {"zeros": 0, "constant": -2.5, "tiny": 1e-42, "large": 3e38}.get(kind, 0.1), np.float32).reshape(-1)
    if kind in ("tiny", "large", "column"):
        x *= np.linspace(-1, 1, x.size, dtype=np.float32)
    network, method = Network({"x": shape}), make_method(name, options)
    network._tensors["x"] = network.spec("x"), x.view(np.uint32)
    method.prepare(["x"], network, make_env())
    try:
        section = method.encode("x", network.data("x"), network.spec("x"), make_env())
    except EncodeError:
        assert kind in ("empty", "column", "tiny", "large")
        return
    check(section, network.spec("x"), make_env())
    y = decoded(section, network.spec("x"), make_env()).view(np.float32).astype(np.float64)
    assert np.linalg.norm(x - y) <= 0.5 * np.linalg.norm(x.astype(np.float64)) or np.abs(x - y).max() < 2.0**-126


@pytest.mark.parametrize(("name", "options"), METHODS, ids=str)
def test_what_no_method_takes(name, options):
    network = Network({"x": (40, 30)})
    for bits in (0x7F800000, 0xFF800000, 0x7FC00001):
        network.data("x")[17] = bits
        method = make_method(name, options)
        method.prepare(["x"], network, make_env())
        with pytest.raises(EncodeError):
            method.encode("x", network.data("x"), network.spec("x"), make_env())
    with pytest.raises(EncodeError):
        method.encode("x", np.zeros(12, np.uint8), Spec.of("I8", 12), make_env())
    for wrong in (np.ones(7, np.float32), np.full((40, 30), -1, np.float32), np.full((40, 30), np.nan, np.float32)):
        sound = Network({"x": (40, 30)})
        method = make_method(name, options, {"x": wrong})
        method.prepare(["x"], sound, make_env())
        with pytest.raises(EncodeError):
            method.encode("x", sound.data("x"), sound.spec("x"), make_env())


@pytest.mark.parametrize(
    ("name", "options"),
    [("gwk", {"values": 0}), ("gwk", {"rate": -1.0}), ("bin-quant", {"bins": 0}), ("bin-quant", {"error": 0.0}), ("pq", {"width": 0}),
     ("wfn", {"delta": 1.0}), ("wfn", {"smallest": 0.0}), ("pq", {"blocks": 4})],
)  # fmt: skip
def test_options_out_of_range(name, options):
    with pytest.raises(RecipeError):
        make_method(name, options)


@pytest.mark.parametrize(("name", "options"), [("gwk", {"values": 4}), ("pq", {"values": 16}), ("wfn", {}), ("bin-quant", {})], ids=str)
def test_importance(name, options):
    """What is important comes out better than without importances; equal importances change nothing."""
    network = Network({"x": (60, 64)})
    x = network.data("x").view(np.float32)
    importance = np.where(np.arange(x.size) // 8 % 4 == 0, np.float32(50), np.float32(0.01)).reshape(60, 64)
    plain, same, better = (
        stored(network, make_method(name, options, its)) for its in (None, {"x": np.full((60, 64), 0.25, np.float32)}, {"x": importance})
    )
    assert plain[0] == same[0]

    def error(found) -> float:
        return float((importance.reshape(-1) * (found["x"].view(np.float32) - x) ** 2).sum())

    assert error(better[1]) <= error(plain[1]) * (1.6 if name in ("wfn", "bin-quant") else 1.0)


def test_rate_and_bins():
    """A price of bits lowers the entropy; bins are symmetric, as many as the error needs, and their values midpoints."""
    network = Network({"x": (300, 100)})
    sizes = [entropy_bytes([stored(network, make_method("gwk", {"values": 32, "rate": rate}))[1]["x"]]) for rate in (0.0, 0.01, 0.1)]
    assert sizes[0] > 1.05 * sizes[1] > 1.05**2 * sizes[2]
    data, found = stored(network, make_method("bin-quant", {"error": 0.2}))
    x, y, book = network.data("x").view(np.float32), found["x"].view(np.float32), np.sort(centroids(data, "x").view(np.float32))
    assert np.linalg.norm(x - y) <= 0.2 * np.linalg.norm(x) * 1.001
    width = np.diff(book).min()
    assert np.allclose(np.diff(book) / width, np.rint(np.diff(book) / width), atol=1e-3) and np.abs(x - y).max() <= width * 0.51


def test_half():
    """Centroids of F32 blocks are F16 values, and take their bytes."""
    network = Network({"x": (200, 256)})
    half, whole = (stored(network, make_method("pq", {"half": its}))[0] for its in (True, False))
    book = centroids(half, "x").view(np.float32)
    assert np.array_equal(book.astype(np.float16).astype(np.float32), book)
    assert len(whole) - len(half) > 0.4 * 256 * 8 * 4 * 0.9
