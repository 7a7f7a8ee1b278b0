"""The battery over every codec, each of its examples, and every backend; params out of range; dtypes a codec does not take."""

from __future__ import annotations

import numpy as np
import pytest
from battery import BACKENDS, EXAMPLES, MASKS, U8S, VALUES, altered, breaks, bytes_of, decoded, make_env, pass_battery, same_bits, sample
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import KINDS, SHAPES, fill, fits, masks, tensors, whole, windows

from wcodec.codecs import CODECS, check, unit
from wcodec.codecs.integers.smallest import smallest
from wcodec.codecs.lossless import lossless
from wcodec.codecs.random.fills import Fill
from wcodec.coding.tables import Tables
from wcodec.errors import Corrupt, EncodeError, LimitExceeded, UnknownCodec, UnsupportedVersion
from wcodec.types import DTYPES, MemoryStream, Ref, Resource, Section, Spec


def takes(codec: str, options, spec: Spec, x) -> bool:
    """Whether a codec promises to hold these elements."""
    if isinstance(CODECS[codec], Fill) or not CODECS[codec].lossless:
        return False
    if codec == "const":
        return not x.size or bool((x == x[0]).all())
    if codec == "zstd":
        return x.size > 0
    if codec in MASKS:  # others only take masks made for them
        return codec in ("gaps", "bitmap") and spec.dtype.name == "BOOL" and (not x.size or int(x.max()) < 2)
    if codec == "concat":
        half = spec.shape[0] // 2 if spec.shape else 0
        odd = (
            spec.dtype.bits < 8 and spec.count and any(n * spec.size * 8 // max(spec.shape[0], 1) % 8 for n in (half, spec.shape[0] - half))
        )
        return bool(spec.shape) and not odd
    if "classes" in options and max(spec.shape, default=0) > 2**20:
        return False  # one class for every row
    if codec == "rans" and spec.dtype.name in ("U16", "U32"):
        shift = options.get("bits", 0) + ("trellis" in options)
        return not x.size or int(x.max()) >> shift < 2**20
    return CODECS[codec].suits(spec)


@pytest.mark.parametrize(("codec", "options"), EXAMPLES)
@given(data=st.data())
@settings(max_examples=12)
def test_battery(codec, options, data):
    dtypes = ("U8", "U16", "U32") if codec == "rans" else tuple(DTYPES)
    spec, x = data.draw(masks(codec, **options) if codec in MASKS else tensors(dtypes))
    if codec == "const" and x.size:
        x = np.repeat(x[:1], x.size)
    assume(codec in MASKS or takes(codec, options, spec, x))
    pass_battery(codec, options, spec, x, data.draw(st.lists(windows(x.size), max_size=2)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_kind(dtype):
    """Every codec that takes a dtype, on every kind of content."""
    for kind in range(len(KINDS)):
        spec = Spec.of(dtype, 6, 8 * (1 + 2 * kind))
        x = fill(kind, kind, spec)
        for name, codec in CODECS.items():
            if codec.suits(spec) and takes(name, codec.examples[0], spec, x):
                pass_battery(name, codec.examples[0], spec, x, [(1, x.size // 2)])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape(shape):
    for dtype in ("U8", "BF16", "F32", "C64", "F4", "U16"):
        if not fits(DTYPES[dtype], whole(DTYPES[dtype], shape)):
            continue
        spec = Spec.of(dtype, *whole(DTYPES[dtype], shape))
        x = fill(1, len(shape), spec)
        for name, codec in CODECS.items():
            if codec.suits(spec) and takes(name, codec.examples[0], spec, x):
                pass_battery(name, codec.examples[0], spec, x, [(x.size // 3, x.size // 2)])


@given(tensors())
@settings(max_examples=40)
def test_recipe(tensor):
    """The lossless recipe holds every tensor, on every backend in the same bytes."""
    spec, x = tensor
    found = {name: lossless(x, spec, make_env(name)) for name in BACKENDS}
    assert len({str(bytes_of(section)) for section in found.values()}) == 1
    for name, section in found.items():
        check(section, spec, make_env(name))
        assert same_bits(decoded(section, spec, make_env(name)), x)


ORDERS = ({"block": 128}, {"block": 512}, {"block": 2**17}, {"tile": (1, 128)}, {"tile": (5, 256)}, {"tile": (1024, 128)})


@pytest.mark.parametrize("lanes", [0, 2, 5])
@pytest.mark.parametrize("precision", [8, 9, 10, 11, 12])
def test_rans_grid(lanes, precision):
    """Every number of lanes, precision, context and order."""
    for i, order in enumerate(ORDERS):
        context = ({}, {"trellis": 2 + precision % 7}, {"classes": "halves"})[(i + precision) % 3]
        spec = Spec.of("U8" if lanes else "U16", 19, 31)
        x = np.minimum(fill(4, precision, spec), spec.dtype.storage.type(90))
        options = {"lanes": lanes, "precision": precision} | order | context
        pass_battery("rans", options, spec, x, [(0, 31), (30, 589)])


@pytest.mark.parametrize("trellis", [0, *range(2, 9)])
@pytest.mark.parametrize("order", [{"block": 256}, {"tile": (3, 128)}], ids=["linear", "tiled"])
def test_rans_escapes(trellis, order):
    """Values far apart, zeros among them, raw bits of both widths: everything that an alphabet can need."""
    rng = np.random.default_rng(trellis)
    for bits in (0, 3, 9, 16):
        spec = Spec.of("U32", 25, 67)
        high = np.where(rng.random(spec.count) < 0.03, rng.integers(0, 2**13, spec.count), rng.integers(3000, 3090, spec.count))
        high[rng.random(spec.count) < 0.2] = 0
        x = (high << (bits + (trellis > 0)) | rng.integers(0, 1 << (bits + (trellis > 0)), spec.count)).astype(np.uint32)
        options = {"bits": bits, "lanes": 0} if bits else {"lanes": 0}
        options |= order | ({"trellis": trellis} if trellis else {})
        section = CODECS["rans"].encode(x, spec, make_env(), **options)
        assert section.params["zero"] and section.params["outliers"] > 10 and section.params["base"] > 2500
        pass_battery("rans", options, spec, x, [(0, 67), (66, 68), (400, 1000), (1674, 1675)])


def test_rans_shared_tables():
    spec, x = Spec.of("U8", 900), fill(3, 1, Spec.of("U8", 900))
    tables = Tables.fit(np.bincount(x, minlength=256).astype(np.uint64).reshape(1, -1), 10)
    data = np.frombuffer(tables.pack(), np.uint8)
    resource = Resource(Spec.of("U8", data.size), Section("raw", {}, {"data": MemoryStream(data)}))
    for name in BACKENDS:
        env = make_env(name, resource=lambda index: resource)
        section = CODECS["rans"].encode(x, spec, env, precision=10, tables=(tables, Ref(0)))
        check(section, spec, env)
        assert same_bits(decoded(section, spec, env), x) and section.parts["tables"] == Ref(0)
        breaks("C-23", section, spec, resource=lambda index: Resource(Spec.of("U8", 3), resource.section))
        breaks("C-19", section, spec)


BAD_PARAMS = {
    "const": ("CONST-1", {}, [{"value": None}, {"value": 7}, {"value": b""}, {"value": b"xy"}, {"value": "x"}]),
    "bitpack": (
        "BITPACK-1", {},
        [{"bits": 0}, {"bits": 9}, {"bits": None}, {"bits": "3"}, {"bits": True}, {"base": 256}, {"base": -1}, {"base": b""}],
    ),
    "planes": (
        "PLANES-1", {},
        [{"rest": 8}, {"rest": None}, {"rest": -1}, {"rest": False}, {"sign": 3}, {"sign": "no"}, {"patches": 0}, {"patches": 41}],
    ),
    "concat": (
        "CONCAT-1", {"codec": "raw"},
        [{"lengths": None}, {"lengths": []}, {"lengths": [40, 1]}, {"lengths": [39]}, {"lengths": [-1, 41]}, {"lengths": ["4"]},
         {"lengths": 40}],
    ),
    "codebook": (
        "CODEBOOK-1", {},
        [{"centroids": 0}, {"centroids": None}, {"centroids": 65537}, {"centroids": True}, {"width": 1}, {"width": 41}, {"width": "2"}],
    ),
    "rans": (
        "RANS-1", {},
        [
            {"precision": 7}, {"precision": 13}, {"precision": None}, {"precision": True}, {"lanes": 1}, {"lanes": 6}, {"lanes": -1},
            {"block": 0}, {"block": 1025}, {"block": None}, {"tile": [4, 128]}, {"block": None, "tile": [4, 6]},
            {"block": None, "tile": [0, 128]}, {"block": None, "tile": [2048, 128]}, {"block": None, "tile": [1]},
            {"block": None, "tile": 5}, {"base": 2**32}, {"base": -1}, {"zero": 1}, {"bits": 0}, {"bits": 17},
            {"escape": 256, "outliers": 0}, {"escape": 3}, {"outliers": 0}, {"escape": 3, "outliers": 2**32}, {"trellis": 1},
            {"trellis": 9}, {"trellis": 2, "escape": 3, "outliers": 0}, {"trellis": 2, "classes": [1, 1], "map": b"\0"},
            {"classes": [1, 1]}, {"map": b"\0"}, {"classes": [0, 1], "map": b""}, {"classes": [257, 1], "map": bytes(257)},
            {"classes": [256, 17], "map": bytes(4352)}, {"classes": [2, 2], "map": bytes(3)}, {"classes": [1], "map": b"\0"},
            {"table_size": -1}, {"table_size": 2**32},
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("codec", BAD_PARAMS)
def test_params_out_of_range(codec):
    rule, options, bad = BAD_PARAMS[codec]
    x = VALUES if codec != "const" else np.zeros(40, np.uint8)
    section = CODECS[codec].encode(x, U8S, make_env(), **options)
    for params in bad:
        breaks(rule, altered(section, **params), U8S)
    check(altered(section, unknown=3), U8S, make_env())


@pytest.mark.parametrize(("codec", "options"), EXAMPLES)
def test_required_params(codec, options):
    """A param that the reader does not know is ignored unless required (C-10)."""
    spec, x = sample(codec)
    section = CODECS[codec].encode(x, spec, make_env(), **options)
    known = list(section.params)
    assert same_bits(decoded(altered(section, requires=known, later=1), spec, make_env()), x)
    check(altered(section, requires=[*known, "requires"]), spec, make_env())
    breaks("C-10", altered(section, requires=["later"], later=1), spec, UnsupportedVersion)
    breaks("C-10", altered(section, requires="later"), spec)


@pytest.mark.parametrize(("codec", "options"), EXAMPLES)
def test_parts_are_exact(codec, options):
    """Parts too many, too few, or of another kind break C-20; too many of them C-22."""
    spec, x = sample(codec)
    good = CODECS[codec].encode(x, spec, make_env(), **options)
    stream, leaf = MemoryStream(np.zeros(1, np.uint8)), Section("const", {"value": b"\0"})
    breaks("C-20", Section(codec, good.params, {**good.parts, "more": stream}), spec)
    breaks("C-22", Section(codec, good.params, {**good.parts, **{f"x{i}": stream for i in range(CODECS[codec].max_parts + 1)}}), spec)
    for name, part in good.parts.items():
        fewer = {key: value for key, value in good.parts.items() if key != name}
        breaks("C-20", Section(codec, good.params, fewer), spec)
        breaks("C-20", Section(codec, good.params, fewer | {name: stream if isinstance(part, Section) else leaf}), spec)


def test_noise_stays_raw_between_runs_of_other_bytes():
    """Rows that were stored in half precision among rows that were not."""
    spec = Spec.of("F32", 10, 16_384)
    x = np.random.default_rng(5).normal(0, 0.05, spec.count).astype(np.float32).view(np.uint32)
    x[: 2 * 16_384] &= np.uint32(0xFFFFE000)
    section = CODECS["planes"].encode(x, spec, make_env())
    assert [part.codec for part in section.parts["rest0"].parts.values()] == ["bitpack", "raw"]
    assert unit(section.parts["rest0"], Spec.of("U8", spec.count), make_env()) == 8
    pass_battery("planes", {}, spec, x, [(0, 1), (32_767, 32_769), (32_768, 65_536), (40_000, 163_840), (5, 5)])


def test_dtypes_that_a_codec_does_not_take():
    for dtype in DTYPES:
        spec = Spec.of(dtype, 16)
        x = fill(0, 0, spec)
        for codec in CODECS.values():
            if not codec.suits(spec):
                with pytest.raises(EncodeError):
                    codec.encode(x, spec, make_env(), **codec.examples[0])
    for name, x in (("const", VALUES), ("zstd", VALUES[:0])):
        with pytest.raises(EncodeError):
            CODECS[name].encode(x, Spec.of("U8", x.size), make_env())
    with pytest.raises(EncodeError):
        CODECS["concat"].encode(VALUES[:1], Spec.of("U8"), make_env(), codec="raw")
    with pytest.raises(EncodeError):
        CODECS["rans"].encode(np.array([2**31], np.uint32), Spec.of("U32", 1), make_env())
    for rule, dtype, section in (
        ("PLANES-1", "F4", Section("planes", {"rest": 0}, {"symbol": smallest(np.zeros(8, np.uint8), Spec.of("U8", 8), make_env())})),
        ("RANS-1", "I8", CODECS["rans"].encode(VALUES[:16], Spec.of("U8", 16), make_env())),
    ):
        breaks(rule, section, Spec.of(dtype, 16))


def test_unknown_codecs_depth_and_limits():
    section = CODECS["raw"].encode(VALUES, U8S, make_env())
    breaks("C-24", Section("later"), U8S, UnknownCodec)
    for _ in range(7):
        section = Section("concat", {"lengths": [40]}, {"0": section})
    check(section, U8S, make_env(decoded=8 * 40))
    breaks("C-21", Section("concat", {"lengths": [40]}, {"0": section}), U8S)
    with pytest.raises(LimitExceeded):
        check(section, U8S, make_env(decoded=8 * 40 - 1))
    with pytest.raises(Corrupt):
        Spec.of("U8", *[1] * 65)
