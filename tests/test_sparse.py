"""sparse: fills, differences, windows, sizes, damage; the recipes that make it; the arrays that kernels take."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from battery import BACKENDS, altered, breaks, decoded, make_env, pass_battery, raw, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from strategies import fill as contents
from strategies import gather_scatter, n_of_m, tensors, windows
from test_masks import entropy, size

import wcodec
from wcodec import export
from wcodec.codecs import CODECS, check
from wcodec.codecs.lossless import lossless
from wcodec.codecs.masks.smallest_mask import sparse_lossless
from wcodec.coding.numbers import to_float32
from wcodec.errors import EncodeError, RecipeError
from wcodec.recipes import make_method
from wcodec.types import DTYPES, Ref, Resource, Section, Spec

HELD = tuple(name for name, dtype in DTYPES.items() if dtype.bits >= 8 and name != "C64")
FLOATS = ("F64", "F32", "F16", "BF16")


def weights(rng, dtype: str, *shape: int):
    """Gaussian weights as storage elements."""
    return contents(1, int(rng.integers(2**31)), Spec.of(dtype, *shape))


class Memory:
    """Tensors in memory; counts how often each is read."""

    def __init__(self, **tensors):
        self.tensors, self.names, self.reads = tensors, list(tensors), 0

    def spec(self, name):
        return self.tensors[name][0]

    def read(self, name):
        self.reads += 1
        return nullcontext(self.tensors[name][1])

    def file(self, name):
        return ""


def prepared(method, memory: Memory):
    method.prepare(memory.names, memory, make_env())
    found = {}
    for name in memory.names:
        spec, x = memory.tensors[name]
        section = method.encode(name, x, spec, make_env())
        check(section, spec, make_env())
        found[name] = section, decoded(section, spec, make_env())
    return found


@given(tensors(HELD), st.data())
@settings(max_examples=60)
def test_battery_with_fill_and_mask(tensor, data):
    """Any bits over any fill, through any mask that keeps what differs."""
    spec, x = tensor
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    start = contents(data.draw(st.integers(0, 7)), 5, spec)
    x = np.where(rng.random(x.size) < data.draw(st.sampled_from((0, 0.1, 0.9))), x, start)
    wider = (x != start) | (rng.random(x.size) < 0.3)
    its = data.draw(st.lists(windows(x.size), max_size=2))
    fill = CODECS["raw"].encode(start, spec, make_env())
    for options in ({"fill": fill}, {"fill": fill, "mask": wider}, {}, {"values": {"codec": "raw"}}):
        pass_battery("sparse", options, spec, x, its)


@pytest.mark.parametrize("dtype", FLOATS)
def test_differences(dtype):
    """Differences are added in float32 and rounded once; what does not round-trip is off by at most an ulp of the difference."""
    rng = np.random.default_rng(3)
    spec = Spec.of(dtype, 40, 50)
    start, x = weights(rng, dtype, 40, 50), weights(rng, dtype, 40, 50)
    x = np.where(rng.random(x.size) < 0.2, x, start)
    fill = CODECS["raw"].encode(start, spec, make_env())
    section = CODECS["sparse"].encode(x, spec, make_env(), fill=fill, delta=True)
    found = [decoded(section, spec, make_env(name)) for name in BACKENDS]
    assert all(same_bits(found[0], other) for other in found)
    assert (found[0] == x)[x == start].all()
    a, b = to_float32(found[0], spec.dtype), to_float32(x, spec.dtype)
    scale = np.maximum(np.abs(b), np.abs(to_float32(start, spec.dtype)))
    assert (np.abs(a - b) <= scale * 2.0 ** -min(spec.dtype.mantissa, 23)).all()
    window = decoded(section, spec, make_env(), 333, 777)
    assert same_bits(window, found[0][333:777])


def test_differences_that_are_no_numbers():
    """Sums of infinities and NaNs are the quiet NaN; encoders refuse what is not finite."""
    for dtype, inf, minus, nan, quiet in (
        ("F64", 0x7FF << 52, 0xFFF << 52, 0xFFF8 << 48 | 7, 0x7FF8 << 48),
        ("F32", 0x7F800000, 0xFF800000, 0xFFC00007, 0x7FC00000),
        ("F16", 0x7C00, 0xFC00, 0xFE07, 0x7E00),
        ("BF16", 0x7F80, 0xFF80, 0xFFC7, 0x7FC0),
    ):
        spec = Spec.of(dtype, 3)
        start, values = (np.array(found, spec.dtype.storage) for found in ((inf, nan, inf), (minus, 0, inf)))
        parts = {"mask": raw(np.ones(3, np.uint8)), "fill": raw(start), "values": raw(values)}
        section = Section("sparse", {"kept": 3, "delta": True}, parts)
        for backend in BACKENDS:
            check(section, spec, make_env(backend))
            assert decoded(section, spec, make_env(backend)).tolist() == [quiet, quiet, inf]
        with pytest.raises(EncodeError):
            CODECS["sparse"].encode(start, spec, make_env(), fill=raw(np.zeros(3, spec.dtype.storage)), delta=True)


def test_rules():
    spec, x = Spec.of("F32", 5), np.array([0, 1, 0, 2, 3], np.uint32)
    good = CODECS["sparse"].encode(x, spec, make_env())
    for params in ({"kept": 6}, {"kept": -1}, {"kept": None}, {"kept": True}, {"delta": 1}, {"delta": True}):
        breaks("SPARSE-1", altered(good, **params), spec)
    breaks("SPARSE-1", good, Spec.of("C64", 5))
    breaks("SPARSE-1", altered(good, {"fill": raw(np.zeros(5, np.int32))}, delta=True), Spec.of("I32", 5))
    for kept, values in ((2, 8), (4, 16)):
        breaks("SPARSE-2", altered(good, {"values": raw(np.zeros(values, np.uint8))}, kept=kept), spec)
    empty = CODECS["sparse"].encode(x[:0], Spec.of("F32", 0), make_env())
    breaks("SPARSE-1", altered(empty, kept=1), Spec.of("F32", 0))
    breaks("C-23", altered(good, {"mask": Resource(Spec.of("BOOL", 4), raw(np.zeros(4, np.uint8)))}), spec)
    for options in ({"mask": np.ones(4, np.uint8)}, {"delta": True}):
        with pytest.raises(EncodeError):
            CODECS["sparse"].encode(x, spec, make_env(), **options)


def test_lossless_takes_sparse_where_it_is_smaller():
    """Exact zeros are left out, −0 is not one of them, and NaNs survive."""
    rng = np.random.default_rng(0)
    for dtype in ("F32", "BF16", "F16"):
        spec = Spec.of(dtype, 200, 300)
        x = weights(rng, dtype, 200, 300)
        dense = size(lossless(x, spec, make_env()))
        x[rng.random(x.size) < 0.9] = 0
        x[:3] = 1 << spec.dtype.bits - 1, (1 << spec.dtype.bits) - 1, 0
        section = lossless(x, spec, make_env())
        assert section.codec == "sparse" and same_bits(decoded(section, spec, make_env()), x)
        kept = int(np.count_nonzero(x))
        assert section.params["kept"] == kept
        assert size(section) <= 1.03 * (entropy(x.size, kept) + dense * kept / x.size) + 300
    assert sparse_lossless(weights(rng, "F32", 100, 30), Spec.of("F32", 100, 30), make_env()) is None
    assert sparse_lossless(np.zeros(9, np.uint8), Spec.of("U8", 9), make_env()) is None


def test_two_of_four():
    """2:4 in F16: at most 0.55 of the raw size with values as they are; exact zeros among the kept do not hide the pattern."""
    rng = np.random.default_rng(1)
    spec = Spec.of("F16", 256, 512)
    x = weights(rng, "F16", 256, 512) * n_of_m(rng, spec.shape, 2, 4, 1)
    x[np.flatnonzero(x)[::500]] = 0
    section = CODECS["sparse"].encode(x, spec, make_env(), values={"codec": "raw"})
    assert section.parts["mask"].codec == "nm" and size(section) <= 0.55 * spec.size
    assert same_bits(decoded(section, spec, make_env()), x)


# recipes


def test_pruned():
    rng = np.random.default_rng(2)
    memory = Memory(**{name: (Spec.of(dtype, 30, 40), weights(rng, dtype, 30, 40)) for name, dtype in zip("abcd", FLOATS, strict=True)})
    memory.tensors["e"] = (Spec.of("F32", 1200), weights(rng, "F32", 1200) // 8 * 8 & 0xFFFF0000)  # many equal magnitudes
    memory.names.append("e")
    for keep in (0.3, 0.05, 1.0, 0.0004):
        everything = prepared(make_method("pruned", {"keep": keep, "scope": "model"}), memory)
        assert sum(s.params["kept"] for s, _ in everything.values()) == round(keep * 6000)
        scores = {name: np.abs(to_float32(x, spec.dtype)) for name, (spec, x) in memory.tensors.items()}
        kept = {name: y != 0 for name, (_, y) in everything.items()}
        least = min(scores[name][kept[name]].min(initial=np.inf) for name in kept)
        most = max(scores[name][~kept[name]].max(initial=0) for name in kept)
        assert least >= most
        each = prepared(make_method("pruned", {"keep": keep}), memory)
        assert all(s.params["kept"] == round(keep * 1200) for s, _ in each.values())
        for name, (_, y) in (*everything.items(), *each.items()):
            x = memory.tensors[name][1]
            assert ((y == x) | (y == 0)).all()
    weigh = {name: rng.random(1200).astype(np.float32) for name in memory.names}
    found = prepared(make_method("pruned", {"keep": 0.25}, weigh), memory)
    for name, (spec, x) in memory.tensors.items():
        score = np.abs(to_float32(x, spec.dtype)) * np.sqrt(weigh[name])
        assert score[found[name][1] != 0].min() >= score[found[name][1] == 0].max()


def test_pruned_keeps_what_is_not_zero():
    spec = Spec.of("F32", 3, 4)
    x = np.array([0, 1, 1 << 31, 0xFFFFFFFF, 0, 0, 5, 0, 0, 0, 0, 0], np.uint32)
    ((section, y),) = prepared(make_method("pruned", {}), Memory(a=(spec, x))).values()
    assert same_bits(y, x) and section.params["kept"] == 4
    with pytest.raises(EncodeError):
        make_method("pruned", {"keep": 0.5}).encode("a", x, spec, make_env())
    memory = Memory(a=(spec, x), b=(Spec.of("F32", 100), weights(np.random.default_rng(0), "F32", 100)))
    method = make_method("pruned", {"keep": 0.5, "scope": "model"})
    method.prepare(memory.names, memory, make_env())  # what is not finite has no part in the budget
    assert method.encode("b", memory.tensors["b"][1], memory.tensors["b"][0], make_env()).params["kept"] == 50
    for bad in ({"keep": 0}, {"keep": 1.5}, {"scope": "layer"}):
        with pytest.raises(RecipeError):
            make_method("pruned", bad)


def test_shared_masks():
    rng = np.random.default_rng(4)
    x = weights(rng, "F32", 60, 60)
    mask = rng.random(x.size) < 0.2
    tensors_ = {name: (Spec.of("F32", 60, 60), np.where(mask, x + np.uint32(i), 0).astype(np.uint32)) for i, name in enumerate("abc")}
    tensors_["d"] = (Spec.of("F32", 60, 60), np.where(~mask, x, 0).astype(np.uint32))
    found = prepared(make_method("pruned", {"share_masks": True}), Memory(**tensors_))
    parts = [section.parts["mask"] for section, _ in found.values()]
    assert isinstance(parts[0], Resource) and parts[0] is parts[1] is parts[2] and isinstance(parts[3], Section)
    assert all(same_bits(found[name][1], y) for name, (_, y) in tensors_.items())


@pytest.mark.parametrize("shape", [(30, 41), (8, 6, 3, 3), (50,), (0, 4)])
def test_n_of_m(shape):
    rng = np.random.default_rng(5)
    spec = Spec.of("F32", *shape)
    ((section, y),) = prepared(make_method("n:m", {}), Memory(a=(spec, x := weights(rng, "F32", *shape)))).values()
    axis = min(1, len(shape) - 1)
    assert section.parts["mask"].codec == "nm" and section.parts["mask"].params["axis"] == axis
    along = np.moveaxis(np.abs(x.view(np.float32)).reshape(shape), axis, -1)
    kept = np.moveaxis((y != 0).reshape(shape), axis, -1)
    for at in range(0, along.shape[-1], 4):
        some, which = along[..., at : at + 4], kept[..., at : at + 4]
        assert (which.sum(-1) == min(2, some.shape[-1])).all()
        assert (np.where(which, some, np.inf).min(-1, initial=np.inf) >= np.where(which, 0, some).max(-1, initial=0)).all()
    with pytest.raises(EncodeError):
        make_method("n:m", {"axis": 7}).encode("a", x, spec, make_env())


@pytest.mark.parametrize(("banks", "per_row", "keep"), [(16, 16, 0.5), (8, 2, 0.3), (8, 1, 0.25), (4, 2, 0.9)])
def test_gather_scatter(banks, per_row, keep):
    """Groups hit every bank once, k to a row, the same number in all bundles; values and indices rebuild the matrix."""
    rng = np.random.default_rng(banks)
    spec = Spec.of("F32", 24, 50)
    x = weights(rng, "F32", 24, 50)
    ((section, y),) = prepared(make_method("gs", {"banks": banks, "per_row": per_row, "keep": keep}), Memory(a=(spec, x))).values()
    dense, mask = export.parts(section, spec, make_env())
    assert np.array_equal(dense.reshape(-1), y) and section.parts["mask"].codec == "gs"
    found = export.gather_scatter(dense, mask, banks, per_row)
    assert (np.sort(found.index % banks, axis=1) == np.arange(banks)).all() and len(set(np.diff(found.indptr))) == 1
    high = banks // per_row
    again = np.zeros_like(dense)
    for bundle in range(24 // high):
        groups = slice(found.indptr[bundle], found.indptr[bundle + 1])
        rows = np.broadcast_to(bundle * high + np.arange(banks) // per_row, found.index[groups].shape)
        again[rows, found.index[groups]] = found.values[groups]
    assert np.array_equal(again, dense)
    if per_row == banks:  # nothing to balance: the largest of every lane
        score = np.abs(x.view(np.float32)).reshape(24, 50)
        for lane in range(banks):
            its, which = score[:, lane::banks], mask[:, lane::banks] == 1
            assert (np.where(which, its, np.inf).min(1) >= np.where(which, 0, its).max(1)).all()
    with pytest.raises(EncodeError):
        export.gather_scatter(dense, np.ones_like(mask) - mask * (mask.cumsum(1) == 1), banks, per_row)


@pytest.mark.parametrize("values", [None, {"codec": "bitpack"}])
def test_dropback(values):
    rng = np.random.default_rng(6)
    start = {"w": weights(rng, "F32", 40, 30)}
    tensors_ = {
        "w": (Spec.of("F32", 40, 30), np.where(rng.random(1200) < 0.3, weights(rng, "F32", 40, 30), start["w"])),
        "b": (Spec.of("F32", 30), weights(rng, "F32", 30)),
        "norm.weight": (Spec.of("F32", 30), np.full(30, 0x3F800000, np.uint32)),
    }
    memory = Memory(**tensors_)
    exact = prepared(make_method("dropback", {"start": start, "values": values}), memory)
    assert all(same_bits(y, tensors_[name][1]) for name, (_, y) in exact.items())
    assert exact["norm.weight"][0].params["kept"] == 0 and exact["b"][0].params["kept"] == 30
    for keep, count in ((100, 100), (0.1, 126)):
        found = prepared(make_method("dropback", {"start": start, "keep": keep, "values": values}), memory)
        assert sum(section.params["kept"] for section, _ in found.values()) == count
        y = found["w"][1]
        assert ((y == tensors_["w"][1]) | (y == start["w"])).all()
        gone = np.abs(tensors_["w"][1].view(np.float32) - start["w"].view(np.float32))
        kept = y != start["w"]
        assert gone[kept].min() >= gone[~kept].max()


def test_dropback_fills():
    """Any codec without parts makes a fill, checked; seeded ones take a tensor's place as its id."""
    memory = Memory(w=(Spec.of("F32", 50), np.where(np.arange(50) % 7, 0x3F000000, 9).astype(np.uint32)))
    half = {"w": {"codec": "const", "value": np.float32(0.5).tobytes()}}
    ((section, y),) = prepared(make_method("dropback", {"fill": half}), memory).values()
    assert section.params["kept"] == 8 and same_bits(y, memory.tensors["w"][1])
    spec = Spec.of("F32", 90)
    starts = [CODECS["philox"].section(spec, seed=7, id=place, scale=0.25) for place in range(2)]
    drawn = [decoded(its, spec, make_env()) for its in starts]
    changed = [np.where(np.arange(90) % 9 == place, 0x3F000000, x).astype(np.uint32) for place, x in enumerate(drawn)]
    memory_ = Memory(a=(spec, changed[0]), b=(spec, changed[1]))
    found = prepared(make_method("dropback", {"fill": {"*": {"codec": "philox", "seed": 7, "scale": 0.25}}}), memory_)
    assert all(section.params["kept"] == 10 and same_bits(y, x) for (section, y), x in zip(found.values(), changed, strict=True))
    for bad in ({"codec": "const", "value": 0.5}, {"codec": "none"}):
        with pytest.raises(RecipeError):
            prepared(make_method("dropback", {"fill": {"*": bad}}), memory)
    with pytest.raises(EncodeError):
        prepared(make_method("dropback", {"start": {"w": np.zeros(3, np.uint32)}}), memory)


