"""Calibration: statistics of layers, and what encoders make of them."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import wcodec
import wcodec.numpy
from wcodec.backends import get_backend
from wcodec.calibration.statistics import Layer, Statistics, write
from wcodec.codecs import CODECS, Env, decode_all
from wcodec.codecs.base import stored_size
from wcodec.codecs.floats.curvature import DAMPING, Curvature
from wcodec.codecs.floats.trellis_feedback import settings, whitened
from wcodec.coding.trellis import factors
from wcodec.errors import Corrupt, EncodeError, LimitExceeded, RecipeError
from wcodec.types import Spec

torch = pytest.importorskip("torch")
ENV = Env(get_backend(), CODECS)


def moments(width, seed=0):
    """Second moments of inputs that depend on each other, as those of layers do."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((width, width)) * np.exp(rng.standard_normal(width)) / width**0.5 + 0.3 * np.eye(width)
    return (mixing @ mixing.T).astype(np.float32)


CODINGS = [{}, {"codec": "nwc"}, {"codec": "nwc", "states": 0}]


def encoded(matrix, codec="trellis", **options):
    """Bytes, and the decoded matrix."""
    spec = Spec.of("F32", *matrix.shape)
    section = CODECS[codec].encode(matrix.reshape(-1).view(np.uint32), spec, ENV, **{"states": 8} | options)
    return stored_size(section), decode_all(section, spec, ENV).view(np.float32).reshape(matrix.shape)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("shape", [(200, 192), (64, 300), (1100, 64)])
def test_feedback(shape, coding):
    """Outputs are nearer than without feedback, in no more bytes."""
    matrix = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    inputs = moments(shape[1])

    def cost(found):
        error = (found - matrix).astype(np.float64)
        return float(np.einsum("ij,jk,ik->", error, inputs.astype(np.float64), error))

    step = 1.0 if coding.get("states") == 0 else 0.5
    size, plain = encoded(matrix, relative=step, tile=None, **coding)
    for relative in np.geomspace(0.8 * step, 1.6 * step, 12):
        smaller, fed = encoded(matrix, relative=float(relative), curvature=Curvature(inputs), **coding)
        if smaller <= size:
            break
    assert smaller <= size
    assert cost(fed) < 0.8 * cost(plain)


@pytest.mark.parametrize(("coding", "limit"), list(zip(CODINGS, (0.36, 0.5, 0.11), strict=True)))
@pytest.mark.parametrize(("shape", "gain"), [((40, 9), 1.4), ((3, 200), 1.4), ((2000, 2), 1.02), ((64, 300), 1.4)])
def test_any_shape(shape, gain, coding, limit):
    """Outputs are off by what rounding leaves, however few rows or columns there are: nothing of what could be made up for is left.

    Such small matrices may need more bytes than without feedback all the same: steps of columns are stored, and tiles suit them less.
    """
    matrix, inputs = np.random.default_rng(3).standard_normal(shape).astype(np.float32), moments(shape[1])
    outputs = np.linspace(1, 2, shape[0]).astype(np.float32)
    curvature = Curvature(inputs, outputs)
    upper, d = curvature.factor()
    _, found = encoded(matrix, relative=0.1, curvature=curvature, **coding)
    white = whitened((found - matrix).astype(np.float64) @ upper, d, outputs).astype(np.float64)
    step = 0.1 * np.sqrt(np.square(whitened(matrix, d, outputs), dtype=np.float64).mean())
    assert limit / 6 < np.square(white).mean() / step**2 < limit
    assert (np.diagonal((upper * d) @ upper.T) / d).mean() > gain, "what errors would cost without feedback, over what they cost with it"


def test_one_row():
    matrix = np.random.default_rng(3).standard_normal((1, 5)).astype(np.float32)
    _, found = encoded(matrix, relative=0.01, curvature=Curvature(moments(5)))
    np.testing.assert_allclose(found, matrix, atol=0.1)


def test_factor():
    inputs = moments(70)
    upper, d = Curvature(inputs).factor()
    assert np.array_equal(np.triu(upper), upper) and np.array_equal(np.diagonal(upper), np.ones(70))
    damped = inputs + DAMPING * np.diagonal(inputs).mean() * np.eye(70)
    np.testing.assert_allclose((upper * d) @ upper.T, damped, rtol=1e-4, atol=1e-5)
    assert (Curvature(np.zeros((3, 3), np.float32)).factor()[1] > 0).all()
    with pytest.raises(EncodeError):
        Curvature(-np.eye(3, dtype=np.float32)).factor()


