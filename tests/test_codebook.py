"""Codebooks: the verbs on every instruction set, every shape of blocks, shared centroids, and indices that lead out."""

from __future__ import annotations

import io
import sys
import tracemalloc
from math import prod

import numpy as np
import pytest
from battery import BACKENDS, breaks, decoded, digest, make_env, raw, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels import ORACLE, Case, each, make_case, needs_native
from strategies import fill, specs, windows

from wcodec.codecs import CODECS, check
from wcodec.codecs.codebook import blocks_of, fitting
from wcodec.codecs.lossless import encode_part
from wcodec.coding.numbers import from_float32, to_float32
from wcodec.coding.rans import Context, Order
from wcodec.container.reader import ContainerReader
from wcodec.container.writer import ContainerWriter
from wcodec.errors import BackendUnavailable, Corrupt, EncodeError, LimitExceeded, RecipeError
from wcodec.types import DTYPES, Ref, Resource, Section, Spec

BOOKED = tuple(name for name, dtype in DTYPES.items() if dtype.bits >= 8)


def book_of(rng, count: int, width: int, dtype) -> np.ndarray:
    return rng.integers(0, 256, count * width * dtype.itemsize, np.uint8).view(dtype)


@needs_native
@given(st.integers(0, 2**32), st.sampled_from((1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 5000)), st.booleans())
@settings(max_examples=60)
def test_gather(seed, count, outside):
    """Every size of entries and number of indices, at odd addresses, on every instruction set; one index that is too large."""
    rng = np.random.default_rng(seed)
    wide = count > 256 or bool(rng.integers(2))
    dtype, width = np.dtype(f"u{2 ** rng.integers(4)}"), int(rng.choice([1, 1, 2, 3, 4, 8, 16]))
    book, size = book_of(rng, count, width, dtype), int(rng.choice([0, 1, 31, 63, 64, 65, 200, 4096, 9001]))
    indices = np.frombuffer(
        b"\0" + rng.integers(0, count, size).astype("<u2" if wide else "u1").tobytes(), "<u2" if wide else "u1", size, 1
    )
    found = outside and size and count < (1 << 16 if wide else 256)
    if found:
        indices = indices.copy()
        indices[rng.integers(size)] = count
    want = None if found else book.reshape(count, width)[indices].reshape(-1)
    for backend in (ORACLE, *each()):
        out = np.frombuffer(bytearray(size * width * dtype.itemsize + 1), dtype, size * width, 1)
        if found:
            with pytest.raises(Corrupt) as error:
                backend.gather(book, width, indices, out)
            assert error.value.rule == "CODEBOOK-2"
        else:
            backend.gather(book, width, indices, out)
            assert same_bits(out, want)


def joined(backend, case: Case, book, width: int, out) -> str | None:
    try:
        backend.rans_gather(case.job, case.job.tables.lut(), case.states, case.offsets, case.words, book, width, out)
    except Corrupt as error:
        return error.rule
    return None


@needs_native
@pytest.mark.parametrize("cols", [512, 536])
def test_indices_of_trellises_in_tiles(cols):
    """Tiles of whole groups of symbols, which several rows of are decoded at once when nothing is looked up."""
    rng = np.random.default_rng(4)
    tokens, book = rng.integers(0, 20, 20 * cols).astype(np.uint8), rng.integers(0, 2**16, 256).astype(np.uint16)
    case = make_case(Order(tokens.size, cols, 32, tile=(5, 256)), Context("trellis", trellis=3), 11, tokens)
    for backend in (ORACLE, *each()):
        out = np.empty(tokens.size, np.uint16)
        assert joined(backend, case, book, 1, out) is None and same_bits(out, book[tokens])