@pytest.mark.parametrize(
    "recipe", ["pruned:keep=0.2,share_masks=true", "n:m:n=1,values={codec='raw'}", "gs:banks=8,per_row=2", "dropback:keep=0.3"]
)
def test_files(recipe, tmp_path):
    """Recipes by name through whole files: what decodes is what was kept, a shared mask is stored once."""
    rng = np.random.default_rng(10)
    x = weights(rng, "F32", 64, 64).view(np.float32).reshape(64, 64)
    source = {"a.weight": x, "b.weight": 2 * x, "b.bias": x[0].copy()}
    save_file(source, tmp_path / "m.safetensors")
    wcodec.encode(tmp_path / "m.safetensors", tmp_path / "m.wcodec", recipe=recipe, threads=2)
    wcodec.decode(tmp_path / "m.wcodec", tmp_path / "out.safetensors", threads=1)
    wcodec.verify(tmp_path / "m.wcodec", deep=True)
    found = load_file(tmp_path / "out.safetensors")
    assert np.array_equal(found["b.bias"], source["b.bias"])
    for name in ("a.weight", "b.weight"):
        kept = found[name] != 0
        assert 0 < kept.mean() <= 0.51 and np.array_equal(found[name][kept], source[name][kept])
    if "share" in recipe:
        with wcodec.safe_open(tmp_path / "m.wcodec", "np") as opened:
            sections = [opened.record(name).section for name in ("a.weight", "b.weight")]
        assert [section.parts["mask"] for section in sections] == [Ref(0), Ref(0)]