def test_water_filling():
    """Steps are in inverse proportion to the roots of what is left of a column, and of what an output counts."""
    d, g = np.array([1.0, 4.0, 0.25] * 50), np.array([1.0, 16.0] * 40)
    matrix = np.random.default_rng(2).standard_normal((80, 150)).astype(np.float32)
    its = settings(matrix, d, g, {"step": 0.125})
    steps = np.multiply.outer(factors(its.rows), factors(its.columns)) * its.step
    np.testing.assert_allclose(steps, 0.125 / np.sqrt(np.multiply.outer(g, d)), rtol=0.05)


def test_file(tmp_path):
    """Triangles come back as matrices, bit for bit, with the weights of outputs."""
    first, second, outputs = moments(20), moments(27, 1), np.arange(1, 9, dtype=np.float32)
    layers = {"a": Layer(0, (8, 20)), "b": Layer(0, (5, 20)), "c": Layer(1, (4, 3, 3, 3)), "d": Layer(0, (20, 6), 0)}
    write(tmp_path / "s", layers, iter([first, second]), {"a": 8, "e": 1}, iter([outputs, outputs[:1]]), {}, False)
    found = Statistics(tmp_path / "s")
    assert np.array_equal(found.curvature("a").inputs, first) and np.array_equal(found.curvature("a").outputs, outputs)
    assert np.array_equal(found.curvature("c").inputs, second) and found.curvature("c").outputs is None
    assert found.curvature("d") is None and found.curvature("e") is None
    assert found.cost("e") == 1 and found.cost("b") is None
    np.testing.assert_allclose(found.cost("a"), outputs.mean() * np.diagonal(first).mean(), rtol=1e-6)
    assert np.array_equal(found["a"].reshape(8, 20), np.multiply.outer(outputs, np.diagonal(first)))
    assert np.array_equal(found["d"].reshape(20, 6)[:, 3], np.diagonal(first))
    save_file({"inputs.0": first}, tmp_path / "t")
    with pytest.raises(Corrupt):
        Statistics(tmp_path / "t")


