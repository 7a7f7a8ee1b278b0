"""Random numbers: published answers, exact roundings, any window, every backend; and the codecs that store their seeds."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from itertools import product
from typing import Any

import make_normal_table
import numpy as np
import pytest
from battery import BACKENDS, ROOT, breaks, bytes_of, decoded, make_env, pass_battery, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import SHAPES, windows

from wcodec.backends import Backend, get_backend, native
from wcodec.codecs import CODECS, check
from wcodec.codecs.base import Codec
from wcodec.codecs.masks.draw import BLOCK
from wcodec.codecs.random.fills import Fill
from wcodec.coding import mt19937, philox
from wcodec.coding.numbers import from_float32
from wcodec.errors import EncodeError, LimitExceeded, UnsupportedVersion
from wcodec.types import DTYPES, MemoryStream, Section, Spec

FILLS = {name: codec for name, codec in CODECS.items() if isinstance(codec, Fill)}
CASES = [pytest.param(name, options, id=f"{name}-{i}") for name, codec in FILLS.items() for i, options in enumerate(codec.examples)]
FLOATS = ("F32", "BF16", "F16", "F64")
FAR = 2**40 + 12_345
WORDS = st.integers(0, 2**32 - 1)
STARTS = st.sampled_from((0, 1, 2, 3, 2**34 - 9, 2**34 - 2, FAR, 2**62 - 5)) | st.integers(0, 2**62)


def plain(options: Any) -> dict[str, Any]:
    """Options without those that only add parts."""
    return {key: value for key, value in options.items() if key != "counts"}


def its_array(codec: str, options: Any, spec: Spec) -> Any:
    """The only array that a codec holds with these options."""
    return decoded(FILLS[codec].section(spec, **plain(options)), spec, make_env())


def each() -> Any:
    """Every backend, the native one in every instruction set of this machine."""
    yield Backend()
    for name in BACKENDS:
        backend = get_backend(name)
        if isinstance(backend, native.NativeBackend):
            for isa in native.ISAS:
                if backend.set_isa(isa) == isa:
                    yield backend
            backend.set_isa(native.ISAS[-1])


def fill(
    backend: Backend, key: tuple[int, int, int], kind: str, scale: float, decay: float, start: int, count: int, dtype: str = "F32"
) -> Any:
    """Elements of a fill, between others that must not change."""
    its = DTYPES[dtype]
    out = np.full(count + 2, 77, its.storage)
    backend.philox_fill(*key, kind, scale, decay, start, its, out[1:-1])
    assert out[0] == out[-1] == 77
    return out[1:-1]


# Philox


@pytest.mark.parametrize(
    ("counter", "key", "block"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_published_answers(counter, key, block):
    found = philox.words(key[0] | key[1] << 32, counter[2], counter[3], 4 * (counter[0] | counter[1] << 32), 4)
    assert " ".join(f"{word:08x}" for word in found) == block
    assert block in (ROOT / "spec" / "rng.md").read_text()


@given(st.tuples(st.integers(0, 2**64 - 1), WORDS, WORDS), STARTS, st.integers(0, 5000), st.data())
@settings(max_examples=60)
def test_backends_agree_on_any_window(key, start, count, data):
    scale = data.draw(st.sampled_from((1.0, 2.0**-60, 2.0**60)) | st.floats(2**-20, 2**20, width=32))
    decay = data.draw(st.sampled_from((1.0, 2.0**-40)) | st.floats(2**-20, 1, width=32))
    threshold = data.draw(WORDS)
    words = philox.words(*key, start, count)
    first, last = data.draw(windows(count))
    for kind, dtype in product(philox.KINDS, FLOATS):
        want = fill(Backend(), key, kind, scale, decay, start, count, dtype)
        for backend in each():
            assert np.array_equal(fill(backend, key, kind, scale, decay, start, count, dtype), want)
            assert np.array_equal(fill(backend, key, kind, scale, decay, start + first, last - first, dtype), want[first:last])
    for backend in each():
        mask = np.full(count + 2, 7, np.uint8)
        assert backend.philox_draw(*key, threshold, start, mask[1:-1]) == np.count_nonzero(words < threshold)
        assert np.array_equal(mask[1:-1], words < threshold) and mask[0] == mask[-1] == 7


def test_strided_arrays_go_to_numpy():
    want = fill(Backend(), (1, 2, 3), "normal", 0.5, 1.0, 9, 100)
    for backend in each():
        out, mask = np.zeros((100, 2), np.uint32), np.zeros((100, 2), np.uint8)
        backend.philox_fill(1, 2, 3, "normal", 0.5, 1.0, 9, DTYPES["F32"], out[:, 0])
        assert np.array_equal(out[:, 0], want) and not out[:, 1].any()
        assert backend.philox_draw(1, 2, 3, 2**31, 9, mask[:, 0]) == mask.sum() > 0


def rounded(x: Fraction) -> np.float32:
    """Round to the nearest binary32, ties to even, by comparing neighbours exactly."""
    near = np.float32(float(x))
    candidates = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - x), int(c.view(np.uint32)) & 1))


@given(st.integers(0, 2**64 - 1), st.floats(2**-60, 2**60, width=32), st.floats(2**-40, 1, width=32))
def test_one_rounding_per_product(seed, scale, decay):
    words = philox.words(seed, 0, 0, 0, 20)
    for kind in philox.KINDS:
        found = fill(Backend(), (seed, 0, 0), kind, scale, decay, 0, 20).view(np.float32)
        for word, value in zip(words.tolist(), found, strict=True):
            unit = Fraction(2 * (word >> 9) + 1 - 2**23, 2**23)
            if kind == "normal":
                unit = Fraction(int(philox.normals()[word >> 20]), 2**22) * (-1 if word >> 19 & 1 else 1)
            assert value == rounded(Fraction(decay) * Fraction(float(rounded(Fraction(scale) * unit))))


def test_normal_table():
    """The file is what decimal arithmetic makes, and what the page says."""
    data = make_normal_table.TABLE.read_bytes()
    page = (ROOT / "spec" / "rng.md").read_text()
    assert hashlib.sha256(data).hexdigest() in page
    assert philox.normals().tolist() == make_normal_table.magnitudes() == np.frombuffer(data, "<u4").tolist()
    for i in (0, 1, 2, 4094, 4095):
        assert f"n[{i}] = {philox.normals()[i]}" in page


def test_moments():
    x = {kind: fill(Backend(), (3, 4, 5), kind, 1.0, 1.0, FAR, 400_000).view(np.float32).astype(np.float64) for kind in philox.KINDS}
    for kind, variance, fourth in (("uniform", 1 / 3, 1 / 5), ("normal", 0.99984, 2.9943)):
        assert abs(x[kind].mean()) < 0.006 and abs(x[kind].var() - variance) < 0.01 and abs((x[kind] ** 4).mean() - fourth) < 0.06
    assert abs(np.corrcoef(x["uniform"][:-1], x["uniform"][1:])[0, 1]) < 0.006


# mt19937


def numpys(seed: int, count: int) -> Any:
    return np.random.RandomState(seed)._bit_generator.random_raw(count)


def test_twister_answers():
    words = mt19937.Words(5489, 0).take(10_000)
    assert words[:3].tolist() == [3499211612, 581869302, 3890346734] and words[9999] == 4123659995
    assert len(mt19937.characteristic()) == 135 and mt19937.characteristic()[-1] == 19_937


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1])
def test_words_from_any_offset(seed):
    near = mt19937.NEAR
    words = numpys(seed, near + 3000)
    for offset in (0, 1, 226, 227, 623, 624, 625, 12_345, near - 1, near, near + 1, near + 1234):
        assert np.array_equal(mt19937.Words(seed, offset).take(1000), words[offset : offset + 1000])


@given(st.integers(0, 2**48 - 700), st.integers(1, 600))
@settings(max_examples=5)
def test_jumps_meet(offset, more):
    """A jump and the words after it lead where a longer jump leads."""
    offset += mt19937.NEAR
    assert np.array_equal(mt19937.Words(9, offset).take(more + 700)[more:], mt19937.Words(9, offset + more).take(700))


BOUNDS = st.sampled_from((0.0, -1.0, 1.0)) | st.floats(-1000, 1000, width=32).filter(lambda x: abs(x) > 1e-6)


@given(WORDS, BOUNDS, BOUNDS)
@settings(max_examples=60)
def test_affine_step_rounds_once(seed, low, high):
    low, high = min(low, high), max(low, high)
    words = numpys(seed, 40)
    out = np.empty(40, np.float32)
    span = Fraction(float(rounded(Fraction(high) - Fraction(low)))) if low != high else Fraction(0)
    for backend in each():
        backend.mt19937_fill(seed, 0, low, high, out)
        for word, value in zip(words.tolist(), out, strict=True):
            assert value == rounded(Fraction(low) + Fraction(word & 0xFFFFFF, 2**24) * span)


def test_sums_that_binary64_rounds_twice():
    """Half a unit in the last place and a little: rounding to 53 bits first would lose the little."""
    low = 2.0**30
    product = np.array([64 + 2.0**-40, 64.0, 64 - 2.0**-40, 192.0, 192 - 2.0**-40, -32 - 2.0**-40])
    found = mt19937._add(product, low).astype(np.float32)
    assert found.tolist() == [float(rounded(Fraction(float(p)) + Fraction(low))) for p in product]


# the codecs


@pytest.mark.parametrize(("codec", "options"), CASES)
@given(data=st.data())
@settings(max_examples=8)
def test_battery(codec, options, data):
    dtype = data.draw(st.sampled_from(("BOOL",) if codec == "draw" else FLOATS))
    shape = data.draw(st.sampled_from([s for s in SHAPES if len(s) < 64]) | st.tuples(st.integers(0, 70), st.integers(0, 70)))
    spec = Spec.of(dtype, *shape)
    x = its_array(codec, options, spec)
    pass_battery(codec, options, spec, x, data.draw(st.lists(windows(x.size), max_size=2)))


@pytest.mark.parametrize(("codec", "options"), CASES)
def test_any_part_of_a_tensor_beyond_memory(codec, options):
    """Windows at the far end of an array of 2^42 elements, cut in any way, and rounded to every dtype."""
    for dtype in ("BOOL",) if codec == "draw" else FLOATS:
        spec = Spec.of(dtype, 2**20, 2**22)
        section = FILLS[codec].section(spec, **plain(options))
        for name in BACKENDS:
            env = make_env(name)
            check(section, spec, env)
            want = decoded(section, spec, env, FAR, FAR + 5000)
            for start, stop in ((0, 1), (1, 4), (4999, 5000), (17, 4000)):
                assert same_bits(decoded(section, spec, env, FAR + start, FAR + stop), want[start:stop])
            if dtype != "F32" and codec != "draw":
                exact = decoded(section, Spec.of("F32", *spec.shape), env, FAR, FAR + 5000).view(np.float32)
                assert same_bits(want, from_float32(exact, spec.dtype))


OUT_OF_RANGE = {
    "philox": [
        ("G-1", {"seed": 2**64}), ("G-1", {"seed": -1}), ("G-1", {"seed": None}), ("G-1", {"id": 2**32}), ("G-1", {"stream": b""}),
        ("PHILOX-1", {"kind": "normals"}), ("PHILOX-1", {"kind": None}), ("PHILOX-1", {"kind": ["uniform"]}), ("PHILOX-1", {"scale": 0}),
        ("PHILOX-1", {"scale": 0x5D800001}), ("PHILOX-1", {"scale": 0x217FFFFF}), ("PHILOX-1", {"scale": True}),
        ("PHILOX-1", {"scale": 0xBF800000}), ("PHILOX-1", {"decay": 0x3F800001}), ("PHILOX-1", {"decay": 0x2B7FFFFF}),
    ],
    "mt19937": [
        ("MT19937-1", {"seed": 2**32}), ("MT19937-1", {"seed": None}), ("MT19937-1", {"low": 0x7FC00000}), ("MT19937-1", {"low": 1}),
        ("MT19937-1", {"high": 0x5D800001}), ("MT19937-1", {"high": 0x80000000, "low": 0}), ("MT19937-1", {"high": "1"}),
        ("MT19937-2", {"offset": 2**48 + 1}), ("MT19937-2", {"offset": -1}), ("MT19937-2", {"offset": None}),
    ],
    "draw": [
        ("G-1", {"seed": 2**64}), ("G-1", {"stream": None}), ("DRAW-1", {"threshold": 2**32}), ("DRAW-1", {"threshold": None}),
        ("DRAW-1", {"counts": 1}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("codec", FILLS)
def test_params_out_of_range(codec):
    spec = Spec.of("BOOL" if codec == "draw" else "F32", 40)
    good = FILLS[codec].section(spec, **plain(FILLS[codec].examples[0]))
    for rule, changes in OUT_OF_RANGE[codec]:
        params = {key: value for key, value in {**good.params, **changes}.items() if value is not None}
        breaks(rule, Section(codec, params), spec)
    for dtype in DTYPES.keys() - ({"BOOL"} if codec == "draw" else set(FLOATS)):
        breaks(f"{codec.upper()}-1", good, Spec.of(dtype, 40))
    known = sorted(good.params)
    check(Section(codec, {**good.params, "requires": known, "later": 1}), spec, make_env())
    breaks("C-10", Section(codec, {**good.params, "requires": ["later"]}), spec, UnsupportedVersion)
    breaks("C-20", Section(codec, good.params, {"data": MemoryStream(np.zeros(1, np.uint8))}), spec)


@pytest.mark.parametrize(("codec", "options"), CASES)
def test_other_arrays_are_refused(codec, options):
    spec = Spec.of("BOOL" if codec == "draw" else "BF16", 3, 50)
    x = its_array(codec, options, spec)
    x[149] ^= 1
    with pytest.raises(EncodeError, match="does not make"):
        CODECS[codec].encode(x, spec, make_env(), **options)
    with pytest.raises(EncodeError):
        CODECS[codec].encode(x, spec, make_env(), **{**options, "seed": -1})


def test_far_offsets_count_against_the_limits():
    """A file cannot make a reader skip words at no cost to itself."""
    spec = Spec.of("F32", 1)
    for offset, cost in ((0, 0), (1000, 4000), (2**22, 2**24), (2**48, 2**24)):
        section = FILLS["mt19937"].section(spec, seed=1, offset=offset)
        check(section, spec, make_env(decoded=4 + cost))
        with pytest.raises(LimitExceeded):
            check(section, spec, make_env(decoded=3 + cost))


# masks


@pytest.mark.parametrize("counts", [False, True])
def test_positions(counts):
    """What a mask says of a window without being decoded is what its bytes say, across blocks and in any order."""
    spec = Spec.of("BOOL", 3, BLOCK - 1000)
    options = {"seed": 5, "threshold": 2**24}
    x = its_array("draw", options, spec)
    for name in BACKENDS:
        env = make_env(name)
        section = CODECS["draw"].encode(x, spec, env, **options, counts=counts)
        assert bytes_of(section)[2].keys() == ({"counts"} if counts else set())
        for start, stop in ((2 * BLOCK + 5, 3 * BLOCK - 4000), (0, 100), (BLOCK - 7, BLOCK + 9), (BLOCK, 2 * BLOCK), (77, 77), (0, x.size)):
            rank, found = CODECS["draw"].positions(section, spec, env, start, stop)
            want = Codec.positions(CODECS["draw"], section, spec, env, start, stop)
            assert rank == want[0] == np.count_nonzero(x[:start]) and found.dtype == np.uint32
            assert np.array_equal(found, want[1]) and np.array_equal(found, np.flatnonzero(x[start:stop]))


def test_wrong_counts():
    spec = Spec.of("BOOL", 2 * BLOCK + 10)
    options = {"seed": 5, "threshold": 2**20}
    x = its_array("draw", options, spec)
    good = CODECS["draw"].encode(x, spec, make_env(), **options, counts=True)
    counts = decoded(good.parts["counts"], Spec.of("U32", 3), make_env())
    for change in ([1, 0, 0], [1, -1, 0], [0, 0, 1]):
        raw = MemoryStream((counts + np.array(change)).astype("<u4").view(np.uint8))
        breaks("DRAW-2", Section("draw", good.params, {"counts": Section("raw", {}, {"data": raw})}), spec)
    empty = Section("bitpack", {"bits": 3}, {"data": MemoryStream(np.zeros(1, np.uint8))})
    breaks("BITPACK-2", Section("draw", good.params, {"counts": empty}), Spec.of("BOOL", 0))