# exports


def test_csr_and_bsr():
    rng = np.random.default_rng(7)
    dense = (rng.integers(1, 99, (12, 20)) * (rng.random((12, 20)) < 0.2)).astype(np.uint16)
    found = export.csr(dense)
    again = np.zeros_like(dense)
    again[np.repeat(np.arange(12), np.diff(found.indptr)), found.columns] = found.values
    assert np.array_equal(again, dense) and found.indptr[-1] == np.count_nonzero(dense)
    blocks = export.bsr(dense, 3, 4)
    again = np.zeros_like(dense)
    for row, column, block in zip(np.repeat(np.arange(4), np.diff(blocks.indptr)), blocks.columns, blocks.values, strict=True):
        again[3 * row : 3 * row + 3, 4 * column : 4 * column + 4] = block
    assert np.array_equal(again, dense)
    with pytest.raises(EncodeError):
        export.bsr(dense, 5, 4)
    spec = Spec.of("U16", 12, 20)
    section = CODECS["sparse"].encode(dense.reshape(-1), spec, make_env(), fill=raw(np.zeros(240, np.uint16)))
    for other in (section, raw(dense)):
        with pytest.raises(EncodeError):
            export.parts(other, spec, make_env())


@pytest.mark.parametrize(("dtype", "kind"), [("F16", "float16"), ("BF16", "bfloat16"), ("F32", "float32"), ("I8", "int8")])
def test_semi_structured(dtype, kind):
    """Values and meta are those of torch's own conversion."""
    torch = pytest.importorskip("torch")
    from torch.sparse._semi_structured_conversions import sparse_semi_structured_from_dense_cutlass as convert

    rng = np.random.default_rng(8)
    spec = Spec.of(dtype, 64, 128)
    n, m = (1, 2) if dtype == "F32" else (2, 4)
    x = weights(rng, dtype, 64, 128) * n_of_m(rng, spec.shape, n, m, 1)
    x = x.astype(spec.dtype.storage)
    x[:8] = 0
    if dtype != "I8":
        x[64] = 1 << (spec.dtype.bits - 1)  # −0
    view = x.view(f"i{spec.dtype.bits // 8}").reshape(64, 128)
    dense = torch.from_numpy(view.copy()).view(getattr(torch, kind))
    if n == 1:
        dense = torch.where(dense == 0, 0.0, dense)
        x = dense.numpy().reshape(-1).view(np.uint32)
    values, meta = convert(dense)
    mine, its = export.semi_structured(x, spec)
    assert np.array_equal(its, meta.numpy())
    assert np.array_equal(mine.view(view.dtype), values.view(getattr(torch, f"int{spec.dtype.bits}")).numpy())
    for other, bad in ((x, Spec.of(dtype, 128, 64 if dtype == "I8" else 32)), (x | 1, spec), (x, Spec.of("I16", 64, 128))):
        if bad.count == other.size or bad.shape != spec.shape:
            with pytest.raises(EncodeError):
                export.semi_structured(other[: bad.count] | other.dtype.type(1), bad)