@needs_native
@given(st.integers(0, 2**32), st.sampled_from((2, 16, 64, 100, 256)), st.sampled_from(("sound", "outside", "damaged")))
@settings(max_examples=40)
def test_rans_gather(seed, count, kind):
    """Decoding and looking up in one pass is both, one after the other, and breaks the same rules."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, max(2, int(count * rng.random())), int(rng.integers(1, 20000))).astype(np.uint8)
    lanes = int(rng.choice([1, 4, 32, 32]))
    case = make_case(Order(tokens.size, tokens.size, lanes, block=128 * int(rng.integers(1, 40))), Context(), 12, tokens)
    entries = count if kind != "outside" else int(tokens.max())
    if not entries:
        return
    if kind == "damaged" and case.words.size:
        case.words[rng.integers(case.words.size)] ^= 1 << rng.integers(8)
    dtype, width = np.dtype(f"u{2 ** rng.integers(4)}"), int(rng.choice([1, 1, 2, 8]))
    book = book_of(rng, entries, width, dtype)
    want = np.zeros(tokens.size * width, dtype)
    rule = joined(ORACLE, case, book, width, want)
    assert rule == {"sound": None, "outside": "CODEBOOK-2"}.get(kind, rule)
    for backend in each():
        out = np.zeros_like(want)
        assert joined(backend, case, book, width, out) == rule
        assert rule or same_bits(out, want)


@st.composite
def coded(draw) -> tuple[Spec, int, np.ndarray, np.ndarray]:
    """A spec, a width that fits, centroids and indices."""
    spec = draw(specs(BOOKED).filter(lambda spec: prod(spec.shape) < 40_000))
    width, count = fitting(draw(st.sampled_from((1, 1, 2, 3, 8, 64))), spec), draw(st.sampled_from((1, 2, 16, 100, 256, 257, 3000)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    blocks = len(blocks_of(fill(0, 0, spec), spec, width))
    indices = np.minimum(rng.geometric(draw(st.sampled_from((0.5, 0.01))), blocks) - 1, count - 1)
    entry = width * (2 if spec.dtype.name == "C64" else 1)
    return spec, width, book_of(rng, count, entry, spec.dtype.storage), indices.astype(np.uint8 if count <= 256 else np.uint16)


def expected(spec: Spec, width: int, book, indices) -> np.ndarray:
    """What the page says, element by element of whole rows."""
    entry = width * (2 if spec.dtype.name == "C64" else 1)
    rows = spec.shape[0] if len(spec.shape) > 1 else 1
    cols = spec.count // rows if rows else 0
    whole = book.reshape(-1, entry)[indices]
    return np.ascontiguousarray(whole.reshape(rows, -(-cols // entry) * entry)[:, :cols]).reshape(-1) if spec.count else book[:0]


@given(st.data())
@settings(max_examples=60)
def test_codec(data):
    """Decoded elements are the centroids, bit for bit, on every backend, whole and in windows, however indices are stored."""
    spec, width, book, indices = data.draw(coded())
    x, env = expected(spec, width, book, indices), make_env()
    config = {"codec": data.draw(st.sampled_from(("rans", "raw", "lossless", "bitpack")))}
    if config["codec"] == "rans":
        config |= {"block": 128} | ({"bits": 4} if indices.itemsize == 2 else {})
    section = CODECS["codebook"].encode(x, spec, env, width=width, book=book, assigned=indices, indices=config)
    cuts = data.draw(st.lists(windows(x.size), max_size=4))
    for backend in BACKENDS:
        its = make_env(backend)
        clean = Section(section.codec, section.params, section.parts)
        check(clean, spec, its)
        assert same_bits(decoded(clean, spec, its), x)
        for start, stop in cuts:
            assert same_bits(decoded(clean, spec, its, start, stop), x[start:stop])
        step = its.codecs["codebook"].unit(clean, spec, its)
        assert 1 <= step <= max(1, x.size)
        assert same_bits(decoded(clean, spec, its, 0, min(step, x.size)), x[:step])


def test_blocks_by_bits():
    """Without indices, the centroids with the same bits: −0 is not 0, and NaNs differ by their payloads."""
    x = np.array([0, 0x80000000, 0x7FC00000, 0x7FC00001, 0, 0x7FC00001], np.uint32)
    spec = Spec.of("F32", 6)
    section = CODECS["codebook"].encode(x, spec, make_env())
    assert section.params == {"centroids": 4} and same_bits(decoded(section, spec, make_env()), x)
    with pytest.raises(EncodeError):
        CODECS["codebook"].encode(x, spec, make_env(), book=x[:3])
    many = np.arange(65537, dtype=np.uint32)
    with pytest.raises(EncodeError):
        CODECS["codebook"].encode(many, Spec.of("U32", many.size), make_env())
    section = CODECS["codebook"].encode(many[1:], Spec.of("U32", 65536), make_env())
    assert same_bits(decoded(section, Spec.of("U32", 65536), make_env()), many[1:])


def test_shared_centroids():
    """Centroids and entropy tables that several tensors share are stored once, and decode before and after they are."""
    rng, env = np.random.default_rng(0), make_env()
    book, spec = book_of(rng, 20, 1, np.dtype("<u4")), Spec.of("F32", 40, 50)
    shared = Resource(Spec.of("F32", 20), raw(book))
    buffer, x = io.BytesIO(), [book[rng.integers(0, 20, 2000)] for _ in range(3)]
    with ContainerWriter(buffer) as writer:
        for i, its in enumerate(x):
            section = CODECS["codebook"].encode(its, spec, env, book=shared)
            check(section, spec, env)
            assert same_bits(decoded(section, spec, env), its)
            writer.add(str(i), spec, section, digest(its))
    reader = ContainerReader(buffer.getvalue())
    for backend in BACKENDS:
        env = make_env(backend, resource=reader.resource)
        for i, its in enumerate(x):
            record = reader.target(str(i))
            assert record.section.parts["centroids"] == Ref(0)
            check(record.section, spec, env)
            assert same_bits(decoded(record.section, spec, env), its)


@pytest.mark.parametrize("codec", ["raw", "rans", "bitpack"])
def test_indices_that_lead_out(codec):
    for count, kind in ((7, "U8"), (300, "U16")):
        x = np.append(np.arange(2000) % count, count).astype(DTYPES[kind].storage)
        options = {"bits": 2} if codec == "rans" and kind == "U16" else {}
        indices = CODECS[codec].encode(x, Spec.of(kind, x.size), make_env(), **options)
        section = Section("codebook", {"centroids": count}, {"centroids": raw(np.zeros(count, np.uint16)), "indices": indices})
        spec = Spec.of("F16", x.size)
        breaks("CODEBOOK-2", section, spec)
        for backend in BACKENDS:
            if codec != "rans":  # whose blocks are decoded whole
                assert not decoded(section, spec, make_env(backend), 0, 2000).any()


def test_claims():
    """Entries as wide and as many as params may say, in files that do not hold them."""
    one = Section("const", {"value": bytes(8)})
    index = Section("const", {"value": bytes(2)})
    section = Section("codebook", {"centroids": 65536, "width": 65536}, {"centroids": one, "indices": index})
    with pytest.raises(LimitExceeded):
        check(section, Spec.of("F64", 65536), make_env(decoded=1 << 30))
    breaks("CODEBOOK-1", section, Spec.of("F64", 2**24, 1))
    tracemalloc.start()
    narrow = Section("codebook", {"centroids": 1, "width": 2}, {"centroids": one, "indices": Section("const", {"value": b"\0"})})
    check(narrow, Spec.of("F64", 2**24, 3), make_env())
    assert not decoded(narrow, Spec.of("F64", 2**24, 3), make_env(), 7, 90).any()
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@given(st.integers(0, 2**32))
@settings(max_examples=60)
def test_damaged_params_and_parts(seed):
    """Any number in any param and any bytes as indices: decoded or refused, the same on every backend."""
    rng = np.random.default_rng(seed)
    spec = Spec.of(str(rng.choice(BOOKED)), *(int(n) for n in rng.integers(0, 9, rng.integers(0, 4))))
    params = {"centroids": int(rng.integers(0, 20)), "width": int(rng.integers(1, 12))}
    if rng.integers(2):
        del params["width"]
    try:
        book = CODECS["codebook"].parts(Section("codebook", params), spec)
    except Corrupt as error:
        assert error.rule == "CODEBOOK-1"
        return
    parts = {name: raw(rng.integers(0, 16, its.size).astype(np.uint8)) for name, its in book.items() if isinstance(its, Spec)}
    section, results = Section("codebook", params, parts), []
    for backend in BACKENDS:
        env = make_env(backend)
        check(section, spec, env)
        try:
            results.append(decoded(section, spec, env).tobytes())
        except Corrupt as error:
            results.append(error.rule)
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize(
    "options", [{"values": 16}, {"values": 16, "rate": 0.02}, {"width": 4, "values": 64}, {"width": 4, "values": 64, "half": True}]
)
def test_means(options, dtype):
    """As many values as asked for, twice the same, no worse than equal bins are; an importance is heeded."""
    rng, env, spec = np.random.default_rng(0), make_env(), Spec.of(dtype, 60, 50)
    important = np.repeat(np.arange(60) % 2 == 0, 50)
    x = from_float32((rng.standard_t(5, 3000) + 3 * important).astype(np.float32), spec.dtype)
    config = {"codec": "codebook", **options}

    def error(section, importance=1.0) -> float:
        check(section, spec, make_env())
        off = to_float32(decoded(section, spec, make_env()), spec.dtype) - to_float32(x, spec.dtype)
        return float((importance * off**2).sum())

    found, again = (encode_part(x, spec, env, config) for _ in range(2))
    assert found.params["centroids"] <= options["values"]
    assert same_bits(decoded(found, spec, env), decoded(again, spec, env))
    assert error(found) < (0.03 if "width" not in options else 0.4) * float((to_float32(x, spec.dtype) ** 2).sum())
    importance = np.where(important, np.float32(20), np.float32(0.01))
    heeded = encode_part(x, spec, env, config | {"importance": importance, "rate": 0.0})
    assert error(heeded, importance) < error(found, importance)


def test_means_of_parts():
    """Factors, layers and kept values go through a codebook that approximates them; empty ones need no centroids."""
    rng, env = np.random.default_rng(1), make_env()
    spec, config = Spec.of("F32", 40, 64), {"codec": "codebook", "values": 16}
    w = (rng.normal(size=(40, 5)) @ rng.normal(size=(5, 64))).astype(np.float32)
    sparse = np.where(rng.random(w.shape) < 0.1, w, np.float32(0))
    for codec, x, options, limit in (
        ("lowrank", w, {"rank": 5, "left": config, "right": {**config, "width": 8, "values": 40}}, 0.9),
        ("sum", w, {"layers": [config, {**config, "values": 64}]}, 0.03),
        ("sparse", sparse, {"values": config}, 0.15),
        ("sparse", np.zeros_like(w), {"values": config}, 0.0),
    ):
        section = encode_part(x.reshape(-1).view(np.uint32), spec, env, {"codec": codec, **options})
        check(section, spec, make_env())
        y = decoded(section, spec, make_env()).view(np.float32).reshape(x.shape)
        assert np.linalg.norm(x - y) <= limit * np.linalg.norm(x)
        assert "codebook" in {part.codec for part in section.parts.values()}


def test_means_that_cannot_be(monkeypatch):
    spec, x = Spec.of("F32", 6, 8), np.arange(48, dtype=np.float32).view(np.uint32)
    for options in ({"values": 0}, {"values": 65537}, {"values": 4, "rate": 1.0}, {"values": 4, "blocks": 2}, {"values": "4"}):
        with pytest.raises(RecipeError):
            CODECS["codebook"].encode(x, spec, make_env(), **options)
    for wrong in (np.full(48, 0x7F800000, np.uint32), np.full(48, 0x7FC00000, np.uint32)):
        for width in (1, 4):
            with pytest.raises(EncodeError):
                CODECS["codebook"].encode(wrong, spec, make_env(), width=width, values=4)
    with pytest.raises(EncodeError):
        CODECS["codebook"].encode(x, Spec.of("I32", 6, 8), make_env(), values=4)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(BackendUnavailable, match=r"wcodec\[kmeans\]"):
        CODECS["codebook"].encode(x, spec, make_env(), width=4, values=4)


@needs_native
@pytest.mark.parametrize(
    ("dtype", "width", "count"), [("u2", 1, 16), ("u4", 1, 16), ("u4", 1, 256), ("u8", 1, 100), ("u2", 2, 128), ("u1", 1, 200)]
)
def test_large_outputs(dtype, width, count):
    """Outputs that go past the caches, at aligned and odd addresses, with a block that is cut off."""
    rng, dtype = np.random.default_rng(0), np.dtype(dtype)
    tokens = rng.integers(0, count, (1 << 20) + 1234).astype(np.uint8)
    case = make_case(Order(tokens.size, tokens.size, 32, block=1 << 14), Context(), 12, tokens)
    book = book_of(rng, count, width, dtype)
    want = book.reshape(-1, width)[tokens].reshape(-1)
    room = np.zeros(want.nbytes + 128, np.uint8)
    for backend in each():
        for odd in (0, 16, dtype.itemsize, 7):
            at = -room.ctypes.data % 64 + odd
            out = room[at : at + want.nbytes].view(dtype)
            out[:] = 0
            assert joined(backend, case, book, width, out) is None and same_bits(out, want)