class Block(torch.nn.Module):
    """Two layers with one input, one behind them, and a convolution."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.out = (torch.nn.Linear(48, 48) for _ in range(3))
        self.conv = torch.nn.Conv1d(48, 40, 3, padding=1, groups=2)

    def forward(self, x):
        mixed = self.out(torch.relu_(self.query(x)) * self.key(x))
        return self.conv(mixed.transpose(1, 2))


@pytest.fixture(scope="module")
def block():
    torch.manual_seed(0)
    return Block()


def test_gathering(block, tmp_path):
    """Matrices are those of the inputs; layers that share an input share one."""
    batches = [torch.randn(2, 7, 48) for _ in range(3)]
    said = []
    found = wcodec.calibrate(block, batches, tmp_path / "s", gradients=True, announce=said.append)
    assert list(found) == ["query.weight", "key.weight", "out.weight", "conv.weight"] and "4 layers with 3 kinds" in said[0]
    assert [its.inputs for its in found.layers.values()] == [0, 0, 1, 2]
    rows = torch.cat(batches).reshape(-1, 48)
    np.testing.assert_allclose(found.curvature("key.weight").inputs, rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        hidden = torch.cat([block.out(torch.relu(block.query(x)) * block.key(x)).transpose(1, 2) for x in batches])
        columns = torch.nn.functional.unfold(hidden[:, :, None], (1, 3), padding=(0, 1)).reshape(6, 2, 72, 7)
        wanted = torch.einsum("ngip,ngjp->ij", columns, columns) / (6 * 2 * 7)
    np.testing.assert_allclose(found.curvature("conv.weight").inputs, wanted, rtol=1e-4, atol=1e-5)
    assert block.training and all(its.requires_grad for its in block.parameters())
    with pytest.raises(FileExistsError):
        wcodec.calibrate(block, batches, tmp_path / "s")
    with pytest.raises(LimitExceeded):
        wcodec.calibrate(block, batches, tmp_path / "t", limit=1000)
    with pytest.raises(EncodeError):
        wcodec.calibrate(block, [], tmp_path / "t")


def test_gradients(tmp_path):
    """What small errors cost is told before they are made: errors as the trellis makes them, and of single elements."""

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.shift = torch.nn.Linear(16, 24), torch.nn.Linear(24, 4), torch.nn.Parameter(torch.randn(5, 24))

        def forward(self, x):
            return self.second(torch.tanh(self.first(x) + self.shift))

    torch.manual_seed(0)
    model, batches = Model(), [torch.randn(8, 5, 16) for _ in range(60)]
    model.first.weight.grad = torch.ones(24, 16)
    found = wcodec.calibrate(model, batches, tmp_path / "s")
    assert model.first.weight.grad.eq(1).all() and model.second.weight.grad is None and model.second.weight.requires_grad
    assert wcodec.calibrate(model, batches, tmp_path / "t", gradients=False).curvature("first.weight").outputs is None
    for name, weight in (("first.weight", model.first.weight), ("second.weight", model.second.weight), ("shift", model.shift)):
        loss, told = 0.0, 0.0
        with torch.no_grad():
            for _ in range(20):
                error = 1e-3 * torch.randn(weight.shape)
                if name != "shift":
                    its = found.curvature(name)
                    upper, d = its.factor()
                    scaled = error.numpy() * np.linspace(0.1, 2, len(error))[:, None]
                    error = torch.from_numpy((scaled / np.sqrt(d)) @ np.linalg.inv(upper)).float()
                    told += float((scaled**2).sum(1) @ its.outputs)
                else:
                    told += found.cost(name) * float(error.square().sum())
                before = [model(x) for x in batches]
                weight += error
                loss += sum(float((model(x) - y).square().sum()) for x, y in zip(batches, before, strict=True)) / len(batches)
                weight -= error
        assert abs(loss / told - 1) < 0.15, name


@pytest.fixture(scope="module")
def layered():
    """A model whose layers matter unequally, and what it is called with: inputs that depend on each other."""
    torch.manual_seed(0)

    class Layered(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loud, self.faint, self.out = torch.nn.Linear(96, 96), torch.nn.Linear(96, 96), torch.nn.Linear(96, 96)

        def forward(self, x):
            return self.out(torch.relu(self.loud(x)) + 0.05 * self.faint(x))

    mixing = torch.from_numpy(moments(96))
    return Layered().eval(), [torch.randn(2, 30, 96) @ mixing for _ in range(24)]


def off(model, batches, path, source, **options):
    """Encode the matrices and return by how much outputs then are off, squared."""
    wcodec.encode(source, path, include=["*weight"], force=True, **options)
    changed = wcodec.numpy.load_file(path)
    with torch.no_grad():
        before = [model(x) for x in batches]
        after = [torch.func.functional_call(model, {name: torch.from_numpy(its) for name, its in changed.items()}, (x,)) for x in batches]
    return sum(float((a - b).square().sum()) for a, b in zip(before, after, strict=True))


def test_less_error(layered, tmp_path):
    """At the same bits, what a model computes is off by less than half with calibration, and still less where it is known what matters."""
    model, batches = layered
    source, path = tmp_path / "m.safetensors", tmp_path / "m.wcodec"
    save_file({name: its.detach().numpy() for name, its in model.named_parameters()}, source)
    wcodec.calibrate(model, batches[:16], tmp_path / "inputs", gradients=False)
    wcodec.calibrate(model, batches[:16], tmp_path / "both")
    judged = batches[16:]
    plain, inputs, both = (
        off(model, judged, path, source, recipe="trellis:states=8", bpw=4.5, calibration=its)
        for its in (None, tmp_path / "inputs", tmp_path / "both")
    )
    assert inputs < 0.5 * plain and both < 0.8 * inputs


NEURAL = ["nwc:states=8,always=true", "nwc:states=0,always=true", "nwc:states=0"]


@pytest.mark.parametrize("recipe", ["gwk:values=12", "pruned:keep=0.6", "trellis:states=8,relative=0.4", *NEURAL])
def test_encode(layered, tmp_path, recipe):
    """What a model computes is off by less with calibration, with other methods, too; and files are good."""
    model, batches = layered
    source, path = tmp_path / "m.safetensors", tmp_path / "m.wcodec"
    save_file({name: its.detach().numpy() for name, its in model.named_parameters()}, source)
    found = wcodec.calibrate(model, batches[:16], tmp_path / "s")
    plain, calibrated = (off(model, batches[16:], path, source, recipe=recipe, calibration=its) for its in (None, found))
    assert calibrated < 0.95 * plain
    with pytest.raises(RecipeError):
        wcodec.encode(source, path, recipe=recipe, calibration=found, importance={}, force=True)


@pytest.mark.parametrize("recipe", ["trellis", *NEURAL])
def test_target(block, tmp_path, recipe):
    """A target holds with calibration, too."""
    wcodec.calibrate(block, [torch.randn(2, 30, 48) for _ in range(4)], tmp_path / "s")
    save_file({name: its.detach().numpy() for name, its in block.named_parameters()}, tmp_path / "m.safetensors")
    bits = 8 if recipe == "trellis" else 12  # a net takes room
    report = wcodec.encode(tmp_path / "m.safetensors", recipe=recipe, bpw=bits, calibration=tmp_path / "s")
    assert report.size * 8 <= bits * sum(its.numel() for its in block.parameters())