def test_exported_gather_scatter_masks_of_any_kind():
    rng = np.random.default_rng(9)
    for banks, per_row in ((4, 4), (4, 1), (6, 3)):
        high = banks // per_row
        for _ in range(5):
            mask = gather_scatter(rng, 3, high, 17, banks).reshape(3 * high, 17)
            found = export.gather_scatter(mask * np.uint8(5), mask, banks, per_row)
            assert found.index.shape == (mask.sum() // banks, banks) and (found.values == 5).all()


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
def test_large_scatter(dtype):
    """Zeros and values of outputs that go past the caches, at aligned and odd addresses, with a piece that is cut off."""
    rng, dtype = np.random.default_rng(0), np.dtype(dtype)
    count = (1 << 20) + 4321
    positions = np.flatnonzero(rng.random(count) < 0.1).astype(np.uint32)
    values = rng.integers(1, 255, positions.size).astype(dtype)
    want = np.zeros(count, dtype)
    want[positions] = values
    room = np.empty(want.nbytes + 128, np.uint8)
    for backend in BACKENDS:
        for odd in (0, 8):
            at = -room.ctypes.data % 64 + odd
            room[:] = 7
            make_env(backend).backend.scatter(positions, values, room[at : at + want.nbytes].view(dtype), True)
            assert same_bits(room[at : at + want.nbytes].view(dtype), want) and (room[:at] == 7).all() and room[at + want.nbytes] == 7
